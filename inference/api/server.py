"""The HTTP server: uvicorn in a thread of its own, with deadlines for slow clients."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from inference.telemetry import get_logger

HEAD_TIMEOUT_S = 15.0
"""Longest time from a connection, or a request's first byte, to the end of its headers."""

log = get_logger(__name__)


class PatientlessProtocol(H11Protocol):
    """uvicorn's protocol with a deadline for the request head, which it lacks (slow loris)."""

    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the clock with the connection."""
        super().connection_made(transport)
        self._start_clock()

    def data_received(self, data: bytes) -> None:
        """Stop the clock when the head is complete; start it with the next request's first byte."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE and self.conn.trailing_data[0]:
            if self._head_timer is None:
                self._start_clock()
        elif self.conn.their_state is not h11.IDLE or self.conn.our_state is not h11.IDLE:
            self._stop_clock()

    def connection_lost(self, exc: Exception | None) -> None:
        """Leave no timer behind."""
        self._stop_clock()
        super().connection_lost(exc)

    def _start_clock(self) -> None:
        self._head_timer = self.loop.call_later(HEAD_TIMEOUT_S, self._too_slow)

    def _stop_clock(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _too_slow(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def listening_socket(host: str, port: int) -> socket.socket:
    """Return a bound socket, so that a taken port is found before anything else is started."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named because asyncio turns delayed sending off only where it is: without
    # it each answer on a kept connection takes 40 ms longer.
    bound = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError:
        bound.close()
        raise
    return bound


class HttpServer:
    """Serves an application on a bound socket until it is stopped."""

    def __init__(
        self, app: FastAPI, bound: socket.socket, *, max_connections: int, stop_timeout_s: float
    ) -> None:
        options: dict[str, Any] = {
            "http": PatientlessProtocol,
            "ws": "websockets-sansio",
            "ws_max_size": 4096,  # receivers of events have nothing to say
            "lifespan": "off",
            "log_config": None,
            "access_log": False,
            "server_header": False,
            "date_header": True,
            "proxy_headers": False,
            "timeout_keep_alive": 15,
            "limit_concurrency": max_connections,
            "timeout_graceful_shutdown": max(1, int(stop_timeout_s)),
        }
        self._server = uvicorn.Server(uvicorn.Config(app, **options))
        self._socket = bound
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    @property
    def address(self) -> tuple[str, int]:
        """Host and port that are served."""
        host, port = self._socket.getsockname()[:2]
        return host, port

    @property
    def is_alive(self) -> bool:
        """Whether the serving thread runs."""
        return self._thread.is_alive()

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self, timeout_s: float) -> None:
        """Stop taking requests, let running ones end, close."""
        self._server.should_exit = True
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self._server.force_exit = True
            self._thread.join(2.0)
        self._socket.close()

    def _run(self) -> None:
        self._server.run(sockets=[self._socket])
