"""Ask a PACS by DIMSE: C-FIND what it has, C-MOVE it to our receiver, or C-GET it (PS3.4 C)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydicom.dataset import Dataset
from pynetdicom import AE, _config, build_context, build_role, evt

from inference.domain.errors import ClinferError

FIND_MODEL, MOVE_MODEL, GET_MODEL = (f"1.2.840.10008.5.1.4.1.2.2.{number}" for number in (1, 2, 3))
"""Study Root Query/Retrieve Information Model (PS3.4 C.6.2)."""

SUCCESS, CANCELLED = 0x0000, 0xFE00
PENDING = frozenset({0xFF00, 0xFF01})
MEANINGS = {
    0x0122: "the SOP class is not supported",
    0x0124: "we are not authorised",
    0x0211: "the operation is not known",
    0xA700: "it is out of resources",
    0xA701: "it is out of resources and cannot count the matches",
    0xA702: "it is out of resources and cannot send",
    0xA801: "it does not know our AE title as a destination: enter its host and port there",
    0xA900: "the query does not match the SOP class",
    0xB000: "some instances could not be sent",
    CANCELLED: "it cancelled the operation",
}
"""PS3.4 tables C.4-1, C.4-2 and C.4-3; 0xCxxx is "unable to process"."""

PLAIN = ["1.2.840.10008.1.2.1", "1.2.840.10008.1.2"]
COMPRESSED = (
    "1.2.840.10008.1.2.4.50",
    "1.2.840.10008.1.2.4.51",
    "1.2.840.10008.1.2.4.57",
    "1.2.840.10008.1.2.4.70",
    "1.2.840.10008.1.2.4.80",
    "1.2.840.10008.1.2.4.90",
    "1.2.840.10008.1.2.4.91",
    "1.2.840.10008.1.2.5",
)
MAX_CONTEXTS = 128
Retrieval = Literal["move", "get"]


class FetchError(ClinferError):
    """An archive did not give what was asked; ``status`` is its DIMSE status, where it gave one."""

    code = "fetch"

    def __init__(
        self, *, archive: str, operation: str, problem: str, status: int | None = None
    ) -> None:
        self.archive, self.operation = archive, operation
        self.problem, self.status = problem, status
        said = "" if status is None else f" (status 0x{status:04X})"
        super().__init__(f"{archive}: {operation}: {problem}{said}")


@dataclass(frozen=True, kw_only=True)
class Archive:
    """A PACS and how it is asked.

    Attributes
    ----------
    issuer_of_patient_id : authority of its patient ids, where its answers do not name one
    timeout_s : to connect, and for each message
    """

    name: str
    host: str
    port: int
    called_aet: str
    calling_aet: str
    retrieve: Retrieval = "move"
    issuer_of_patient_id: str | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What an archive says that it sent."""

    n_completed: int
    n_failed: int
    n_warned: int
    problem: str = ""


Receive = Callable[[Path], int]
"""Take one received file and return the DIMSE status that answers it."""


