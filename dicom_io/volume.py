"""A volume: voxels with their place in the patient, and the instances they came from."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

Float64 = NDArray[np.float64]
VoxelArray = NDArray[np.int16] | NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SourceInstance:
    """One DICOM instance that a volume was read from.

    ``frame_numbers`` (1-based) are the frames that became slices, in slice order; a single-frame
    instance has ``(1,)``. ``header`` is the dataset without its pixel data.
    """

    sop_class_uid: str
    instance_uid: str
    path: Path
    sha256: str
    header: Dataset = field(repr=False, compare=False)
    frame_numbers: tuple[int, ...] = (1,)


@dataclass(frozen=True, kw_only=True)
class VolumeSource:
    """Where a volume's voxels came from; ``instances`` in slice order.

    For single-frame series, slice ``k`` is ``instances[k]``. For an enhanced multi-frame instance
    there is one instance, and slice ``k`` is its frame ``instances[0].frame_numbers[k]``.

    ``resampled`` is True where a tilted stack was resampled on request: the array's grid is then
    not the instances' own, so slice ``k`` is no instance, and results are placed by the affine.
    """

    study_uid: str
    series_uid: str
    frame_of_reference_uid: str
    instances: tuple[SourceInstance, ...]
    resampled: bool = False


@dataclass(frozen=True, kw_only=True)
class Volume:
    """A 3D array with its geometry.

    Attributes
    ----------
    array : (slice, row, column), C-contiguous, int16 or float32
        Modality values: Hounsfield units for CT, rescaled values for MR and PET.
    affine_lps : (4, 4)
        ``affine_lps @ (slice, row, column, 1)`` is the centre of that voxel in LPS millimetres.
    modality : DICOM Modality ("CT", "MR", "PT"), or "" where a file does not say (NIfTI).
    unit : UCUM code of the voxel values: ``[hnsf'U]`` for CT, ``1`` where the values have none.
    source : the DICOM instances, or None for a file format without them (NIfTI).
    """

    array: VoxelArray
    affine_lps: Float64
    modality: str = ""
    unit: str = "1"
    source: VolumeSource | None = None

    def __post_init__(self) -> None:
        assert self.array.ndim == 3, "a volume has three axes"
        assert self.affine_lps.shape == (4, 4), "an affine is (4, 4)"

    @property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Distance between voxel centres along (slice, row, column)."""
        lengths = np.linalg.norm(self.affine_lps[:3, :3], axis=0)
        return (float(lengths[0]), float(lengths[1]), float(lengths[2]))

    @property
    def voxel_volume_mm3(self) -> float:
        """Volume of one voxel; right for a sheared grid too."""
        return float(abs(np.linalg.det(self.affine_lps[:3, :3])))
