"""Write down what was refused: the reason always, the bytes where they may be wanted later."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from inference.domain.study import Sender
from inference.jobs.errors import IntakeError
from inference.jobs.identify import Announced
from inference.jobs.receipts import IntakeSettings
from inference.storage import audit, studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore, StoredObject
from inference.telemetry import get_logger

logger = get_logger(__name__)


@dataclass(kw_only=True)
class Refusal:
    """What is known of a file should it be refused; whoever receives it fills this in."""

    path: Path | None = None
    sha256: str = ""
    size_bytes: int = 0
    instance_uid: str = ""
    study_uid: str = ""


class RefusalLog:
    """Puts refusals on record, and refused bytes into the quarantine."""

    def __init__(
        self, *, database: Database, objects: ObjectStore, settings: IntakeSettings
    ) -> None:
        self.database = database
        self.objects = objects
        self.settings = settings

    @contextmanager
    def on_record(self, sender: Sender, announced: Announced | None) -> Iterator[Refusal]:
        """Write a refusal down, with its bytes where they are to be kept; then let it pass."""
        refusal = Refusal()
        try:
            yield refusal
        except IntakeError as error:
            self._record(error, refusal, sender, announced)
            raise
        finally:
            if refusal.path is not None:
                with suppress(OSError):
                    refusal.path.unlink(missing_ok=True)

    def _record(
        self,
        error: IntakeError,
        refusal: Refusal,
        sender: Sender,
        announced: Announced | None,
    ) -> None:
        logger.warning(
            "instance refused", code=error.code, field=error.field, problem=error.problem
        )
        kept = self._keep(error, refusal)
        said = announced.instance_uid if announced else ""
        instance_uid = refusal.instance_uid or _printable(said)
        detail = {"code": error.code, "field": error.field, "problem": error.problem}
        with self.database.write() as connection:
            now = self.database.now(connection)
            if kept is not None:
                studies.add_quarantined(
                    connection,
                    code=error.code,
                    reason=str(error),
                    instance_uid=instance_uid,
                    study_uid=refusal.study_uid,
                    sha256=kept.sha256,
                    size_bytes=kept.size_bytes,
                    sender=sender,
                    at=now,
                )
                detail["sha256"] = kept.sha256
            audit.append(
                connection,
                at=now,
                actor=f"{sender.channel.value}:{sender.name}",
                action="instance.refused",
                subject=refusal.study_uid or instance_uid,
                detail={**detail, "address": sender.address},
            )

    def _keep(self, error: IntakeError, refusal: Refusal) -> StoredObject | None:
        """Put a refused file's bytes into the object store, within the quarantine's share."""
        if not error.is_kept or not refusal.sha256 or refusal.path is None:
            return None
        known = self.objects.path(refusal.sha256)
        if known.is_file():  # refused after it was named: a conflict
            return StoredObject(sha256=refusal.sha256, size_bytes=refusal.size_bytes, path=known)
        with self.database.read() as connection:
            held = studies.quarantined_bytes(connection)
        if held + refusal.size_bytes > self.settings.max_quarantine_bytes:
            logger.warning("quarantine is full; refused bytes are not kept", held_bytes=held)
            return None
        return self.objects.adopt(refusal.path, refusal.sha256)


def _printable(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii").replace("\0", "\\0")[:128]
