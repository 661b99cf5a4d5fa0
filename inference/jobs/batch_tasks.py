"""What a batch does on other cores and machines: plain functions of plain values, no shared state.

Each runs on one thread. An error that the input causes comes back as a value with its code, since
an exception would have to survive the way between processes; anything raised is a fault of ours.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dicom_io.errors import DicomIoError
from dicom_io.read import read_volume
from dicom_io.series import Series, scan, sha256_of_file
from dicom_io.volume import Float64, Volume, VolumeSource, VoxelArray
from inference.domain.errors import RefusedError
from inference.domain.ports import Labels, Prediction
from inference.jobs.analysis import (
    StageClock,
    key_of_instances,
    write_analysis,
)
from inference.pipeline.applicability import applicable
from inference.pipeline.spec import ModelSpec
from inference.version import SOFTWARE_VERSION

Files = tuple[Path, ...] | tuple[bytes, ...]
"""Instances by path, where the other side sees our disk, else by content."""


@dataclass(frozen=True, kw_only=True)
class HeaderFact:
    """What a file's header says, as far as grouping needs it; ``code`` is set where it is none."""

    path: Path
    study_uid: str = ""
    code: str = ""


@dataclass(frozen=True, kw_only=True)
class SeriesFiles:
    """A series that the model may fit: which of the study's files it is, by index."""

    series_uid: str
    modality: str
    indices: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Survey:
    """What headers say of a study; ``reasons`` are why the model fits no more series than these."""

    series: tuple[SeriesFiles, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class SeriesRead:
    """A decoded series, or why there is none: exactly one of array, refusal, reason, reused key."""

    array: VoxelArray | None = None
    affine_lps: Float64 | None = None
    modality: str = ""
    unit: str = ""
    refused_code: str = ""
    refused: str = ""
    reason: str = ""
    reused_key: str = ""
    seconds: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Written:
    """The files of one result by kind, each with its name, and its summary; or the refusal."""

    files: dict[str, tuple[str, bytes]] = field(default_factory=dict, repr=False)
    summary: dict[str, Any] = field(default_factory=dict)
    refused_code: str = ""
    refused: str = ""


def software_version() -> str:
    """Return the version on the other side, to be compared with ours."""
    return SOFTWARE_VERSION


def read_headers(paths: Sequence[Path]) -> tuple[HeaderFact, ...]:
    """Tell which study each file belongs to; a file that cannot be read carries the code."""
    found = scan(paths)
    facts = [
        HeaderFact(path=instance.path, study_uid=series.study_uid)
        for series in found.series
        for instance in series.instances
    ]
    facts += [HeaderFact(path=skipped.path, code=skipped.code) for skipped in found.skipped]
    return tuple(facts)


def survey(files: Files, spec: ModelSpec) -> Survey:
    """Read headers and choose the series that the model's header scope fits."""
    with _on_disk(files) as paths:
        index_of = {path: index for index, path in enumerate(paths)}
        images = [series for series in scan(paths).series if series.is_image]
        reasons = {series.series_uid: applicable(spec, series) for series in images}
        return Survey(
            series=tuple(
                SeriesFiles(
                    series_uid=series.series_uid,
                    modality=series.modality,
                    indices=tuple(index_of[instance.path] for instance in series.instances),
                )
                for series in images
                if reasons[series.series_uid] is None
            ),
            reasons=tuple(sorted({reason for reason in reasons.values() if reason is not None})),
        )


def read_series(
    files: Files, spec: ModelSpec, stored_keys: frozenset[str]
) -> tuple[SeriesRead, VolumeSource | None]:
    """Decode the files of one series into a volume, unless its result is there already.

    The instances come apart from the voxels, so that whoever only needs voxels is not sent 300
    headers.
    """
    started = time.monotonic()
    with _on_disk(files) as paths:
        (series,) = scan(paths).series
        key = _key_of_files(series, spec)
        if key in stored_keys:
            return SeriesRead(reused_key=key), None
        try:
            volume = read_volume(series, workers=1)
        except DicomIoError as error:
            return SeriesRead(refused_code=error.code, refused=str(error)), None
        reason = applicable(spec, volume)
        if reason is not None:
            return SeriesRead(reason=reason), None
        read = SeriesRead(
            array=volume.array,
            affine_lps=volume.affine_lps,
            modality=volume.modality,
            unit=volume.unit,
            seconds=time.monotonic() - started,
        )
        return read, volume.source


def write_results(
    read: SeriesRead,
    source: VolumeSource,
    spec: ModelSpec,
    labels: Labels,
    report: dict[str, Any],
    timings_s: dict[str, float],
    encodings: tuple[str, ...],
) -> Written:
    """Measure, encode and check one result; its files come back as bytes.

    Parameters
    ----------
    labels : (slice, row, column), the grid of ``read.array``
    report : what the model server said
    timings_s : seconds so far, by name
    """
    assert read.array is not None
    assert read.affine_lps is not None
    volume = Volume(
        array=read.array,
        affine_lps=read.affine_lps,
        modality=read.modality,
        unit=read.unit,
        source=source,
    )
    clock = StageClock(lambda stage: None, before_s=timings_s)
    with tempfile.TemporaryDirectory(prefix="clinfer-batch-") as folder:
        out = Path(folder)
        try:
            analysis = write_analysis(
                volume,
                spec,
                Prediction(labels=labels, report=report),
                out,
                clock=clock,
                encodings=encodings,
            )
        except (DicomIoError, RefusedError) as error:
            return Written(refused_code=error.code, refused=str(error))
        return Written(
            files={kind: (path.name, path.read_bytes()) for kind, path in analysis.files.items()},
            summary=analysis.as_json(out),
        )


def _key_of_files(series: Series, spec: ModelSpec) -> str:
    """Return the result's key before anything is decoded; see `key_of_instances`."""
    return key_of_instances(
        ((one.instance_uid, sha256_of_file(one.path)) for one in series.instances), spec
    )


@contextmanager
def _on_disk(files: Files) -> Iterator[tuple[Path, ...]]:
    """Give paths: the ones that came, or fresh files with the content that came."""
    with tempfile.TemporaryDirectory(prefix="clinfer-batch-") as folder:
        paths: list[Path] = []
        both: Sequence[Path | bytes] = files
        for number, file in enumerate(both):
            if isinstance(file, Path):
                paths.append(file)
            else:
                paths.append(Path(folder) / f"{number:06d}")
                paths[-1].write_bytes(file)
        yield tuple(paths)
