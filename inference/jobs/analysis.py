"""One series through one model: read, predict, measure, encode, check, and write the files.

The same steps serve `clinfer run` and the service's workers. Nothing is written into the output
folder that the geometry gate has not re-read and compared.
"""

from __future__ import annotations

import hashlib
import json
import resource
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.bits import labels_present, pack_masks
from cuda_kernels.label_statistics import label_statistics
from dicom_io.diameters import Diameters
from dicom_io.errors import DicomIoError
from dicom_io.labelled import LabelledVolume
from dicom_io.nifti import write_nifti
from dicom_io.read import read_volume
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Measurement, ResultIdentity, Segment
from dicom_io.segmentation import load_tables
from dicom_io.series import Series
from dicom_io.suv import in_suvbw
from dicom_io.volume import Volume
from inference.domain.change import Acquisition
from inference.domain.encoding import Encoding, planned
from inference.domain.errors import RefusedError
from inference.domain.job import Priority
from inference.domain.ports import Prediction, Predictor, PreparingPredictor, ProbabilityPredictor
from inference.domain.stages import stages_of
from inference.jobs.encode import ResultWriter
from inference.jobs.time_points import acquisition_of, longest_axes, structure_name
from inference.pipeline.applicability import applicable
from inference.pipeline.engine_spec import Engine
from inference.pipeline.measure import measure
from inference.pipeline.sheet import write_contact_sheet
from inference.pipeline.spec import ModelSpec
from inference.version import SOFTWARE_VERSION

StageProgress = Callable[[str], None]
Probabilities = dict[int, NDArray[np.float32]]
"""Label to probability, (slice, row, column), in [0, 1]."""
"""Told the name of each stage as it begins."""


@dataclass(frozen=True, kw_only=True)
class Analysis:
    """What one model made of one series.

    ``files`` maps a name ("seg", "sr", "sc-01", ..., "labels", "sheet") to a path; "seg" is absent
    where nothing was found. ``timings_s`` holds each stage, ``total`` among them. ``remarks``
    say what could not be given, and why.
    """

    key: str
    spec: ModelSpec
    study_uid: str
    series_uid: str
    files: dict[str, Path]
    measurements: tuple[Measurement, ...]
    timings_s: dict[str, float]
    peak_memory_mib: float
    report: dict[str, Any]
    remarks: tuple[str, ...] = ()
    acquisition: Acquisition | None = None
    axes: Mapping[int, Diameters] = field(default_factory=dict)
    tracking_uids: Mapping[int, str] = field(default_factory=dict)

    @property
    def has_finding(self) -> bool:
        """Whether any segment has a voxel."""
        return bool(self.measurements)

    def as_json(self, root: Path) -> dict[str, Any]:
        """Return the entry of ``result.json``; paths relative to ``root``."""
        segments = {segment.label: segment for segment in self.spec.segments}
        return {
            "model": self.spec.name,
            "model_version": self.spec.version,
            "status": self.spec.status,
            "intended_use": self.spec.intended_use,
            "weights_sha256": self.spec.weights.sha256,
            "software_version": SOFTWARE_VERSION,
            "key": self.key,
            "study_uid": self.study_uid,
            "series_uid": self.series_uid,
            "state": "finding" if self.has_finding else "no_finding",
            "files": {kind: str(path.relative_to(root)) for kind, path in self.files.items()},
            "segments": [
                {
                    "label": found.label,
                    "name": segments[found.label].name,
                    **_codes_of(segments[found.label]),
                    "volume_ml": found.volume_ml,
                    "mean": found.mean,
                    "sd": found.sd,
                    "unit": found.unit,
                    "tracking_uid": self.tracking_uids.get(found.label, ""),
                    **(
                        {
                            "long_axis_mm": self.axes[found.label].long_axis_mm,
                            "short_axis_mm": self.axes[found.label].short_axis_mm,
                        }
                        if found.label in self.axes
                        else {}
                    ),
                }
                for found in self.measurements
            ],
            "acquisition": asdict(self.acquisition) if self.acquisition else {},
            "remarks": list(self.remarks),
            "timings_s": self.timings_s,
            "stages_s": stages_of(self.timings_s),
            "peak_memory_mib": self.peak_memory_mib,
            "engine": {
                name: self.report[name]
                for name in ("backend", "engine", "precision", "device", "engine_choice")
                if name in self.report
            },
        }


