"""The HTTP application in this process, with accounts on and nothing behind it that runs."""

from __future__ import annotations

import asyncio
import atexit
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import httpx
from argon2 import PasswordHasher

from inference.api.access import SESSION_COOKIE
from inference.api.deps import ApiContext
from inference.api.passwords import Passwords
from inference.bootstrap import Service, intake_settings
from inference.domain.roles import CONFINED_ROLES, Role
from inference.jobs.index_backfill import IndexBackfill
from inference.jobs.intake import Intake
from inference.storage import audit, people
from inference.storage.database import Database
from inference.storage.people import Person
from inference.telemetry import Metrics
from tests.builders.service import FakeEngine, service_settings, write_two_boxes_model

BASE_URL = "http://127.0.0.1"
ORIGIN = {"Origin": BASE_URL}
CHEAP = PasswordHasher(time_cost=1, memory_cost=64, parallelism=1)
"""Real argon2id, small: what tests need is the code, not the cost."""
GOOD_PASSWORD = "a quiet grey harbour"
SQLITE = "clinfer.sqlite3"
PATIENT = ("P-1", "urn:oid:1.2.3")


class Browser:
    """Asks the application in this process; keeps cookies, follows nothing."""

    def __init__(self, app: Any, *, address: str = "127.0.0.1") -> None:
        transport = httpx.ASGITransport(app=app, client=(address, 4321))
        self._client = httpx.AsyncClient(transport=transport, base_url=BASE_URL, timeout=30)
        self._runner = asyncio.Runner()

    @property
    def cookies(self) -> httpx.Cookies:
        return self._client.cookies

    def request(self, method: str, path: str, **more: Any) -> httpx.Response:
        return self._runner.run(self._client.request(method, path, **more))

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.request("GET", path, **more)

    def post(self, path: str, **more: Any) -> httpx.Response:
        more["headers"] = ORIGIN | more.get("headers", {})
        return self.request("POST", path, **more)

    def together(self, requests: list[tuple[str, str, dict[str, Any]]]) -> list[httpx.Response]:
        """Ask several things at the same moment."""

        async def ask() -> list[httpx.Response]:
            return await asyncio.gather(
                *(self._client.request(method, path, **more) for method, path, more in requests)
            )

        return self._runner.run(ask())

    def close(self) -> None:
        self._runner.run(self._client.aclose())
        self._runner.close()


@dataclass(frozen=True, kw_only=True)
class App:
    """An application and what lies behind it."""

    app: Any
    database: Database
    context: ApiContext
    browsers: list[Browser] = field(default_factory=list)

    def browser(self, *, address: str = "127.0.0.1") -> Browser:
        """A browser without cookies."""
        self.browsers.append(Browser(self.app, address=address))
        return self.browsers[-1]

    def events(self, action: str = "") -> list[audit.AuditEvent]:
        """What the audit trail holds, after its chain was checked."""
        with self.database.read() as connection:
            audit.verify(connection)
            found = audit.events(connection, limit=100_000)
        return [one for one in found if action in {"", one.action}]

    def person(self, name: str, *roles: Role, password: str = "", **more: Any) -> Person:
        """Add somebody; patients and caregivers see one patient."""
        with self.database.write() as connection:
            return people.add(
                connection,
                name=name,
                roles=roles,
                password_hash=CHEAP.hash(password) if password else "",
                compartment=[PATIENT] if set(roles) & CONFINED_ROLES else (),
                now=self.database.now(connection),
                **more,
            )

    def session(self, person: Person) -> dict[str, str]:
        """The headers of somebody who has signed in."""
        token = self.context.access.sessions.begin(person)
        return {"Cookie": f"{SESSION_COOKIE}={token}", **ORIGIN}


@cache
def migrated() -> Path:
    """An empty database with today's schema: migrating takes longer than most tests here."""
    folder = Path(mkdtemp(prefix="clinfer-migrated-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    Database.open(folder / SQLITE).close()
    return folder / SQLITE


@contextmanager
def built_app(folder: Path, **options: Any) -> Iterator[App]:
    """The application as the service wires it, without sockets, workers or an engine."""
    if not (folder / "model_repo").is_dir():
        write_two_boxes_model(folder / "model_repo")
    settings = service_settings(folder, **({"auth": "keys"} | options))
    service = Service(settings, engine=FakeEngine((200.0, 500.0)))
    if not (settings.data_dir / SQLITE).exists():
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(migrated(), settings.data_dir / SQLITE)
    opened, objects = service._open_storage()
    intake = Intake(database=opened, objects=objects, settings=intake_settings(settings))
    context = service._context(
        opened, objects, intake, FakeEngine((200.0, 500.0)), Metrics(), service._models()
    )
    context.access.signing_in.passwords = Passwords(CHEAP)
    backfill = IndexBackfill(opened, objects, intake.settings)
    built = App(app=service._app(context, intake, backfill), database=opened, context=context)
    try:
        yield built
    finally:
        for browser in built.browsers:
            browser.close()
        service._stack.close()
