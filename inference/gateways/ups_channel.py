"""The event channel of UPS-RS: a WebSocket for each receiver (PS3.18 11.13 and 11.14)."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, WebSocket, WebSocketDisconnect
from starlette.concurrency import run_in_threadpool

from inference.domain.roles import Permissions
from inference.gateways.ups_rs import CLIENTS, PREFIX, AeTitle
from inference.storage import workitem_events
from inference.storage.database import Database
from inference.storage.workitem_events import Event

POLL_S = 0.2
"""How often a channel looks for events; it also sees those that another process has written."""

PERMISSIONS: Permissions = {
    ("WEBSOCKET", f"{PREFIX}{path}"): CLIENTS
    for path in ("/ws/subscribers/{ae_title}", "/subscribers/{ae_title}")
}
SOP_CLASS = "1.2.840.10008.5.1.4.34.6.4"


@dataclass(frozen=True, kw_only=True)
class EventChannel:
    """Sends each event once it is committed, and forgets it once it is sent."""

    database: Database

    def router(self) -> APIRouter:
        """Return the channel's addresses: that of today's edition and that of the first ones."""
        router = APIRouter(prefix=PREFIX)
        for _, path in PERMISSIONS:
            router.add_api_websocket_route(path.removeprefix(PREFIX), self.open)
        return router

    async def open(self, socket: WebSocket, ae_title: AeTitle) -> None:
        """Hold a channel open until its receiver goes."""
        await socket.accept()
        gone = asyncio.create_task(_until_gone(socket))
        number = 0
        with suppress(WebSocketDisconnect, RuntimeError):  # RuntimeError: closed while sending
            while not gone.done():
                events = await run_in_threadpool(self._pending, ae_title)
                for event in events:
                    number += 1
                    await socket.send_json(message_of(event, number))
                if events:
                    await run_in_threadpool(self._delivered, [one.id for one in events])
                else:
                    await asyncio.wait({gone}, timeout=POLL_S)
        gone.cancel()

    def _pending(self, ae_title: str) -> tuple[Event, ...]:
        with self.database.read() as connection:
            return workitem_events.pending(connection, ae_title)

    def _delivered(self, event_ids: list[int]) -> None:
        with self.database.write() as connection:
            workitem_events.delivered(connection, event_ids)


def message_of(event: Event, number: int) -> dict[str, Any]:
    """Return an event as PS3.18 11.14 writes it: command elements beside the data set's."""
    return {
        "00000002": {"vr": "UI", "Value": [SOP_CLASS]},
        "00000110": {"vr": "US", "Value": [number % 65536]},
        "00001000": {"vr": "UI", "Value": [event.workitem_uid]},
        "00001002": {"vr": "US", "Value": [event.event_type]},
        **event.document,
    }


async def _until_gone(socket: WebSocket) -> None:
    """Return when the receiver closes; what it says is not listened to."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while True:
            await socket.receive()
