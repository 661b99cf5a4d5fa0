"""A CT of two boxes that no flip and no swap of axes maps onto itself, and its zip."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from tests.builders.dicom import Identity, affine_from, as_bytes, ct_series

SHAPE = (14, 33, 25)
SPACING_MM = (4.0, 1.5, 2.0)
ORIGIN_MM = (-23.0, -31.0, 105.0)
LEFT_BOX = (slice(2, 9), slice(4, 12), slice(16, 22))
RIGHT_BOX = (slice(6, 12), slice(18, 30), slice(3, 9))
"""(slice, row, column); slices go to the head, rows to the back, columns to the patient's left."""

BACKGROUND_HU, LEFT_HU, RIGHT_HU = -100, 300, 700


@dataclass(frozen=True, kw_only=True)
class BuiltStudy:
    """A study's instances, and what they show."""

    identity: Identity
    instances: list[FileDataset]

    @property
    def study_uid(self) -> str:
        return self.identity.study_uid

    def zipped(self, extra: dict[str, bytes] | None = None) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for number, instance in enumerate(self.instances):
                archive.writestr(f"IM{number:04d}", as_bytes(instance))
            for name, content in (extra or {}).items():
                archive.writestr(name, content)
        return buffer.getvalue()

    def files(self) -> list[bytes]:
        return [as_bytes(instance) for instance in self.instances]


def two_boxes_array() -> NDArray[np.int16]:
    array = np.full(SHAPE, BACKGROUND_HU, np.int16)
    array[LEFT_BOX] = LEFT_HU
    array[RIGHT_BOX] = RIGHT_HU
    return array


def two_boxes_affine() -> NDArray[np.float64]:
    return affine_from(SPACING_MM, origin_mm=ORIGIN_MM)


def two_boxes_study(
    *, slices: Sequence[int] | None = None, identity: Identity | None = None
) -> BuiltStudy:
    """The two boxes as an axial CT; ``slices`` keeps only these."""
    who = identity or Identity(patient_name="Müller^Änne", patient_id="SECRET-77")
    series = ct_series(array=two_boxes_array(), affine_lps=two_boxes_affine(), identity=who)
    kept = series if slices is None else [series[index] for index in slices]
    return BuiltStudy(identity=who, instances=kept)


def empty_study() -> BuiltStudy:
    """The same grid with no box in it."""
    who = Identity()
    array = np.full(SHAPE, BACKGROUND_HU, np.int16)
    array[0, 0, 0] = 0
    return BuiltStudy(
        identity=who,
        instances=ct_series(array=array, affine_lps=two_boxes_affine(), identity=who),
    )


def write(study: BuiltStudy, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, content in enumerate(study.files()):
        path = folder / f"IM{number:04d}.dcm"
        path.write_bytes(content)
        paths.append(path)
    return paths
