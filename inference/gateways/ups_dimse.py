"""UPS over DIMSE, as SCP: N-CREATE, N-SET, N-GET, N-ACTION and C-FIND (PS3.4 Annex CC)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import build_context, evt
from pynetdicom.sop_class import (  # type: ignore[attr-defined]
    UnifiedProcedureStepPull,
    UnifiedProcedureStepPush,
    UnifiedProcedureStepQuery,
    UnifiedProcedureStepWatch,
)

from inference.domain import workitem as steps
from inference.domain.workitem import WorkitemError
from inference.domain.workitem_match import first_value
from inference.gateways.ups import PROCESSING_FAILURE, Ups
from inference.storage.errors import StorageError
from inference.storage.workitems import STATE, TRANSACTION_UID
from inference.telemetry import get_logger

CHANGE_STATE, REQUEST_CANCEL, SUBSCRIBE, UNSUBSCRIBE, SUSPEND = 1, 2, 3, 4, 5
NO_SUCH_ACTION, PENDING, CANCELLED, NO_MATCH_CLASS = 0x0123, 0xFF00, 0xFE00, 0xA900
RECEIVING_AE, DELETION_LOCK = "00741234", "00741230"
MAX_FOUND = 5000
ATTRIBUTE_LIST_ERROR = 0x0107

log = get_logger(__name__)
Answer = tuple[int | Dataset, Dataset | None]


@dataclass(frozen=True, kw_only=True)
class UpsDimse:
    """The DIMSE door; the calling AE title says who asks.

    ``receivers`` are the AE titles that events can be sent to: only these may be subscribed.
    """

    ups: Ups
    receivers: frozenset[str]

    def contexts(self) -> list[Any]:
        """Return the presentation contexts."""
        classes = (
            UnifiedProcedureStepPush,
            UnifiedProcedureStepPull,
            UnifiedProcedureStepWatch,
            UnifiedProcedureStepQuery,
        )
        return [build_context(one) for one in classes]

    def handlers(self) -> list[Any]:
        """Return what pynetdicom binds."""
        return [
            (evt.EVT_N_CREATE, self._safely(self._create)),
            (evt.EVT_N_SET, self._safely(self._set)),
            (evt.EVT_N_GET, self._safely(self._get)),
            (evt.EVT_N_ACTION, self._safely(self._action)),
            (evt.EVT_C_FIND, self._find),
        ]

    def _create(self, event: Any) -> Answer:
        document = event.attribute_list.to_json_dict()
        uid = str(event.request.AffectedSOPInstanceUID or "")
        made, status = self.ups.create(document, uid=uid, by=_caller(event))
        answer = Dataset.from_json(self.ups.get(made))
        return status, answer

    def _set(self, event: Any) -> Answer:
        document = event.modification_list.to_json_dict()
        held = first_value(document, TRANSACTION_UID)
        document.pop(TRANSACTION_UID, None)
        uid = str(event.request.RequestedSOPInstanceUID)
        status = self.ups.update(uid, document, transaction_uid=held, by=_caller(event))
        return status, Dataset.from_json(self.ups.get(uid))

    def _get(self, event: Any) -> Answer:
        found = self.ups.get(str(event.request.RequestedSOPInstanceUID))
        wanted = {f"{int(tag):08X}" for tag in event.attribute_identifiers}
        if wanted:
            found = {tag: value for tag, value in found.items() if tag in wanted}
            if TRANSACTION_UID in wanted:
                found[TRANSACTION_UID] = {"vr": "UI"}
        missing = bool(wanted - set(found))
        return (ATTRIBUTE_LIST_ERROR if missing else steps.SUCCESS), Dataset.from_json(found)

    def _action(self, event: Any) -> Answer:
        request, by = event.request, _caller(event)
        uid = str(request.RequestedSOPInstanceUID)
        information = event.action_information
        document = information.to_json_dict() if information is not None else {}
        action = request.ActionTypeID
        if action == CHANGE_STATE:
            wanted, held = first_value(document, STATE), first_value(document, TRANSACTION_UID)
            return self.ups.change_state(uid, wanted, transaction_uid=held, by=by), None
        if action == REQUEST_CANCEL:
            return self.ups.request_cancel(uid, document, by=by), None
        if action not in (SUBSCRIBE, UNSUBSCRIBE, SUSPEND):
            raise WorkitemError(NO_SUCH_ACTION, detail=f"action {action}")
        ae_title = first_value(document, RECEIVING_AE).strip()
        if action == UNSUBSCRIBE:
            return self.ups.unsubscribe(uid, ae_title, by=by), None
        if action == SUSPEND:
            return self.ups.suspend(uid, ae_title, by=by), None
        if ae_title not in self.receivers:
            raise WorkitemError(steps.UNKNOWN_RECEIVER, detail=ae_title[:16])
        lock = first_value(document, DELETION_LOCK) == "TRUE"
        keys = {
            tag: value
            for tag, value in document.items()
            if tag not in (RECEIVING_AE, DELETION_LOCK)
        }
        status = self.ups.subscribe(uid, ae_title, keys=keys or None, has_deletion_lock=lock, by=by)
        return status, None

    def _find(self, event: Any) -> Iterator[tuple[int | Dataset, Dataset | None]]:
        try:
            keys = event.identifier.to_json_dict()
            asked = {**keys}
            keys.pop("00080005", None)
            found = self.ups.search(keys, limit=MAX_FOUND)
        except WorkitemError as error:
            yield _status(NO_MATCH_CLASS, error), None
            return
        except Exception:  # the peer gets a status, never a traceback
            log.exception("worklist query failed")
            yield PROCESSING_FAILURE, None
            return
        for document in found:
            if event.is_cancelled:
                yield CANCELLED, None
                return
            kept = {
                tag: document.get(tag, {"vr": element.get("vr", "LO")})
                for tag, element in asked.items()
            }
            kept["00080018"] = document["00080018"]
            if TRANSACTION_UID in kept:
                kept[TRANSACTION_UID] = {"vr": "UI"}
            kept["00080005"] = {"vr": "CS", "Value": ["ISO_IR 192"]}
            yield PENDING, Dataset.from_json(kept)

    def _safely(self, handle: Callable[[Any], Answer]) -> Callable[[Any], Answer]:
        def handler(event: Any) -> Answer:
            try:
                status, answer = handle(event)
                if answer is not None:
                    answer.SpecificCharacterSet = "ISO_IR 192"
                return status, answer
            except WorkitemError as error:
                return _status(error.status, error), None
            except StorageError as error:
                log.error("worklist request failed", reason=str(error))
                return PROCESSING_FAILURE, None
            except Exception:  # the peer gets a status, never a traceback
                log.exception("worklist request failed")
                return PROCESSING_FAILURE, None

        return handler


def _caller(event: Any) -> str:
    return str(event.assoc.requestor.ae_title).strip()


def _status(code: int, error: WorkitemError) -> Dataset:
    status = Dataset()
    status.Status = code
    comment = str(error)[:64].encode("ascii", "replace").decode("ascii")
    status.ErrorComment = comment.replace("\\", "/")
    return status
