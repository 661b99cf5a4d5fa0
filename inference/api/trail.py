"""Every access to patient data, reads and refusals too, in the hash-chained audit trail.

The row is on disk before the first byte of the answer leaves. Rows that wait at the same moment
share one transaction, so that reads do not queue for the writer one by one; the same person
reading the same thing by the same route again within a minute is one access and costs nothing.
Where the trail cannot be written, nothing is shown: the answer is 503.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from sqlalchemy import Connection, select

from inference.domain.errors import ClinferError
from inference.storage import audit
from inference.storage.database import Database
from inference.storage.tables import delivery, job, result
from inference.telemetry import get_logger

SAME_ACCESS_S = 60.0
MAX_REMEMBERED = 20_000
MAX_WAITING = 5_000
NO_PATIENT_DATA = frozenset(
    {
        "/models",
        "/models/{name}",
        "/v1/models",
        "/v1/models/{name}",
        "/metrics",
        "/openapi.json",
        "/account/password",
    }
)
"""Templates that show nothing of a patient; every other route is on record."""

log = get_logger(__name__)


class TrailError(ClinferError):
    """An access could not be written down, so it does not take place."""

    code = "storage_unavailable"


@dataclass(frozen=True, kw_only=True)
class AccessNote:
    """One access: who, by which roles, on which route, to what, with what outcome."""

    actor: str
    roles: tuple[str, ...]
    method: str
    template: str
    params: Mapping[str, str]
    query: str
    status: int
    address: str

    @property
    def key(self) -> tuple[str, ...]:
        """What makes two accesses the same one."""
        values = tuple(self.params.get(name, "") for name in _SUBJECTS if name in self.params)
        query = "" if self.params else self.query
        stranger = self.address if not self.roles else ""
        return (
            self.actor,
            self.method,
            self.template,
            *values,
            query,
            str(self.status),
            stranger,
        )


_SUBJECTS = ("study_uid", "result_id", "job_id", "delivery_id")


@dataclass
class _Waiting:
    note: AccessNote
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None] = field(repr=False)


class AccessTrail:
    """Writes accesses down in groups, in a thread of its own."""

    def __init__(self, database: Database, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._database, self._clock = database, clock
        self._condition = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._is_stopping = False
        self._seen: OrderedDict[tuple[str, ...], float] = OrderedDict()
        self._thread: threading.Thread | None = None

    async def note(self, access: AccessNote) -> None:
        """Return when the access is durably on record.

        Raises
        ------
        TrailError
        """
        key = access.key
        is_repeatable = access.method == "GET" or access.status in {401, 403, 405}
        if is_repeatable and self._is_same(key):
            return
        loop = asyncio.get_running_loop()
        waiting = _Waiting(access, loop, loop.create_future())
        with self._condition:
            if self._is_stopping or len(self._waiting) >= MAX_WAITING:
                raise TrailError("the audit trail takes no more")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="access-trail", daemon=True)
                self._thread.start()
            self._waiting.append(waiting)
            self._condition.notify()
        await waiting.done
        if is_repeatable:
            self._remember(key)

    def stop(self) -> None:
        """Write what waits, and end."""
        with self._condition:
            self._is_stopping = True
            self._condition.notify()
        if self._thread is not None:
            self._thread.join(10.0)

    def _is_same(self, key: tuple[str, ...]) -> bool:
        seen_s = self._seen.get(key)
        return seen_s is not None and self._clock() - seen_s < SAME_ACCESS_S

    def _remember(self, key: tuple[str, ...]) -> None:
        self._seen[key] = self._clock()
        self._seen.move_to_end(key)
        while len(self._seen) > MAX_REMEMBERED:
            self._seen.popitem(last=False)

    def _run(self) -> None:
        while True:
            with self._condition:
                while not self._waiting and not self._is_stopping:
                    self._condition.wait()
                group = list(self._waiting)
                self._waiting.clear()
                if not group:
                    return
            failure: Exception | None = None
            try:
                with self._database.write() as connection:
                    for one in group:
                        self._write(connection, one.note)
            except Exception as error:  # noqa: BLE001 - handed to every request that waits for it
                log.error("accesses are not on record", error=str(error), n=len(group))
                failure = error
            for one in group:
                one.loop.call_soon_threadsafe(_finish, one.done, failure)

    def _write(self, connection: Connection, note: AccessNote) -> None:
        subject, is_study = _subject_of(connection, note.params)
        action = "access.write"
        if note.status in {401, 403, 405, 429}:
            action = "access.refused"
        elif note.method == "GET":
            action = "study.read" if is_study else "access.read"
        audit.append(
            connection,
            at=self._database.now(connection),
            actor=note.actor,
            action=action,
            subject=subject,
            detail={
                "route": f"{note.method} {note.template}",
                "roles": list(note.roles),
                "status": note.status,
                "address": note.address,
                **({"query": note.query[:300]} if note.query else {}),
            },
        )


def _finish(done: asyncio.Future[None], failure: Exception | None) -> None:
    if done.done():
        return
    if failure is None:
        done.set_result(None)
    else:
        done.set_exception(TrailError("the access could not be written to the audit trail"))


def _subject_of(connection: Connection, params: Mapping[str, str]) -> tuple[str, bool]:
    """Return the study that an address leads to, else its first value."""
    if "study_uid" in params:
        return params["study_uid"][:64], True
    studies = (
        ("result_id", select(result.c.study_uid), result.c.id),
        ("job_id", select(job.c.study_uid), job.c.id),
        (
            "delivery_id",
            select(result.c.study_uid).join(delivery, delivery.c.result_id == result.c.id),
            delivery.c.id,
        ),
    )
    for name, query, column in studies:
        value = params.get(name, "")
        if value.isdecimal() and len(value) < 18:
            found = connection.execute(query.where(column == int(value))).scalar_one_or_none()
            if found is not None:
                return str(found), True
            return value, False
    return next(iter(params.values()), "")[:200], False