class ArchiveUser:
    """One archive, asked over one association for each operation."""

    def __init__(self, archive: Archive) -> None:
        self.archive = archive

    def find(self, keys: Dataset) -> Iterator[Dataset]:
        """Yield the answers to a C-FIND in the study root model.

        Raises
        ------
        FetchError
        """
        model = FIND_MODEL
        with self._association("C-FIND", [build_context(model)]) as association:
            for status, answer in association.send_c_find(keys, model):
                code = self._code("C-FIND", status)
                if code in PENDING:
                    if answer is not None:
                        yield answer
                elif code != SUCCESS:
                    raise self._error("C-FIND", code, status)

    def move(self, keys: Dataset, on_progress: Callable[[int], None]) -> Sent:
        """Have matches sent to our own receiver.

        Raises
        ------
        FetchError
        """
        model = MOVE_MODEL
        with self._association("C-MOVE", [build_context(model)]) as association:
            answers = association.send_c_move(keys, self.archive.calling_aet, model)
            return self._sent("C-MOVE", answers, on_progress)

    def get(
        self,
        keys: Dataset,
        sop_classes: Iterable[str],
        receive: Receive,
        on_progress: Callable[[int], None],
    ) -> Sent:
        """Have matches sent back on the same association; ``receive`` takes each.

        Raises
        ------
        FetchError
        """
        model = GET_MODEL
        classes = sorted(set(sop_classes))
        contexts = [build_context(model)]
        for sop_class in classes:
            contexts.append(build_context(sop_class, PLAIN))
            contexts += [build_context(sop_class, syntax) for syntax in COMPRESSED]
        if len(contexts) > MAX_CONTEXTS:
            raise FetchError(
                archive=self.archive.name,
                operation="C-GET",
                problem=f"{len(classes)} SOP classes in one series are too many; use C-MOVE",
            )
        roles = [build_role(sop_class, scp_role=True) for sop_class in classes]

        def on_store(event: Any) -> int:
            return receive(Path(event.dataset_path))

        # The library has one switch for all: data sets go to a file, not to memory.
        _config.STORE_RECV_CHUNKED_DATASET = True
        with self._association(
            "C-GET", contexts, roles=roles, handlers=[(evt.EVT_C_STORE, on_store)]
        ) as association:
            return self._sent("C-GET", association.send_c_get(keys, model), on_progress)

    def _sent(
        self, operation: str, answers: Iterable[Any], on_progress: Callable[[int], None]
    ) -> Sent:
        for status, _ in answers:
            code = self._code(operation, status)
            n_completed = int(status.get("NumberOfCompletedSuboperations") or 0)
            if code in PENDING:
                on_progress(n_completed)
                continue
            if code not in (SUCCESS, 0xB000):
                raise self._error(operation, code, status)
            return Sent(
                n_completed=n_completed,
                n_failed=int(status.get("NumberOfFailedSuboperations") or 0),
                n_warned=int(status.get("NumberOfWarningSuboperations") or 0),
                problem=MEANINGS.get(code, "") if code != SUCCESS else "",
            )
        raise FetchError(
            archive=self.archive.name, operation=operation, problem="the answer has no end"
        )

    @contextmanager
    def _association(
        self, operation: str, contexts: list[Any], *, roles: Any = None, handlers: Any = None
    ) -> Iterator[Any]:
        to = self.archive
        entity = AE(ae_title=to.calling_aet)
        entity.acse_timeout = entity.dimse_timeout = to.timeout_s
        entity.network_timeout = entity.connection_timeout = to.timeout_s
        association = entity.associate(
            to.host,
            to.port,
            contexts=contexts,
            ae_title=to.called_aet,
            ext_neg=roles,
            evt_handlers=handlers or [],
        )
        if not association.is_established:
            raise self._not_established(operation, association)
        model = contexts[0].abstract_syntax
        if not any(one.abstract_syntax == model for one in association.accepted_contexts):
            association.release()
            raise FetchError(
                archive=to.name, operation=operation, problem="it does not offer this service to us"
            )
        try:
            yield association
        except (RuntimeError, ValueError) as error:
            raise FetchError(archive=to.name, operation=operation, problem=str(error)) from error
        finally:
            if association.is_established:
                association.release()

    def _not_established(self, operation: str, association: Any) -> FetchError:
        to = self.archive
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            problem = (
                f"association rejected: {answer.reason_str} (we call {to.called_aet} as"
                f" {to.calling_aet})"
            )
        elif association.rejected_contexts:
            problem = "it does not offer this service to us"
        else:
            problem = f"no association with {to.host}:{to.port} within {to.timeout_s:g} s"
        return FetchError(archive=to.name, operation=operation, problem=problem)

    def _code(self, operation: str, status: Any) -> int:
        if status is None or "Status" not in status:
            raise FetchError(
                archive=self.archive.name,
                operation=operation,
                problem=f"no answer within {self.archive.timeout_s:g} s, or the association broke",
            )
        return int(status.Status)

    def _error(self, operation: str, code: int, status: Any) -> FetchError:
        meaning = MEANINGS.get(code)
        if meaning is None:
            meaning = "it is unable to process this" if code >> 12 == 0xC else "it failed"
        comment = str(status.get("ErrorComment", ""))
        return FetchError(
            archive=self.archive.name,
            operation=operation,
            problem=f"{meaning}{f': {comment}' if comment else ''}",
            status=code,
        )
