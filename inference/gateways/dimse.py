"""The C-STORE and C-ECHO door: pynetdicom behind a guard, every object through the one intake."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from socketserver import BaseServer
from types import TracebackType
from typing import Any

from pydicom.dataset import Dataset
from pynetdicom import AE, ALL_TRANSFER_SYNTAXES, _config, build_context, evt
from pynetdicom.presentation import AllStoragePresentationContexts

from inference.domain.errors import ClinferError
from inference.domain.job import Priority
from inference.domain.study import Channel, Sender
from inference.gateways.commitment import commitment_context, report_of
from inference.gateways.dimse_association import (
    BoundedRequestHandler,
    DimseSettings,
    GuardedServer,
    Spool,
    SpoolingProvider,
)
from inference.gateways.ups_dimse import UpsDimse
from inference.jobs.errors import (
    ConflictError,
    DamagedFileError,
    IdentifierError,
    IntakeError,
    NotDicomError,
    TooLargeError,
    UnsupportedObjectError,
)
from inference.jobs.identify import Announced, is_accepted_sop_class
from inference.jobs.intake import Intake
from inference.storage.errors import StorageError
from inference.telemetry import get_logger

logger = get_logger(__name__)

SUCCESS = 0x0000
OUT_OF_RESOURCES = 0xA700
CANNOT_UNDERSTAND = 0xC000
PROCESSING_FAILURE = 0x0110
NO_SUCH_TRANSACTION = 0x0112
STATUS_OF = {
    ConflictError: 0x0111,  # Duplicate SOP Instance
    IdentifierError: 0xA900,  # Data Set does not match SOP Class
    UnsupportedObjectError: 0x0122,  # SOP Class not supported
    TooLargeError: OUT_OF_RESOURCES,
    NotDicomError: CANNOT_UNDERSTAND,
    DamagedFileError: CANNOT_UNDERSTAND,
}
"""PS3.4 table B.2-1 and PS3.7 annex C."""

PRIORITY_OF = {1: Priority.URGENT}
"""The message's priority: HIGH is urgent; MEDIUM (0) and LOW (2) are routine. Nobody gets STAT this
way, because some modalities send everything as HIGH."""

NOT_OFFERED = frozenset(
    {
        "1.2.840.10008.1.2.4.94",  # JPIP: the pixels are elsewhere
        "1.2.840.10008.1.2.4.95",
        "1.2.840.10008.1.2.7.1",  # SMPTE: live video
        "1.2.840.10008.1.2.7.2",
        "1.2.840.10008.1.2.7.3",
    }
)
SYNTAX_ORDER = {
    "1.2.840.10008.1.2.1": 0,  # Explicit VR Little Endian
    "1.2.840.10008.1.2.1.99": 2,  # Deflated
    "1.2.840.10008.1.2": 3,  # Implicit VR Little Endian
    "1.2.840.10008.1.2.2": 4,  # Explicit VR Big Endian
}
VERIFICATION = "1.2.840.10008.1.1"
MAX_COMMENT_LENGTH = 64
READ_BYTES = 256 * 1024


class DimseServer:
    """Listens for C-STORE, C-ECHO and Storage Commitment reports; start it after the sweep.

    Where it is given a worklist, for that too.
    """

    def __init__(
        self,
        intake: Intake,
        settings: DimseSettings,
        *,
        committed: Callable[[str, frozenset[str], Mapping[str, str]], bool] | None = None,
        ups: UpsDimse | None = None,
    ) -> None:
        self._intake = intake
        self._ups = ups
        self._committed = committed
        """Told each Storage Commitment report: transaction, what is kept, what is not and why."""

        self._settings = settings
        self._server: GuardedServer | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on, also where settings said 0."""
        assert self._server is not None, "the server was started"
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Listen; returns once the port is open.

        Raises
        ------
        OSError
            The port is taken, or not ours to open.
        """
        settings = self._settings
        # The library has one switch for all its servers: data sets go to a file, not to memory.
        _config.STORE_RECV_CHUNKED_DATASET = True
        entity = AE(ae_title=settings.ae_title)
        entity.require_called_aet = True
        entity.require_calling_aet = list(settings.calling_ae_titles)
        entity.maximum_associations = settings.max_associations
        entity.maximum_pdu_size = settings.max_pdu_bytes
        entity.acse_timeout = settings.guard.handshake_s
        entity.dimse_timeout = settings.network_timeout_s
        entity.network_timeout = settings.network_timeout_s
        server: Any = entity.make_server(
            (settings.host, settings.port),
            contexts=offered_contexts(self._ups),
            evt_handlers=[
                (evt.EVT_C_STORE, self._on_store),
                (evt.EVT_C_ECHO, _on_echo),
                (evt.EVT_CONN_CLOSE, _on_close),
                (evt.EVT_N_EVENT_REPORT, self._on_report),
                *(self._ups.handlers() if self._ups else ()),
            ],
            server_class=GuardedServer,
            request_handler=BoundedRequestHandler,
            settings=settings,
            intake=self._intake,
        )
        self._server = server
        self._thread = threading.Thread(
            target=server.serve_forever,
            kwargs={"poll_interval": 0.2},
            name="dimse-accept",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and abort what is open; senders keep what was not acknowledged."""
        if self._server is None or self._thread is None:
            return
        server, self._server = self._server, None
        BaseServer.shutdown(server)  # pynetdicom's own also asks its AE, which never knew it
        server.server_close()
        server.guard.stop()
        for association in server.active_associations:
            association.abort()
        self._thread.join()

    def __enter__(self) -> DimseServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _on_store(self, event: Any) -> Dataset:
        try:
            self._receive(event)
        except IntakeError as error:
            return _status(STATUS_OF.get(type(error), CANNOT_UNDERSTAND), error)
        except StorageError as error:
            logger.error("instance not stored", reason=str(error))
            return _status(OUT_OF_RESOURCES, error)
        except OSError:
            logger.exception("instance not stored")
            return _status(OUT_OF_RESOURCES, None)
        except Exception:  # the peer gets a status, never a traceback; nothing was acknowledged
            logger.exception("instance not stored")
            return _status(PROCESSING_FAILURE, None)
        return _status(SUCCESS, None)

    def _on_report(self, event: Any) -> tuple[int, None]:
        """Take what an archive says about objects that we sent it (PS3.4 J.3.3)."""
        try:
            report = report_of(event.event_information)
            if self._committed is None or not self._committed(*report):
                return NO_SUCH_TRANSACTION, None
        except (StorageError, ValueError, AttributeError):
            logger.exception("commitment report not taken")
            return PROCESSING_FAILURE, None
        return SUCCESS, None

    def _receive(self, event: Any) -> None:
        request = event.request
        spool = request._dataset_file
        sender = Sender(
            channel=Channel.DIMSE,
            name=event.assoc.requestor.ae_title.strip(),
            address=event.assoc.requestor.address,
        )
        priority = PRIORITY_OF.get(request.Priority, Priority.ROUTINE)
        announced = Announced(
            sop_class_uid=str(request.AffectedSOPClassUID),
            instance_uid=str(request.AffectedSOPInstanceUID),
        )
        if isinstance(spool, Spool):
            spool.finish()
            self._intake.receive_spooled(
                spool.path, sender=sender, priority=priority, announced=announced
            )
        else:  # so small that it came in one piece with its command
            path = Path(spool.name)
            with path.open("rb") as file:
                self._intake.receive(
                    iter(lambda: file.read(READ_BYTES), b""),
                    sender=sender,
                    priority=priority,
                    announced=announced,
                )


