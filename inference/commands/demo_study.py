"""A built thorax study as DICOM CT: what `clinfer demo` sends when nobody brings one."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

from inference.version import SOFTWARE_VERSION

RESCALE_INTERCEPT_HU = -1024
LUNG_WINDOW_HU = (-500, 1500)
PHANTOM_SEED = 7
PHANTOM_SHAPE = (132, 352, 352)
PHANTOM_SPACING_MM = (2.5, 1.05, 1.05)
"""A whole thorax in a size that two cores finish in seconds."""


def write_demo_study(folder: Path) -> tuple[Path, ...]:
    """Build the phantom and write it as a CT series; the same anatomy each time, new UIDs.

    Returns
    -------
    One file per slice, head first.
    """
    from training.phantoms import thorax_phantom  # builds nothing at import, but pulls in SciPy

    array, _, affine_lps = thorax_phantom(PHANTOM_SEED, PHANTOM_SHAPE, PHANTOM_SPACING_MM)
    return write_ct_series(folder, array, affine_lps)


def write_ct_series(
    folder: Path, array: NDArray[np.int16], affine_lps: NDArray[np.float64]
) -> tuple[Path, ...]:
    """Write a volume as one CT Image object per slice.

    Parameters
    ----------
    array : (slice, row, column) Hounsfield units, at least -1024
    affine_lps : (4, 4); the columns of a slice must be at right angles to its rows

    Returns
    -------
    One file per slice, the last slice (the head, for an axial stack) first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC)
    common = _common(now)
    slice_step, row_step, column_step = (affine_lps[:3, axis] for axis in range(3))
    spacing_mm = [float(np.linalg.norm(step)) for step in (slice_step, row_step, column_step)]
    paths: list[Path] = []
    for number, index in enumerate(reversed(range(array.shape[0])), start=1):
        dataset = _image(common, array[index], number)
        dataset.ImagePositionPatient = _decimals(affine_lps[:3, 3] + index * slice_step)
        dataset.ImageOrientationPatient = _decimals(
            np.concatenate([column_step / spacing_mm[2], row_step / spacing_mm[1]])
        )
        dataset.PixelSpacing = _decimals(np.array([spacing_mm[1], spacing_mm[2]]))
        dataset.SliceThickness = _decimals(np.array([spacing_mm[0]]))[0]
        paths.append(folder / f"CT{number:04d}.dcm")
        dataset.save_as(paths[-1], enforce_file_format=True)
    return tuple(paths)


def _common(now: datetime) -> Dataset:
    """Return what every slice says."""
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    dataset.SOPClassUID = CTImageStorage
    dataset.StudyDate = dataset.SeriesDate = dataset.ContentDate = f"{now:%Y%m%d}"
    dataset.StudyTime = dataset.SeriesTime = dataset.ContentTime = f"{now:%H%M%S}"
    dataset.AccessionNumber = ""
    dataset.Modality = "CT"
    dataset.Manufacturer = "clinfer"
    dataset.ManufacturerModelName = "thorax phantom"
    dataset.SoftwareVersions = SOFTWARE_VERSION
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription = "CT thorax (built phantom)"
    dataset.SeriesDescription = "Thorax 2.5 mm"
    dataset.PatientName = "Phantom^Thorax"
    dataset.PatientID = "PHANTOM-1"
    dataset.PatientBirthDate = ""
    dataset.PatientSex = "O"
    dataset.BodyPartExamined = "CHEST"
    dataset.KVP = "120"
    dataset.PatientPosition = "HFS"
    dataset.StudyInstanceUID = generate_uid(prefix=None)
    dataset.SeriesInstanceUID = generate_uid(prefix=None)
    dataset.StudyID = "1"
    dataset.SeriesNumber = 1
    dataset.AcquisitionNumber = 1
    dataset.FrameOfReferenceUID = generate_uid(prefix=None)
    dataset.PositionReferenceIndicator = ""
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.RescaleIntercept, dataset.RescaleSlope = str(RESCALE_INTERCEPT_HU), "1"
    dataset.RescaleType = "HU"
    dataset.WindowCenter, dataset.WindowWidth = (str(value) for value in LUNG_WINDOW_HU)
    return dataset


def _image(common: Dataset, hounsfield: NDArray[np.int16], number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(prefix=None)
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.update(common)
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.InstanceNumber = number
    dataset.Rows, dataset.Columns = hounsfield.shape
    stored = np.clip(hounsfield.astype(np.int32) - RESCALE_INTERCEPT_HU, 0, 4095)
    dataset.PixelData = stored.astype("<u2").tobytes()
    return dataset


def _decimals(values: NDArray[np.float64]) -> list[str]:
    """Write numbers in at most 16 characters, as VR DS wants them."""
    return [f"{value:.10g}"[:16] for value in values]
