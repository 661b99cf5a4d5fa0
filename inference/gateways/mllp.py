"""MLLP: HL7 v2 messages over a socket, each between a VT and FS CR; bounded in size and time."""

from __future__ import annotations

import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from inference.domain.errors import ClinferError
from inference.telemetry import get_logger

logger = get_logger(__name__)

START = b"\x0b"
END = b"\x1c\r"
BETWEEN_MESSAGES = b"\r\n"
"""What some senders put after a message; anything else there is no MLLP."""

READ_BYTES = 64 * 1024


class FramingError(ClinferError):
    """The peer does not speak MLLP, or says too much or too slowly; the connection ends."""

    code = "mllp_framing"


@dataclass(frozen=True, kw_only=True)
class MllpLimits:
    """How much and how long one peer may take.

    Attributes
    ----------
    message_s : from the first byte of a message to its last, and for a TLS handshake
    idle_s : an open connection without a message is closed
    """

    max_message_bytes: int = 1024 * 1024
    message_s: float = 10.0
    idle_s: float = 600.0
    max_connections: int = 32


@dataclass(frozen=True, kw_only=True)
class MllpTls:
    """Certificate and key of this side; ``client_ca``: peers must show a certificate of it."""

    certificate: Path
    key: Path
    client_ca: Path | None = None

    def server_context(self) -> ssl.SSLContext:
        """Return the context of a listening side.

        Raises
        ------
        OSError, ssl.SSLError
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.certificate, self.key)
        if self.client_ca is not None:
            context.load_verify_locations(self.client_ca)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


class FrameReader:
    """Takes one message after another from a connection."""

    def __init__(self, connection: socket.socket, limits: MllpLimits) -> None:
        self._connection, self._limits = connection, limits
        self._held = b""

    def read(self) -> bytes | None:
        """Return the next message without its frame; None: the peer is done.

        Raises
        ------
        FramingError
            No frame, too long, or not complete in time.
        """
        held = self._held
        until_s = time.monotonic() + self._limits.idle_s
        while not (held := held.lstrip(BETWEEN_MESSAGES)):
            chunk = self._receive(until_s)
            if chunk is None:
                return None
            held += chunk
        if not held.startswith(START):
            raise FramingError("a message begins with VT (0x0B)")
        message = bytearray(held)
        until_s = time.monotonic() + self._limits.message_s
        searched = 0
        while (end := message.find(END, searched)) < 0:
            if len(message) > self._limits.max_message_bytes:
                raise FramingError(
                    f"a message is longer than {self._limits.max_message_bytes} bytes"
                )
            searched = max(0, len(message) - 1)
            chunk = self._receive(until_s)
            if chunk is None:
                raise FramingError("the connection ended within a message")
            message += chunk
        if end > self._limits.max_message_bytes:
            raise FramingError(f"a message is longer than {self._limits.max_message_bytes} bytes")
        self._held = bytes(message[end + len(END) :])
        return bytes(message[len(START) : end])

    def _receive(self, until_s: float) -> bytes | None:
        left_s = until_s - time.monotonic()
        if left_s <= 0:
            raise FramingError("nothing more came in time")
        self._connection.settimeout(left_s)
        try:
            return self._connection.recv(READ_BYTES) or None
        except TimeoutError as error:
            raise FramingError("nothing more came in time") from error


def framed(message: bytes) -> bytes:
    """Return a message with its frame."""
    return START + message + END


Handle = Callable[[bytes, str], tuple[bytes, ...]]
"""From a message and the peer's address to the answers, in order."""


class MllpServer:
    """Listens, and gives each message to ``handle``; the next is read when it is answered."""

    def __init__(
        self,
        handle: Handle,
        *,
        host: str,
        port: int,
        tls: MllpTls | None = None,
        limits: MllpLimits | None = None,
    ) -> None:
        self._handle = handle
        self._host, self._port = host, port
        self._tls = tls
        self._limits = limits or MllpLimits()
        self._listening: socket.socket | None = None
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._open: dict[socket.socket, threading.Thread] = {}
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port it listens on, also where settings said 0."""
        assert self._listening is not None, "the server was started"
        return int(self._listening.getsockname()[1])

    def start(self) -> None:
        """Listen; returns once the port is open.

        Raises
        ------
        OSError
            The port is taken, or a certificate cannot be read.
        """
        context = self._tls.server_context() if self._tls else None
        family = socket.AF_INET6 if ":" in self._host else socket.AF_INET
        self._listening = socket.create_server((self._host, self._port), family=family, backlog=32)
        self._thread = threading.Thread(
            target=self._accept, args=(self._listening, context), name="mllp-accept", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Close the port and what is open; a message in hand is finished and answered first."""
        if self._listening is None or self._thread is None:
            return
        self._stop.set()
        self._thread.join()
        self._listening.close()
        with self._lock:
            still_open = dict(self._open)
        for connection in still_open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RD)
        for thread in still_open.values():
            thread.join(self._limits.message_s)
        self._listening = None

    def __enter__(self) -> MllpServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _accept(self, listening: socket.socket, context: ssl.SSLContext | None) -> None:
        while not self._stop.is_set():
            ready, _, _ = select.select([listening], [], [], 0.2)
            if not ready:
                continue
            connection, address = listening.accept()
            with self._lock:
                is_full = len(self._open) >= self._limits.max_connections
            if is_full:
                logger.warning("too many HL7 connections", address=address[0])
                connection.close()
                continue
            thread = threading.Thread(
                target=self._serve,
                args=(connection, address[0], context),
                name="mllp-connection",
                daemon=True,
            )
            with self._lock:
                self._open[connection] = thread
            thread.start()

    def _serve(
        self, connection: socket.socket, address: str, context: ssl.SSLContext | None
    ) -> None:
        plain = connection
        try:
            connection.settimeout(self._limits.message_s)
            if context is not None:
                connection = context.wrap_socket(connection, server_side=True)
            reader = FrameReader(connection, self._limits)
            while not self._stop.is_set() and (message := reader.read()) is not None:
                for answer in self._handle(message, address):
                    connection.settimeout(self._limits.message_s)
                    connection.sendall(framed(answer))
        except FramingError as error:
            logger.info("HL7 connection closed", address=address, reason=str(error))
        except OSError as error:
            logger.info("HL7 connection lost", address=address, reason=type(error).__name__)
        except Exception:  # one peer's message must not end the server; nothing was acknowledged
            logger.exception("HL7 connection closed", address=address)
        finally:
            with self._lock:
                self._open.pop(plain, None)
            with suppress(OSError):
                connection.close()


def exchange(
    message: bytes,
    *,
    host: str,
    port: int,
    timeout_s: float,
    tls_ca: Path | None = None,
) -> bytes:
    """Send one message over a connection of its own and return the answer.

    Raises
    ------
    OSError
        Nobody answers there, or the certificate is not one of ``tls_ca``.
    FramingError
        The answer is none.
    """
    limits = MllpLimits(message_s=timeout_s, idle_s=timeout_s)
    with socket.create_connection((host, port), timeout=timeout_s) as plain:
        connection = plain
        if tls_ca is not None:
            context = ssl.create_default_context(cafile=str(tls_ca))
            connection = context.wrap_socket(plain, server_hostname=host)
        with connection:
            connection.sendall(framed(message))
            answer = FrameReader(connection, limits).read()
    if answer is None:
        raise FramingError("the receiver closed the connection without an answer")
    return answer
