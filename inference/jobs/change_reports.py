"""Give a result that has a comparable prior its report of change, beside its other objects."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_io.change_report import ChangedQuantity, ChangedSegment, make_change_report
from dicom_io.errors import DicomIoError
from dicom_io.results import ResultIdentity
from dicom_io.write import write_dicom
from inference.domain.change import Comparison, Limits, QuantityChange, compare
from inference.domain.result import Destination, Result, ResultFile
from inference.jobs.statements import algorithm_of, filed
from inference.pipeline.spec import ModelSpec
from inference.storage import audit, deliveries, priors, results, statements
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from inference.telemetry import get_logger

logger = get_logger(__name__)

CHANGE_KIND = "change_sr"
SHOWN = ("seg", "sr")
"""Kinds of a result that the report names as its evidence."""


class ChangeReportWorker:
    """Makes one report at a time, on the latest comparable prior, with the matches of that hour."""

    def __init__(
        self,
        *,
        database: Database,
        objects: ObjectStore,
        destinations: Sequence[Destination],
        models: Mapping[str, ModelSpec],
    ) -> None:
        self.database = database
        self.objects = objects
        self.destinations = tuple(destinations)
        self.models = dict(models)
        self.name = "change-reports"

    def run(self, stop: threading.Event, *, poll_s: float = 1.0) -> None:
        """Make reports until told to stop."""
        while not stop.is_set():
            try:
                if not self.run_once():
                    self.database.wait(poll_s)
            except Exception:  # a thread's end: the disk or database may be back next time
                logger.exception("change reports could not go on; trying again")
                stop.wait(poll_s)

    def run_once(self) -> bool:
        """Deal with one result that was not looked at yet; False: there is none."""
        with self.database.read() as connection:
            result_id = statements.next_finding(connection)
            if result_id is None:
                return False
            found = results.get_result(connection, result_id)
            here = priors.time_point(connection, result_id)
            before = priors.priors_of(connection, result_id)
            decided = [
                priors.matches_between(connection, result_id, one.result_id) for one in before
            ]
            compared = [
                compare(here, one, limits=self._limits(found), matches=matches)
                for one, matches in zip(before, decided, strict=True)
            ]
            chosen = next((one for one in compared if one.changes), None)
            prior = results.get_result(connection, chosen.prior.result_id) if chosen else None
        files: list[ResultFile] = []
        problem = ""
        if chosen is not None and prior is not None and found.model in self.models:
            try:
                files = [self._make(found, prior, chosen)]
            except (DicomIoError, InvalidDicomError) as error:
                problem = str(error)[:1000]
                logger.error("no change report", result_id=found.id, reason=problem)
        self._store(found, files, problem)
        return True

    def _limits(self, found: Result) -> dict[str, Limits]:
        spec = self.models.get(found.model)
        if spec is None or spec.version != found.model_version or spec.reproducibility is None:
            return {}
        return {
            one.name: Limits(
                volume_percent=one.volume_percent, long_axis_percent=one.long_axis_percent
            )
            for one in spec.reproducibility.segments
        }

    def _make(self, found: Result, prior: Result, compared: Comparison) -> ResultFile:
        by_label = {segment.label: segment for segment in self.models[found.model].segments}
        tracked = {
            one["label"]: one.get("tracking_uid", "") for one in found.summary.get("segments", ())
        }
        changed = [
            ChangedSegment(
                segment=by_label[one.label],
                tracking_uid=tracked[one.label],
                match=one.match.value,
                volume_ml=_quantity(one.volume_ml),
                long_axis_mm=_quantity(one.long_axis_mm),
            )
            for one in compared.changes
            if one.label in by_label and tracked.get(one.label)
        ]
        report = make_change_report(
            self._headers(found),
            self._headers(prior),
            changed,
            compared.prior.study_date,
            modality=compared.prior.acquisition.modality if compared.prior.acquisition else "",
            algorithm=algorithm_of(
                found, is_research=self.models[found.model].status == "research"
            ),
            identity=ResultIdentity(key=found.key, created_at=found.created_at),
        )
        path = Path(f"{self.objects.new_temporary('-change')}.dcm")
        try:
            write_dicom(report, path)
            return filed(self.objects, CHANGE_KIND, path)
        finally:
            path.unlink(missing_ok=True)

    def _headers(self, found: Result) -> list[Dataset]:
        headers: list[Dataset] = []
        for file in found.files:
            if file.kind in SHOWN:
                with self.objects.path(file.sha256).open("rb") as stream:
                    headers.append(dcmread(stream, stop_before_pixels=True))
        return headers

    def _store(self, found: Result, files: Sequence[ResultFile], problem: str) -> None:
        with self.database.write() as connection:
            now = self.database.now(connection)
            if not statements.record(connection, found.id, now=now, problem=problem):
                return
            if not files or not results.get_result(connection, found.id).is_current:
                return
            results.add_files(connection, found.id, files)
            deliveries.enqueue(connection, found.id, destinations=self.destinations, now=now)
            audit.append(
                connection,
                at=now,
                actor=self.name,
                action="result.compared",
                subject=found.study_uid,
                detail={"result_id": found.id},
            )
        self.database.notify()


def _quantity(change: QuantityChange | None) -> ChangedQuantity | None:
    if change is None:
        return None
    return ChangedQuantity(
        earlier=change.earlier,
        later=change.later,
        percent=change.percent,
        judgement=change.judgement.value,
    )
