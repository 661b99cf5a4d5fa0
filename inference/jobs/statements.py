"""Give each study without a result its statement for the PACS: what became of it, and why.

A worker of its own, because a job may end in many ways (refused, out of tries, its process lost)
and none of them may leave a study looking as if it had been read as normal.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_io.errors import DicomIoError
from dicom_io.report_words import Language
from dicom_io.results import Algorithm, ResultIdentity
from dicom_io.statement import Referenced, Statement, make_state_picture, make_state_report
from dicom_io.write import write_dicom
from inference.domain.result import Destination, Result, ResultFile
from inference.domain.study import Instance
from inference.jobs.index_entry import add_files_to_index, index_result_files
from inference.jobs.structure import read_file_meta
from inference.storage import audit, deliveries, results, statements, studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger
from inference.version import SOFTWARE_VERSION

logger = get_logger(__name__)

OURSELVES = "clinfer"
"""Name of the algorithm of a statement about every model: the service itself."""

NO_WEIGHTS = "none"


class StatementWorker:
    """Makes one statement at a time, puts it with its result, and offers it to the destinations."""

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        destinations: Sequence[Destination],
        is_research: Mapping[str, bool] | None = None,
    ) -> None:
        self.database = database
        self.objects = objects
        self.destinations = tuple(destinations)
        self.is_research = dict(is_research or {})
        """By model name; a model that is not named counts as one in research."""

        self.kinds = tuple(
            sorted(
                {
                    kind
                    for destination in destinations
                    for kind in destination.kinds
                    if kind.split("_")[0] == deliveries.STATE_KIND
                }
            )
        )
        self.name = "statements"

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Make statements until told to stop."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    self.database.wait(poll_s)
            except Exception:  # a thread's end: the disk or database may be back next time
                logger.exception("statements could not go on; trying again")
                stop.wait(poll_s)

    def run_once(self) -> bool:
        """Make one statement if one is owed; False: none was."""
        if not self.kinds:
            return False
        with self.database.read() as connection:
            result_id = statements.next_without(connection)
            if result_id is None:
                return False
            found = results.get_result(connection, result_id)
            instances = studies.list_instances(
                connection,
                found.study_uid,
                series_uid=found.series_uid or None,
                images_only=True,
            )
        try:
            files = self._make(found, instances)
        except (DicomIoError, InvalidDicomError) as error:
            self._give_up(found, str(error))
            return True
        self._store(found, files)
        self.database.notify()
        return True

    def _make(self, found: Result, instances: Sequence[Instance]) -> list[ResultFile]:
        if not instances:
            raise InvalidDicomError("no image of it is stored any more")
        with self.objects.path(instances[0].sha256).open("rb") as file:
            origin = dcmread(file, stop_before_pixels=True)
        about = [
            Referenced(
                sop_class_uid=one.sop_class_uid,
                instance_uid=one.instance_uid,
                series_uid=one.series_uid,
            )
            for one in instances
        ]
        statement = Statement(
            state=found.outcome.value, reason_code=found.reason_code, reason=found.reason
        )
        made: list[ResultFile] = []
        with self._folder() as folder:
            for kind in self.kinds:
                dataset = self._one(kind, origin, about, statement, found)
                path = folder / f"{kind}.dcm"
                write_dicom(dataset, path)
                made.append(filed(self.objects, kind, path))
        return made

    def _one(
        self,
        kind: str,
        origin: Dataset,
        about: Sequence[Referenced],
        statement: Statement,
        found: Result,
    ) -> Dataset:
        algorithm = algorithm_of(found, is_research=self._is_research(found))
        identity = ResultIdentity(key=found.key, created_at=found.created_at)
        language: Language = "zh" if kind.endswith("_zh") else "en"
        if kind.startswith("state_sc"):
            return make_state_picture(
                origin, statement, algorithm=algorithm, identity=identity, language=language
            )
        return make_state_report(
            origin, about, statement, algorithm=algorithm, identity=identity, language=language
        )

    def _is_research(self, found: Result) -> bool:
        return self.is_research.get(found.model, True) if found.model else False

    def _store(self, found: Result, files: Sequence[ResultFile]) -> None:
        indexed = index_result_files(files, self.objects)
        with self.database.write() as connection:
            now = self.database.now(connection)
            if not results.get_result(connection, found.id).is_current:
                return  # overtaken meanwhile: nobody needs to hear of it
            if not statements.record(connection, found.id, now=now):
                return
            results.add_files(connection, found.id, files)
            add_files_to_index(connection, indexed, found.id)
            deliveries.enqueue(connection, found.id, destinations=self.destinations, now=now)
            audit.append(
                connection,
                at=now,
                actor=self.name,
                action="result.stated",
                subject=found.study_uid,
                detail={"result_id": found.id, "state": found.outcome.value},
            )

    def _give_up(self, found: Result, problem: str) -> None:
        logger.error("no statement could be made", result_id=found.id, reason=problem)
        with self.database.write() as connection:
            now = self.database.now(connection)
            statements.record(connection, found.id, now=now, problem=problem[:1000])
            audit.append(
                connection,
                at=now,
                actor=self.name,
                action="result.not_stated",
                subject=found.study_uid,
                detail={"result_id": found.id, "problem": problem[:500]},
            )

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = self.objects.new_temporary("-statement")
        folder.mkdir()
        try:
            yield folder
        finally:
            for path in folder.iterdir():
                path.unlink()
            folder.rmdir()


def algorithm_of(found: Result, *, is_research: bool) -> Algorithm:
    """Return who says something about a result: its model, or the service where it had none."""
    return Algorithm(
        name=found.model or OURSELVES,
        version=found.model_version or SOFTWARE_VERSION,
        weights_sha256=found.weights_sha256 or NO_WEIGHTS,
        software_version=SOFTWARE_VERSION,
        engine=NO_WEIGHTS,
        is_research=is_research,
    )


def filed(objects: ObjectStore, kind: str, path: Path) -> ResultFile:
    """Move a DICOM file into the object store and return its row."""
    stored = objects.put(path)
    meta = read_file_meta(stored.path)
    return ResultFile(
        kind=kind,
        sha256=stored.sha256,
        size_bytes=stored.size_bytes,
        media_type="application/dicom",
        sop_class_uid=meta.sop_class_uid,
        instance_uid=meta.instance_uid,
    )
