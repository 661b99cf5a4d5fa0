"""The intake and the processor with counters: instances by door, results, seconds of each stage."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.domain.job import Priority
from inference.domain.ports import Progress, StudyProcessor
from inference.domain.result import Delivery, ResultDraft, ReusedResult
from inference.domain.stages import DELIVER
from inference.domain.study import Sender, StudyInput
from inference.jobs.errors import IntakeError
from inference.jobs.identify import Announced
from inference.jobs.intake import Intake, IntakeSettings, Receipt
from inference.storage.database import Database
from inference.storage.errors import StorageFullError
from inference.storage.objects import ObjectStore
from inference.telemetry import Metrics


class MeasuredProcessor:
    """Passes everything on to another processor."""

    def __init__(self, inner: StudyProcessor, metrics: Metrics) -> None:
        self._inner, self._metrics = inner, metrics

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft | ReusedResult, ...]:
        """Run the other processor and count what it made; see `StudyProcessor`."""
        made = self._inner.process(study, out=out, progress=progress)
        for draft in made:
            if isinstance(draft, ReusedResult):
                self._metrics.results.labels("", "reused").inc()
                continue
            self._metrics.results.labels(draft.model, draft.state.value).inc()
            for stage, seconds in draft.summary.get("stages_s", {}).items():
                self._metrics.stage_seconds.labels(draft.model, stage).observe(seconds)
        return made


def delivery_observer(metrics: Metrics) -> Callable[[Delivery, float], None]:
    """Return what a delivery worker tells each acknowledged object, for the stage `deliver`."""

    def delivered(due: Delivery, seconds: float) -> None:
        metrics.stage_seconds.labels(due.model, DELIVER).observe(seconds)

    return delivered


class MeasuredIntake(Intake):
    """Counts every instance that was received or refused, by door."""

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        settings: IntakeSettings | None = None,
        metrics: Metrics,
    ) -> None:
        super().__init__(database=database, objects=objects, settings=settings)
        self._metrics = metrics

    def receive(
        self,
        chunks: Iterable[bytes],
        *,
        sender: Sender,
        priority: Priority = Priority.ROUTINE,
        announced: Announced | None = None,
    ) -> Receipt:
        """Receive and count; files and archives come through here too."""
        with self._counted(sender):
            return super().receive(chunks, sender=sender, priority=priority, announced=announced)

    def receive_spooled(
        self,
        path: Path,
        *,
        sender: Sender,
        priority: Priority = Priority.ROUTINE,
        announced: Announced | None = None,
    ) -> Receipt:
        """Receive and count."""
        with self._counted(sender):
            return super().receive_spooled(
                path, sender=sender, priority=priority, announced=announced
            )

    @contextmanager
    def _counted(self, sender: Sender) -> Iterator[None]:
        door = sender.channel.value
        try:
            yield
        except (IntakeError, StorageFullError) as error:
            self._metrics.rejections.labels(door, error.code).inc()
            raise
        self._metrics.instances_received.labels(door).inc()
