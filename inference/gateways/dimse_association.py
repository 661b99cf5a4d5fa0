"""Associations that take no more than agreed: bounded sockets, data sets spooled to disk."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.dimse_messages import C_STORE_RQ
from pynetdicom.transport import AssociationSocket, RequestHandler, ThreadedAssociationServer

from inference.gateways.dimse_guard import (
    REJECT_LOCAL_LIMIT,
    Address,
    GuardLimits,
    HandshakeGuard,
    close_politely,
)
from inference.jobs.errors import TooLargeError
from inference.jobs.intake import Intake
from inference.storage.errors import StorageFullError
from inference.telemetry import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class DimseSettings:
    """Where to listen, and to whom.

    Attributes
    ----------
    calling_ae_titles : who may send; empty means anybody, which is for loopback only
    max_associations_per_ip : open associations of one address
    network_timeout_s : an association without traffic is closed; also the time for one PDU
    max_pdu_bytes : of the data PDUs that peers may send us
    """

    host: str = "127.0.0.1"
    port: int = 11112
    ae_title: str = "CLINFER"
    calling_ae_titles: tuple[str, ...] = ()
    max_associations: int = 64
    max_associations_per_ip: int = 16
    network_timeout_s: float = 60.0
    max_pdu_bytes: int = 128 * 1024
    guard: GuardLimits = field(default_factory=GuardLimits)


class GuardedServer(ThreadedAssociationServer):
    """Hands connections to the guard first, and counts associations of one address."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, *args: Any, settings: DimseSettings, intake: Intake, **kwargs: Any) -> None:
        self.settings = settings
        self.intake = intake
        self.guard = HandshakeGuard(self._hand_over, settings.guard)
        super().__init__(*args, **kwargs)
        self.guard.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Take a connection that was just accepted."""
        self.guard.admit(request, client_address)

    def _hand_over(self, connection: socket.socket, address: Address) -> None:
        active = [one.requestor.address for one in self.active_associations]
        if (
            len(active) >= self.settings.max_associations
            or active.count(address[0]) >= self.settings.max_associations_per_ip
        ):
            logger.warning("too many associations", address=address[0], n_open=len(active))
            close_politely(connection, REJECT_LOCAL_LIMIT)
            return
        connection.settimeout(self.settings.network_timeout_s)
        super().process_request(connection, address)


class BoundedRequestHandler(RequestHandler):
    """Gives each association a bounded socket and a bounded spool."""

    server: GuardedServer

    def _create_association(self) -> Any:
        association = super()._create_association()
        settings = self.server.settings
        association.dul.event_queue.get_nowait()  # the first socket's "connected"; ours says it too
        association.dul.socket = BoundedSocket(
            association,
            self.request,
            max_bytes=max(settings.guard.max_request_bytes, settings.max_pdu_bytes),
            pdu_s=settings.network_timeout_s,
        )
        association.dimse = SpoolingProvider(association, self.server.intake)
        return association


class BoundedSocket(AssociationSocket):
    """Reads no PDU longer than agreed, and none for longer than the time for one."""

    def __init__(
        self, association: Any, client_socket: socket.socket, *, max_bytes: int, pdu_s: float
    ) -> None:
        super().__init__(association, client_socket=client_socket)
        self._max_bytes, self._pdu_s = max_bytes, pdu_s

    def recv(self, nr_bytes: int) -> bytearray:
        """Read exactly so many bytes, or fewer: then the association ends."""
        if nr_bytes > self._max_bytes:
            logger.warning("PDU is too long", length=nr_bytes, max_bytes=self._max_bytes)
            return bytearray()
        connection = self.socket
        if connection is None:
            return bytearray()
        buffer = bytearray(nr_bytes)
        view, n_read = memoryview(buffer), 0
        deadline = time.monotonic() + self._pdu_s
        while n_read < nr_bytes:
            n_new = connection.recv_into(view[n_read:])
            if n_new == 0 or time.monotonic() > deadline:
                view.release()
                return buffer[:n_read]
            n_read += n_new
        return buffer


class Spool:
    """Stands for pynetdicom's temporary file: in our folder, capped, and remembering errors.

    After an error the rest of the message is read and dropped, so that the peer can be told why.
    """

    def __init__(self, intake: Intake) -> None:
        self._intake = intake
        self._n_bytes = 0
        self._error: Exception | None = None
        self.path = intake.objects.new_temporary()
        self.name = str(self.path)
        self.file = self  # pynetdicom calls .file.flush()
        try:
            intake.objects.check_space()
            self._file = intake.objects.disk.create(self.path)
        except (StorageFullError, OSError) as error:
            self._error = error

    def write(self, data: bytes) -> None:
        """Append a fragment.

        Raises
        ------
        TooLargeError
            Over the cap: the association is aborted.
        """
        if self._error is not None:
            return
        self._n_bytes += len(data)
        if self._n_bytes > self._intake.settings.max_instance_bytes:
            self.close()
            raise TooLargeError(
                field="file",
                problem=f"is larger than {self._intake.settings.max_instance_bytes} bytes",
            )
        try:
            self._intake.objects.disk.write(self._file, data)
        except OSError as error:
            self._error = error

    def flush(self) -> None:
        """Do nothing: what matters is flushed and synced once, at the end."""

    def finish(self) -> None:
        """Close the complete file.

        Raises
        ------
        StorageFullError, OSError
            What went wrong since it was opened.
        """
        if self._error is None:
            try:
                self._file.close()
            except OSError as error:
                self._error = error
        if self._error is not None:
            self.close()
            if isinstance(self._error, OSError):
                raise self._intake.objects.named_error(self._error) from self._error
            raise self._error

    def close(self) -> None:
        """Remove what was not adopted."""
        with suppress(OSError, AttributeError):
            self._file.close()
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


class SpoolingProvider(DIMSEServiceProvider):
    """Moves a data set's file into our folder as soon as pynetdicom has begun one elsewhere."""

    def __init__(self, association: Any, intake: Intake) -> None:
        super().__init__(association)
        self._intake = intake

    def receive_primitive(self, primitive: Any) -> None:
        """Take the next piece of a message; one that is too large ends the association."""
        try:
            super().receive_primitive(primitive)
            self._move_data_set()
        except (TooLargeError, OSError) as error:
            logger.warning("association aborted", reason=str(error))
            self.discard()
            self.message = None
            self.dul.event_queue.put("Evt19")  # the state machine answers with A-ABORT and closes

    def _move_data_set(self) -> None:
        message: Any = self.message
        is_store = isinstance(self.message, C_STORE_RQ)
        if (
            is_store
            and message._data_set_file is not None
            and not isinstance(message._data_set_file, Spool)
        ):
            first = message._data_set_file
            first.flush()
            spool = Spool(self._intake)
            message._data_set_file, message._data_set_path = spool, spool.path
            spool.write(Path(first.name).read_bytes())
            first.close()
            Path(first.name).unlink(missing_ok=True)

    def discard(self) -> None:
        """Remove the file of a message that was never completed."""
        message: Any = self.message
        is_store = isinstance(self.message, C_STORE_RQ)
        if is_store and message._data_set_file is not None:
            message._data_set_file.close()
            Path(message._data_set_file.name).unlink(missing_ok=True)