def _codes_of(segment: Segment) -> dict[str, Any]:
    """Return what a segment is in codes, so that a result can be told without its model."""
    codes = {"type": segment.type, "modifier": segment.modifier}
    return {
        name: {"value": code.value, "scheme": code.scheme, "meaning": code.meaning}
        for name, code in codes.items()
        if code is not None
    }


@dataclass(frozen=True, kw_only=True)
class SeriesOutcome:
    """What became of a series: analyses, refusals, and the reasons where a model does not apply.

    ``reused_keys`` are of results that were there already and were not computed again.
    """

    series: Series
    analyses: tuple[Analysis, ...] = ()
    reused_keys: tuple[str, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    not_applicable: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """Why no result was made from a series that a model is meant for."""

    series_uid: str
    spec: ModelSpec
    error: DicomIoError | RefusedError

    def as_json(self) -> dict[str, str]:
        """Return the entry of ``result.json``."""
        return {
            "series_uid": self.series_uid,
            "model": self.spec.name,
            "code": self.error.code,
            "message": str(self.error),
        }


def analyse_series(
    series: Series,
    specs: tuple[ModelSpec, ...],
    predictor: Predictor,
    out: Path,
    *,
    progress: StageProgress = lambda stage: None,
    priority: Priority = Priority.ROUTINE,
    stored_keys: frozenset[str] = frozenset(),
    encodings: tuple[str, ...] = (),
) -> SeriesOutcome:
    """Run every model whose scope fits the series; files go to ``out/<model>/``.

    A series that no model's header scope fits is never decoded. One that cannot be read rightly,
    or from which no result may be made, gives a refusal for each model that it was meant for.
    A result whose key is among ``stored_keys`` is not computed again.
    """
    reasons = {spec.name: applicable(spec, series) for spec in specs}
    wanted = [spec for spec in specs if reasons[spec.name] is None]
    not_applicable = {name: reason for name, reason in reasons.items() if reason is not None}
    if not wanted:
        return SeriesOutcome(series=series, not_applicable=not_applicable)

    if isinstance(predictor, PreparingPredictor):
        predictor.prepare(wanted[0].name)
    clock = StageClock(progress)
    try:
        with clock.stage("read"):
            volume = read_volume(series)
    except DicomIoError as error:
        refusals = tuple(
            Refusal(series_uid=series.series_uid, spec=spec, error=error) for spec in wanted
        )
        return SeriesOutcome(series=series, refusals=refusals, not_applicable=not_applicable)

    analyses, reused, refused = [], [], []
    for spec in wanted:
        reason = applicable(spec, volume)
        if reason is not None:
            not_applicable[spec.name] = reason
            continue
        key = result_key(volume, spec)
        if key in stored_keys:
            reused.append(key)
            continue
        try:
            found = analyse(
                volume,
                spec,
                predictor,
                out / spec.name,
                clock=StageClock(progress, before_s=dict(clock.seconds)),
                priority=priority,
                encodings=encodings,
            )
        except (DicomIoError, RefusedError) as error:
            refused.append(Refusal(series_uid=series.series_uid, spec=spec, error=error))
            continue
        if found.key in stored_keys:  # the server ran another engine than expected here
            reused.append(found.key)
        else:
            analyses.append(found)
    return SeriesOutcome(
        series=series,
        analyses=tuple(analyses),
        reused_keys=tuple(reused),
        refusals=tuple(refused),
        not_applicable=not_applicable,
    )


def analyse(
    volume: Volume,
    spec: ModelSpec,
    predictor: Predictor,
    out: Path,
    *,
    clock: StageClock,
    priority: Priority = Priority.ROUTINE,
    encodings: tuple[str, ...] = (),
) -> Analysis:
    """Label a volume, measure the segments, and write its objects, NIfTI labels, contact sheet.

    ``encodings`` are names of kinds (`inference.domain.encoding`); SEG and SR are always written.

    Raises
    ------
    DicomIoError
        The source lacks an identifier that a result must name, or an object that was written
        does not show the labels in their place (`PlacementError`).
    RefusedError
        The model may not be run on this volume.
    """
    if volume.source is None:
        raise RefusedError(
            "the volume names no DICOM instances, so no DICOM result can refer to it"
        )
    started = time.monotonic()
    prediction = predictor.predict(spec.name, volume, priority=priority)
    clock.add_model_report(prediction.report, time.monotonic() - started)
    return write_analysis(
        volume,
        spec,
        prediction,
        out,
        clock=clock,
        encodings=encodings,
        probabilities=partial(_probabilities, spec, volume, predictor, clock),
    )


def write_analysis(
    volume: Volume,
    spec: ModelSpec,
    prediction: Prediction,
    out: Path,
    *,
    clock: StageClock,
    encodings: tuple[str, ...] = (),
    probabilities: Callable[[], Probabilities] | None = None,
) -> Analysis:
    """Measure the segments of a labelled volume and write every file of the result.

    ``probabilities`` is called where an encoding needs them.

    Raises
    ------
    DicomIoError, RefusedError
        As `analyse`.
    """
    assert volume.source is not None, "only a DICOM volume has results"
    spec = as_run(spec, prediction.report)
    key = result_key(volume, spec)
    identity = ResultIdentity(
        key=key, created_at=datetime.now(UTC), structure=structure_name(volume, spec.name)
    )
    algorithm = spec.algorithm(
        engine=f"{spec.engine.kind} {spec.engine.precision}", software_version=SOFTWARE_VERSION
    )
    labels = prediction.labels
    segments = spec.segments
    with clock.stage("measure"):
        measurements = measure(volume, labels, segments)
        axes = longest_axes(volume, labels, [found.label for found in measurements])
        remarks: tuple[str, ...] = ()
        if volume.modality == "PT":
            try:
                measurements = in_suvbw(volume, measurements)
            except ResultInputError as error:  # the activity stands, under its own unit
                remarks = (f"not in SUVbw: {error}",)

    plan = planned(encodings)
    found = LabelledVolume(
        volume=volume, labels=labels, segments=segments, measurements=measurements
    )
    out.mkdir(parents=True, exist_ok=True)
    writer = ResultWriter(
        found,
        algorithm=algorithm,
        identity=identity,
        out=out,
        stage=clock.stage,
        probabilities=_needed(plan, probabilities) if measurements else {},
    )
    # Compressing needs no GIL: both are written while the objects are, and the stage is the rest.
    with ThreadPoolExecutor(1, "labels and sheet") as aside:
        unchecked = aside.submit(_write_labels_and_sheet, found, out, spec)
        files = writer.write(plan)
        with clock.stage("write labels and sheet"):
            files |= unchecked.result()

    return Analysis(
        key=key,
        spec=spec,
        study_uid=volume.source.study_uid,
        series_uid=volume.source.series_uid,
        files=files,
        measurements=measurements,
        timings_s=clock.finished(),
        peak_memory_mib=max(
            peak_memory_mib(), float(prediction.report.get("peak_memory_mib", 0.0))
        ),
        report=prediction.report,
        remarks=remarks,
        acquisition=acquisition_of(volume),
        axes=axes,
        tracking_uids={found.label: identity.tracking_uid(found.label) for found in measurements},
    )


def get_ready_to_write(volume: Volume) -> None:
    """Load what the first result of such a volume needs: a second on one core, once a process."""
    load_tables()
    corner = np.ascontiguousarray(volume.array[:1, :8, :8])
    labels = np.zeros(corner.shape, np.uint8)
    label_statistics(labels, corner, 1)
    labels_present(labels, 2)
    pack_masks(labels, [1], [(0, 0)])


def _write_labels_and_sheet(found: LabelledVolume, out: Path, spec: ModelSpec) -> dict[str, Path]:
    files = {"labels": out / "labels.nii.gz", "sheet": out / "sheet.png"}
    write_nifti(files["labels"], found.labels, found.volume.affine_lps)
    write_contact_sheet(files["sheet"], found.volume, found.labels, found.measurements, spec)
    return files


def _needed(
    plan: Sequence[Encoding], probabilities: Callable[[], Probabilities] | None
) -> Probabilities:
    """Ask for probabilities if an encoding of the plan needs them."""
    wanted = [encoding.name for encoding in plan if encoding.needs_probabilities]
    if not wanted:
        return {}
    if probabilities is None:
        raise RefusedError(f"{', '.join(wanted)}: needs probabilities, which are not computed here")
    return probabilities()


def _probabilities(
    spec: ModelSpec, volume: Volume, predictor: Predictor, clock: StageClock
) -> Probabilities:
    """Probability of every segment: one more run for each.

    Raises
    ------
    RefusedError
        The predictor gives labels only.
    """
    if not isinstance(predictor, ProbabilityPredictor):
        raise RefusedError(
            "pmap, seg_fractional: need probabilities, which this backend does not give; "
            "compute in the process (backend = local, or run without --triton)"
        )
    with clock.stage("probabilities"):
        return {
            segment.label: predictor.probability(spec.name, volume, segment.label)
            for segment in spec.segments
        }


def as_run(spec: ModelSpec, report: dict[str, Any]) -> ModelSpec:
    """Return the spec with the engine that the report names: the one that ran, wherever it did."""
    table = report.get("engine_table")
    if table is None:
        return spec
    return spec.model_copy(update={"engine": Engine.model_validate(table)})


def result_key(volume: Volume, spec: ModelSpec) -> str:
    """Return the SHA-256 that names a result.

    The same input files, model, weights, preprocessing, engine, precision and code give the same
    key, hence the same object UIDs; changing any of them gives another. ``spec.engine`` is the one
    that ran (`as_run`), or before a run the one that is expected to.
    """
    assert volume.source is not None, "only a DICOM volume has a result key"
    instances = volume.source.instances
    return key_of_instances(((one.instance_uid, one.sha256) for one in instances), spec)


def key_of_instances(instances: Iterable[tuple[str, str]], spec: ModelSpec) -> str:
    """Return the key of what a model makes of these (SOP Instance UID, SHA-256 of the file)."""
    parts = {
        "inputs": sorted(instances),
        "model": [spec.name, spec.version, spec.weights.sha256],
        "computing": spec.model_dump(
            mode="json",
            include={"preprocessing", "window", "network", "engine", "postprocessing", "labels"},
        ),
        "software": SOFTWARE_VERSION,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class StageClock:
    """Seconds of each stage, in order; tells ``progress`` when a stage begins."""

    def __init__(
        self, progress: StageProgress, *, before_s: dict[str, float] | None = None
    ) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = dict(before_s or {})

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time one stage."""
        self._progress(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started

    def add_model_report(self, report: dict[str, Any], wall_s: float) -> None:
        """Add the model's own stages; what it did not account for is ``queue and transfer``."""
        stages = {name: float(seconds) for name, seconds in report.get("timings_s", {}).items()}
        stages.pop("total", None)
        self.seconds.update(stages)
        self.seconds["queue and transfer"] = max(0.0, wall_s - sum(stages.values()))

    def finished(self) -> dict[str, float]:
        """Return every stage and ``total``, to a tenth of a millisecond."""
        total = sum(self.seconds.values())
        return {name: round(seconds, 4) for name, seconds in self.seconds.items()} | {
            "total": round(total, 4)
        }


def peak_memory_mib() -> float:
    """Return the largest resident memory that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