class _SharedContexts(list[Any]):
    """Presentation contexts of the server, which pynetdicom copies for each association.

    Nothing changes them after the start, and copying takes 30 ms each time.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> _SharedContexts:
        return self


def offered_contexts(ups: UpsDimse | None) -> _SharedContexts:
    """Return the presentation contexts that the receiver offers, as they are negotiated."""
    # The first one that both sides know is used: explicit VR keeps what private attributes mean.
    syntaxes = sorted(
        (syntax for syntax in ALL_TRANSFER_SYNTAXES if syntax not in NOT_OFFERED),
        key=lambda syntax: SYNTAX_ORDER.get(syntax, 1),
    )
    return _SharedContexts(
        [
            build_context(VERIFICATION),
            commitment_context(),
            *(ups.contexts() if ups else ()),
            *(
                build_context(context.abstract_syntax, syntaxes)
                for context in AllStoragePresentationContexts
                if context.abstract_syntax and is_accepted_sop_class(context.abstract_syntax)
            ),
        ]
    )


def _on_echo(_event: Any) -> int:
    return SUCCESS


def _on_close(event: Any) -> None:
    if isinstance(event.assoc.dimse, SpoolingProvider):
        event.assoc.dimse.discard()


def _status(code: int, error: ClinferError | None) -> Dataset:
    status = Dataset()
    status.Status = code
    if error is not None:
        comment = f"{error.code}: {error}"[:MAX_COMMENT_LENGTH]
        status.ErrorComment = comment.encode("ascii", "replace").decode("ascii").replace("\\", "/")
    return status
