"""A batch around a pool and a fake network: archives of built studies in, a report out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from inference.backends.fake import FakePredictor
from inference.domain.job import RetryPolicy
from inference.domain.ports import Predictor
from inference.jobs.batch import Batch, BatchParts
from inference.jobs.batch_outcome import BatchReport
from inference.jobs.batch_processor import BatchProcessor, TaskPool
from inference.jobs.batch_receive import StorePlace
from inference.jobs.batch_sources import BatchSource
from inference.jobs.worker import Worker
from inference.pipeline.spec import load_spec
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.dicom import Identity
from tests.builders.service import write_two_boxes_model
from tests.builders.two_boxes import BuiltStudy, two_boxes_study, write

MODEL = "ct_two_boxes"
GAPPED = (0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13)
"""Slices 3 and 4 are missing."""


class PoolHere:
    """Implements `TaskPool` in the calling thread."""

    def __init__(self, *, sees_our_disk: bool = True) -> None:
        self.sees_our_disk = sees_our_disk

    def submit(self, task: Callable[..., Any], *arguments: Any, n_answers: int = 1) -> Any:
        return task(*arguments)

    def answer(self, handle: Any) -> Any:
        return handle

    def release(self) -> None:
        """Nobody waits."""


def write_archive(root: Path, n_studies: int) -> list[BuiltStudy]:
    """Folders ``s0``, ``s1`` ... of two-boxes studies, each of its own patient."""
    built = [two_boxes_study(identity=Identity()) for _ in range(n_studies)]
    for number, study in enumerate(built):
        write(study, root / f"s{number}")
    return built


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A data folder that batches run on."""

    parts: BatchParts
    predictor: Predictor

    @property
    def database(self) -> Database:
        return self.parts.database

    def run(self, source: BatchSource) -> BatchReport:
        return Batch(source, self.parts).run()


@contextmanager
def opened_batch(
    folder: Path,
    pool: TaskPool,
    *,
    predictor: Predictor | None = None,
    policy: RetryPolicy | None = None,
    n_workers: int = 3,
) -> Iterator[Opened]:
    """Open a data folder under ``folder``; again on the same one, as a second run would."""
    repo = folder / "model_repo"
    if not repo.is_dir():
        write_two_boxes_model(repo)
    spec = load_spec(repo / MODEL)
    place = StorePlace(data_dir=folder / "data", model=MODEL, source="built")
    database, objects = place.open()
    network = predictor or FakePredictor((200.0, 500.0))
    processor = BatchProcessor(spec=spec, predictor=network, pool=pool)
    workers = tuple(
        _worker(database, objects, processor, policy or RetryPolicy(), number)
        for number in range(n_workers)
    )
    parts = BatchParts(
        database=database, objects=objects, place=place, pool=pool, workers=workers, spec=spec
    )
    try:
        yield Opened(parts=parts, predictor=network)
    finally:
        database.close()


def _worker(
    database: Database,
    objects: ObjectStore,
    processor: BatchProcessor,
    policy: RetryPolicy,
    number: int,
) -> Worker:
    return Worker(
        database=database,
        objects=objects,
        processor=processor,
        policy=policy,
        name=f"batch-{number}",
        model=MODEL,
    )
