"""From a machine's labels and a person's drawing to the files of a new, corrected result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.diameters import Diameters
from dicom_io.labelled import LabelledVolume
from dicom_io.nifti import write_nifti
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, Segment
from dicom_io.reviewed import AlgorithmType, Reader, mark_corrected, verify_report
from dicom_io.segmentation import segment_numbers
from dicom_io.suv import in_suvbw
from dicom_io.volume import Volume
from inference.domain.encoding import Encoding, planned
from inference.domain.result import Result, ResultDraft, ResultState
from inference.domain.review import (
    REDRAWN_BELOW_DICE,
    DecisionFieldError,
    Effort,
    NotReviewableError,
    effort_of,
)
from inference.jobs.encode import ResultWriter
from inference.jobs.time_points import longest_axes, structure_name
from inference.pipeline.measure import measure
from inference.pipeline.preprocess import to_canonical
from inference.pipeline.screen import acquired_plane, cut
from inference.pipeline.sheet import write_contact_sheet
from inference.pipeline.spec import ModelSpec

Labels = NDArray[Any]
NotStage: Callable[[str], AbstractContextManager[None]] = lambda name: nullcontext()  # noqa: E731


@dataclass(frozen=True, kw_only=True)
class Change:
    """How a person's labels differ from the machine's.

    ``dice`` is by label, of every segment that one of both drew; ``changed_ml`` counts every voxel
    whose label is another one now.
    """

    dice: dict[int, float]
    changed_ml: float

    @property
    def effort(self) -> Effort:
        """Untouched, edited or redrawn."""
        return effort_of(self.dice)

    @property
    def lowest_dice(self) -> float:
        """Dice of the segment that was changed most."""
        return min(self.dice.values(), default=1.0)

    @property
    def types(self) -> dict[int, AlgorithmType]:
        """How each segment was made, by label."""
        return {
            label: "AUTOMATIC"
            if dice == 1.0
            else "MANUAL"
            if dice < REDRAWN_BELOW_DICE
            else "SEMIAUTOMATIC"
            for label, dice in self.dice.items()
        }


def overlay_stamp(labels_sha256: str, slices: Mapping[int, bytes]) -> str:
    """Return the hash of an overlay as it is shown: stored labels, with these slices over them."""
    if not slices:
        return labels_sha256
    digest = hashlib.sha256(labels_sha256.encode())
    for index in sorted(slices):
        digest.update(f"{index}:{hashlib.sha256(slices[index]).hexdigest()};".encode())
    return digest.hexdigest()


def apply_slices(volume: Volume, machine: Labels, slices: Mapping[int, bytes]) -> Labels:
    """Return a copy of the labels with these slices of the acquired plane in place of its own.

    Parameters
    ----------
    slices : index on the screen to the slice's labels, row by row, in the labels' own type

    Raises
    ------
    DecisionFieldError
        There is no such slice, or one has another size.
    """
    labels = machine.copy()
    view = to_canonical(volume.array, volume.affine_lps)
    canonical = view.axes.view(labels)
    plane = acquired_plane(view.axes)
    n_slices = volume.array.shape[0]
    for index, content in slices.items():
        if not 0 <= index < n_slices:
            raise DecisionFieldError(
                field=f"slices.{index}", problem=f"the series has slices 0 to {n_slices - 1}"
            )
        shown = cut(canonical, plane, index)
        if len(content) != shown.size * labels.dtype.itemsize:
            raise DecisionFieldError(
                field=f"slices.{index}",
                problem=f"{len(content)} bytes are not {shown.shape} labels of {labels.dtype}",
            )
        shown[...] = np.frombuffer(content, labels.dtype).reshape(shown.shape)
    return labels


def change_of(machine: Labels, person: Labels, voxel_volume_mm3: float) -> Change:
    """Compare two label maps of one grid, label by label."""
    highest = int(max(machine.max(initial=0), person.max(initial=0))) + 1
    before = np.bincount(machine.ravel(), minlength=highest)
    after = np.bincount(person.ravel(), minlength=highest)
    same = machine == person
    both = np.bincount(machine[same], minlength=highest)
    drawn = [label for label in range(1, highest) if before[label] + after[label]]
    return Change(
        dice={one: float(2 * both[one] / (before[one] + after[one])) for one in drawn},
        changed_ml=float(np.count_nonzero(~same)) * voxel_volume_mm3 / 1000,
    )


def segments_of(result: Result, spec: ModelSpec | None) -> tuple[Segment, ...]:
    """Return the coded segments of a result.

    Raises
    ------
    NotReviewableError
        The model that could name them is not served any more, or names others now.
    """
    if spec is None:
        raise NotReviewableError(
            result_id=result.id,
            problem=f"model {result.model} is not in the repository, so nothing can name its"
            " segments; put the model back, or reject the result",
        )
    names = {segment.label: segment.name for segment in spec.segments}
    for segment in result.summary.get("segments", ()):
        if names.get(segment["label"]) != segment["name"]:
            raise NotReviewableError(
                result_id=result.id,
                problem=f"label {segment['label']} was {segment['name']!r} in {result.model}"
                f" {result.model_version}, and is {names.get(segment['label'])!r} in"
                f" {spec.version}; run the model again, or reject the result",
            )
    return spec.segments


def algorithm_of(result: Result, spec: ModelSpec) -> Algorithm:
    """Return what made a stored result, as it was then."""
    engine = result.summary.get("engine", {})
    return Algorithm(
        name=result.model,
        version=result.model_version,
        weights_sha256=result.weights_sha256,
        software_version=str(result.summary.get("software_version", "unknown")),
        engine=f"{engine.get('engine', 'unknown')} {engine.get('precision', '')}".strip(),
        is_research=spec.status == "research",
    )


def next_key(result: Result) -> tuple[str, int]:
    """Return the key of a result's next version and its revision number (the machine's is 1)."""
    base, _, number = result.key.partition("/r")
    revision = int(number) + 1 if number else 2
    return f"{base}/r{revision}", revision


def correction_draft(
    result: Result,
    volume: Volume,
    labels: Labels,
    *,
    change: Change,
    spec: ModelSpec,
    reader: Reader,
    encodings: tuple[str, ...],
    machine_files: Mapping[str, Path],
    at: datetime,
    out: Path,
) -> ResultDraft:
    """Write every file of a corrected result and return its draft.

    The objects pass the same geometry gate as a machine's; SEG names the machine's SEG and the
    person, SR is verified and names the machine's SR. Kinds that need probabilities are not made:
    a person draws none.

    Raises
    ------
    DicomIoError, RefusedError, NotReviewableError
    """
    segments = segments_of(result, spec)
    key, revision = next_key(result)
    # Results of before tracking UIDs outlived a study have one of their own for each segment.
    is_tracked = "acquisition" in result.summary
    identity = ResultIdentity(
        key=key.partition("/r")[0],
        created_at=at,
        revision=revision,
        structure=structure_name(volume, result.model) if is_tracked else "",
    )
    measurements = measure(volume, labels, segments)
    if volume.modality == "PT":
        with suppress(ResultInputError):  # without a dose the activity stands, under its own unit
            measurements = in_suvbw(volume, measurements)
    found = LabelledVolume(
        volume=volume, labels=labels, segments=segments, measurements=measurements
    )

    def amend(encoding: Encoding, dataset: Dataset) -> Dataset:
        before = machine_files.get(encoding.name)
        predecessor = None if before is None else dcmread(before, stop_before_pixels=True)
        if encoding.base == "seg":
            numbers = segment_numbers(segments, "LABELMAP" if encoding.suffix else "BINARY")
            types = {numbers[label]: kind for label, kind in change.types.items()}
            return mark_corrected(dataset, reader=reader, types=types, predecessor=predecessor)
        if encoding.base == "sr" and predecessor is not None:
            return verify_report(
                dataset,
                reader=reader,
                at=at,
                instance_uid=str(dataset.SOPInstanceUID),
                series_uid=str(dataset.SeriesInstanceUID),
                predecessor=predecessor,
            )
        return dataset

    out.mkdir(parents=True, exist_ok=True)
    writer = ResultWriter(
        found,
        algorithm=algorithm_of(result, spec),
        identity=identity,
        out=out,
        stage=NotStage,
        amend=amend,
    )
    plan = [one for one in planned(encodings) if not one.needs_probabilities]
    files = writer.write(plan)
    files["labels"] = out / "labels.nii.gz"
    write_nifti(files["labels"], labels, volume.affine_lps)
    files["sheet"] = out / "sheet.png"
    write_contact_sheet(files["sheet"], volume, labels, measurements, spec)
    summary = _summary(result, key, identity, found, change, reader)
    files["result"] = out / "result.json"
    files["result"].write_text(json.dumps(summary, indent=2) + "\n")
    return ResultDraft(
        key=key,
        series_uid=result.series_uid,
        model=result.model,
        model_version=result.model_version,
        weights_sha256=result.weights_sha256,
        state=ResultState.FINDING if measurements else ResultState.NO_FINDING,
        files=files,
        summary=summary,
    )


def _summary(
    result: Result,
    key: str,
    identity: ResultIdentity,
    found: LabelledVolume,
    change: Change,
    reader: Reader,
) -> dict[str, Any]:
    """Return the machine's figures with the person's in their place."""
    names = {segment.label: segment.name for segment in found.segments}
    axes = longest_axes(found.volume, found.labels, [one.label for one in found.measurements])
    kept = {
        name: value
        for name, value in result.summary.items()
        if name not in {"files", "segments", "state", "timings_s", "stages_s", "peak_memory_mib"}
    }
    return kept | {
        "key": key,
        "corrects": result.key,
        "corrected_by": reader.name,
        "state": "finding" if found.measurements else "no_finding",
        "segments": [
            {
                "label": one.label,
                "name": names[one.label],
                "volume_ml": one.volume_ml,
                "mean": one.mean,
                "sd": one.sd,
                "unit": one.unit,
                "tracking_uid": identity.tracking_uid(one.label),
                **_axes(axes.get(one.label)),
            }
            for one in found.measurements
        ],
        "change": {
            "effort": change.effort.value,
            "dice": {names[label]: dice for label, dice in change.dice.items()},
            "changed_ml": change.changed_ml,
        },
    }


def _axes(found: Diameters | None) -> dict[str, float]:
    if found is None:
        return {}
    return {"long_axis_mm": found.long_axis_mm, "short_axis_mm": found.short_axis_mm}
