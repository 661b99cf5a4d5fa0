"""Keep connections away from the DICOM server until a whole association request is there.

pynetdicom gives every TCP connection a thread and reads what it is told to: ten silent peers stop
it, a peer that drips a byte a second holds it shut, and a request of 300 MB is read into memory
before anybody is known. Here one thread watches all connections that have not asked yet. A request
is only peeked at: the kernel says when all of it has come (``SO_RCVLOWAT``), within a deadline and
a size; then the untouched connection is handed on.
"""

from __future__ import annotations

import array
import fcntl
import queue
import selectors
import socket
import termios
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from inference.telemetry import get_logger

logger = get_logger(__name__)

Address = tuple[str, int]

HEADER_BYTES = 6
ASSOCIATE_RQ = 0x01
ABORT_UNRECOGNISED = bytes.fromhex("07 00 00000004 00 00 02 01")
"""A-ABORT by the service provider: unrecognised PDU; PS3.8 table 9-26."""

ABORT_INVALID_PARAMETER = bytes.fromhex("07 00 00000004 00 00 02 06")
"""A-ABORT by the service provider: invalid PDU parameter value."""

REJECT_LOCAL_LIMIT = bytes.fromhex("03 00 00000004 00 02 03 02")
"""A-ASSOCIATE-RJ, transient, presentation: local limit exceeded; PS3.8 table 9-21."""


@dataclass(frozen=True, kw_only=True)
class GuardLimits:
    """What strangers may take.

    Attributes
    ----------
    handshake_s : from the connection to the last byte of the association request
    max_request_bytes : of an association request
    max_waiting, max_waiting_per_ip : connections that have not asked yet; over it the oldest one
        is closed, so a newcomer that speaks at once is always heard
    """

    handshake_s: float = 10.0
    max_request_bytes: int = 1024 * 1024
    max_waiting: int = 256
    max_waiting_per_ip: int = 64


@dataclass(slots=True)
class _Waiting:
    connection: socket.socket
    address: Address
    deadline: float
    needed_bytes: int = HEADER_BYTES


class HandshakeGuard:
    """Watches fresh connections in one thread; calls ``hand_over`` for those that ask properly."""

    def __init__(
        self, hand_over: Callable[[socket.socket, Address], None], limits: GuardLimits
    ) -> None:
        self._hand_over = hand_over
        self._limits = limits
        self._fresh: queue.SimpleQueue[tuple[socket.socket, Address]] = queue.SimpleQueue()
        self._selector = selectors.DefaultSelector()
        self._waiting: dict[int, _Waiting] = {}  # by file descriptor, oldest first
        self._wake_read, self._wake_write = socket.socketpair()
        self._wake_read.setblocking(False)
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._is_stopping = False
        self._thread = threading.Thread(target=self._run, name="dimse-guard", daemon=True)

    def start(self) -> None:
        """Start watching."""
        self._thread.start()

    def stop(self) -> None:
        """Close every waiting connection and end the thread."""
        self._is_stopping = True
        self._wake()
        self._thread.join()

    def admit(self, connection: socket.socket, address: Address) -> None:
        """Take a connection that was just accepted."""
        self._fresh.put((connection, address))
        self._wake()

    def _wake(self) -> None:
        with suppress(OSError):
            self._wake_write.send(b"x")

    def _run(self) -> None:
        while not self._is_stopping:
            for key, _ in self._selector.select(self._time_left()):
                if key.fileobj is self._wake_read:
                    self._drain_wake()
                elif key.fd in self._waiting:
                    self._look(self._waiting[key.fd])
            self._take_fresh()
            self._close_late()
        for waiting in list(self._waiting.values()):
            self._drop(waiting, b"")
        self._selector.close()
        self._wake_read.close()
        self._wake_write.close()

    def _time_left(self) -> float | None:
        first = next(iter(self._waiting.values()), None)  # deadlines grow in order of arrival
        return None if first is None else max(0.0, first.deadline - time.monotonic())

    def _drain_wake(self) -> None:
        with suppress(BlockingIOError):
            while self._wake_read.recv(4096):
                pass

    def _take_fresh(self) -> None:
        while not self._fresh.empty():
            connection, address = self._fresh.get()
            self._make_room(address)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, HEADER_BYTES)
            deadline = time.monotonic() + self._limits.handshake_s
            waiting = _Waiting(connection, address, deadline)
            self._waiting[connection.fileno()] = waiting
            self._selector.register(connection, selectors.EVENT_READ)

    def _make_room(self, address: Address) -> None:
        same_ip = [one for one in self._waiting.values() if one.address[0] == address[0]]
        if len(same_ip) >= self._limits.max_waiting_per_ip:
            self._drop(same_ip[0], b"")
        elif len(self._waiting) >= self._limits.max_waiting:
            self._drop(next(iter(self._waiting.values())), b"")

    def _close_late(self) -> None:
        now = time.monotonic()
        for waiting in list(self._waiting.values()):
            if waiting.deadline > now:
                break
            logger.info("association request did not come in time", address=waiting.address[0])
            self._drop(waiting, b"")

    def _look(self, waiting: _Waiting) -> None:
        """Read nothing; see whether the whole request lies in the kernel's buffer."""
        try:
            n_there = _bytes_there(waiting.connection)
            if n_there < waiting.needed_bytes:  # readable below the mark: the peer has gone
                self._drop(waiting, b"")
                return
            header = waiting.connection.recv(HEADER_BYTES, socket.MSG_PEEK)
            length = int.from_bytes(header[2:6], "big")
            if header[0] != ASSOCIATE_RQ:
                self._drop(waiting, ABORT_UNRECOGNISED)
            elif length > self._limits.max_request_bytes:
                self._drop(waiting, ABORT_INVALID_PARAMETER)
            elif n_there >= HEADER_BYTES + length:
                self._pass_on(waiting)
            else:
                waiting.needed_bytes = HEADER_BYTES + length
                waiting.connection.setsockopt(
                    socket.SOL_SOCKET, socket.SO_RCVLOWAT, waiting.needed_bytes
                )
        except OSError:
            self._drop(waiting, b"")

    def _pass_on(self, waiting: _Waiting) -> None:
        waiting.connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        self._forget(waiting)
        self._hand_over(waiting.connection, waiting.address)

    def _drop(self, waiting: _Waiting, farewell: bytes) -> None:
        self._forget(waiting)
        if farewell:
            logger.warning("no DICOM association request", address=waiting.address[0])
        close_politely(waiting.connection, farewell)

    def _forget(self, waiting: _Waiting) -> None:
        self._selector.unregister(waiting.connection)
        del self._waiting[waiting.connection.fileno()]


def close_politely(connection: socket.socket, farewell: bytes) -> None:
    """Say a last PDU, where there is one, and close."""
    with suppress(OSError):
        if farewell:
            # Unread bytes would turn the close into a reset, and the peer would not hear us.
            connection.recv(min(_bytes_there(connection), 65536), socket.MSG_DONTWAIT)
            connection.send(farewell, socket.MSG_DONTWAIT)
            connection.shutdown(socket.SHUT_WR)
    connection.close()


def _bytes_there(connection: socket.socket) -> int:
    count = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, count)
    return count[0]
