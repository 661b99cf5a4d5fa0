"""Whether a model may be used on a series or a volume: its scope against known facts.

Rules, from the surest fact to the least sure:

- modality must be listed; a file format that does not say it (NIfTI) passes;
- slices, spacing and extent must be in range, along canonical axes (slice to Superior, row to
  Posterior, column to Left), so that a thick sagittal series does not pass as an axial one;
- localizers and projections are never volumes; DERIVED and SECONDARY alone say nothing against
  one (reformatted and de-identified series carry them);
- a body part that is present and not listed refuses; an absent one passes, because
  BodyPartExamined is optional; age is not judged.

What a series' headers do not say is judged when the volume is read; nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dicom_io.volume import Volume
from inference.domain.errors import RefusedError
from inference.pipeline.preprocess import to_canonical
from inference.pipeline.spec import ModelSpec, Scope

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

NOT_A_VOLUME = frozenset(
    {"LOCALIZER", "PROJECTION IMAGE", "MIP", "MINIP", "MAXIMUM", "MINIMUM", "SCREEN SAVE", "DOSE"}
)
"""ImageType values (third and later; PS3.3 C.8.16.1.3 and C.8.2.1.1.1) of what is no volume."""

SPACING_SLACK_MM = 1e-3
"""DICOM writes spacings as decimal strings; 5.0001 mm is 5 mm."""


class InstanceLike(Protocol):
    """One instance of a series: its header without pixels."""

    @property
    def header(self) -> Dataset:
        """Return the dataset."""
        ...


class SeriesLike(Protocol):
    """What is asked of a series; `dicom_io.series.Series` is one."""

    @property
    def modality(self) -> str:
        """Return DICOM Modality."""
        ...

    @property
    def body_part(self) -> str:
        """Return BodyPartExamined, or "" where absent."""
        ...

    @property
    def instances(self) -> Sequence[InstanceLike]:
        """Return the instances, in any order."""
        ...


def applicable(spec: ModelSpec, target: Volume | SeriesLike) -> str | None:
    """Return why the model may not be used on the volume or series, or None where it may."""
    scope = spec.scope
    if isinstance(target, Volume):
        headers = [] if target.source is None else [i.header for i in target.source.instances]
        body_part = str(headers[0].get("BodyPartExamined", "") or "") if headers else ""
        shape: tuple[int, ...] | None = target.array.shape
        affine: Any = target.affine_lps
    else:
        headers = [instance.header for instance in target.instances]
        body_part = target.body_part or ""
        shape, affine = _geometry_of(headers)
    return (
        _modality_problem(scope, target.modality)
        or _image_type_problem(headers)
        or _body_part_problem(scope, body_part)
        or (None if shape is None else _placed_problem(scope, shape, affine))
    )


def geometry_problem(scope: Scope, shape: Sequence[int], spacing_mm: Sequence[float]) -> str | None:
    """Return which of slices, spacing or extent is out of range, with unit and range, or None.

    Both along canonical axes (slice to Superior, row to Posterior, column to Left).
    """
    if shape[0] < scope.min_slices:
        return f"slices: {shape[0]} along the body axis, the model needs {scope.min_slices}"
    ranges = (
        ("slice spacing", spacing_mm[0], scope.slice_spacing_mm),
        ("row spacing", spacing_mm[1], scope.in_plane_spacing_mm),
        ("column spacing", spacing_mm[2], scope.in_plane_spacing_mm),
    )
    for name, value, (low, high) in ranges:
        if not low - SPACING_SLACK_MM <= value <= high + SPACING_SLACK_MM:
            return f"{name}: {value:.4g} mm is outside the model's range [{low:g}, {high:g}] mm"
    for axis, name in enumerate(("slice", "row", "column")):
        extent = shape[axis] * spacing_mm[axis]
        low = scope.min_extent_mm[axis]
        if extent < low - SPACING_SLACK_MM:
            return f"{name} extent: {extent:.4g} mm is below the model's least, {low:g} mm"
        if scope.max_extent_mm is not None:
            high = scope.max_extent_mm[axis]
            if extent > high + SPACING_SLACK_MM:
                return f"{name} extent: {extent:.4g} mm is above the model's most, {high:g} mm"
    return None


def _modality_problem(scope: Scope, modality: str) -> str | None:
    if modality and modality not in scope.modalities:
        return f"modality: {modality} is not one of {', '.join(scope.modalities)}"
    return None


def _image_type_problem(headers: Sequence[Dataset]) -> str | None:
    """Refuse where every instance says that it is no part of a volume."""
    found: set[str] = set()
    for header in headers:
        values = header.get("ImageType") or []
        listed = [values] if isinstance(values, str) else list(values)
        kinds = {str(value).strip().upper() for value in listed[2:]} & NOT_A_VOLUME
        if not kinds:
            return None
        found |= kinds
    return f"image type: {', '.join(sorted(found))} is not a volume" if found else None


def _body_part_problem(scope: Scope, body_part: str) -> str | None:
    listed = {part.strip().upper() for part in scope.body_parts}
    found = body_part.strip().upper()
    if listed and found and found not in listed:
        return f"body part: {found} is not one of {', '.join(sorted(listed))}"
    return None


def _placed_problem(scope: Scope, shape: tuple[int, ...], affine: Any) -> str | None:
    try:
        view = to_canonical(np.broadcast_to(np.int16(0), shape), affine)
    except RefusedError as error:
        return str(error)
    return geometry_problem(scope, view.array.shape, view.spacing_mm)


def _geometry_of(headers: Sequence[Dataset]) -> tuple[tuple[int, ...] | None, Any]:
    """Return shape and affine of a series of single frames, or (None, None) where not all say."""
    needed = ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows", "Columns")
    try:  # pydicom turns text into numbers at access, so a malformed value raises here
        if len(headers) < 2 or any(not header.get(name) for header in headers for name in needed):
            return None, None
        first = headers[0]
        cosines = np.asarray(first.ImageOrientationPatient, float).reshape(2, 3)
        between_rows, between_columns = (float(value) for value in first.PixelSpacing)
        positions = np.asarray([list(header.ImagePositionPatient) for header in headers], float)
    except (TypeError, ValueError):
        return None, None
    normal = np.cross(cosines[0], cosines[1])
    along = np.unique(np.round(positions @ normal, 3))
    if len(along) < 2:
        return None, None
    affine = np.eye(4)
    affine[:3, 0] = normal * float(np.median(np.diff(along)))
    affine[:3, 1] = cosines[1] * between_rows
    affine[:3, 2] = cosines[0] * between_columns
    if not np.isfinite(affine).all():
        return None, None
    return (len(along), int(first.Rows), int(first.Columns)), affine
