"""DICOM series made from an array and an affine: CT, MR and PET slices, and enhanced MR.

Every built object carries the attributes that its IOD requires, so that result objects which
inherit patient and study from it pass the validators too. File names and instance numbers say
nothing about the order of slices unless asked to.
"""

from __future__ import annotations

import copy
import io
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import generate_uid
from pydicom.valuerep import format_number_as_ds

CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR_IMAGE = "1.2.840.10008.5.1.4.1.1.4.1"
PET_IMAGE = "1.2.840.10008.5.1.4.1.1.128"
SOP_CLASSES = {"CT": CT_IMAGE, "MR": MR_IMAGE, "PT": PET_IMAGE}

TRANSFER_SYNTAXES = {
    "implicit": "1.2.840.10008.1.2",
    "explicit": "1.2.840.10008.1.2.1",
    "deflated": "1.2.840.10008.1.2.1.99",
    "big-endian": "1.2.840.10008.1.2.2",
    "jpeg-lossless": "1.2.840.10008.1.2.4.70",
    "jpeg-ls": "1.2.840.10008.1.2.4.80",
    "jpeg-2000": "1.2.840.10008.1.2.4.90",
    "rle": "1.2.840.10008.1.2.5",
}
FileOrder = Literal["forward", "reverse", "shuffled"]
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Identity:
    """Who and what a built series belongs to; the same identity gives the same study."""

    patient_name: str = "Phantom^Built"
    patient_id: str = "CLINFER-1"
    study_uid: str = field(default_factory=generate_uid)
    series_uid: str = field(default_factory=generate_uid)
    frame_of_reference_uid: str = field(default_factory=generate_uid)
    series_number: int = 1
    description: str = "built series"
    body_part: str = "CHEST"


@dataclass(frozen=True, kw_only=True)
class Storage:
    """How pixels are stored: bits, sign, photometric interpretation, and the rescale.

    ``rescale`` is (slope, intercept), one for all slices or one for each; None leaves both out.
    Arrays given to the builders hold modality values; stored = (value - intercept) / slope.
    """

    bits_allocated: int = 16
    bits_stored: int = 16
    signed: bool = True
    photometric: str = "MONOCHROME2"
    rescale: tuple[float, float] | Sequence[tuple[float, float]] | None = (1.0, 0.0)

    def of_slice(self, index: int) -> tuple[float, float] | None:
        if self.rescale is None or isinstance(self.rescale[0], float | int):
            return self.rescale  # type: ignore[return-value]
        return self.rescale[index]  # type: ignore[return-value]

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(f"<{'i' if self.signed else 'u'}{self.bits_allocated // 8}")


def affine_from(
    spacing_mm: tuple[float, float, float],
    *,
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    origin_mm: Sequence[float] = (-31.25, 12.5, -47.75),
    shear_mm: Sequence[float] = (0.0, 0.0, 0.0),
) -> Float64:
    """(slice, row, column) to LPS; slices step along the normal, plus ``shear_mm`` each."""
    along_columns, along_rows = np.array(orientation[:3], float), np.array(orientation[3:], float)
    affine = np.eye(4)
    affine[:3, 0] = np.cross(along_columns, along_rows) * spacing_mm[0] + np.array(shear_mm)
    affine[:3, 1] = along_rows * spacing_mm[1]
    affine[:3, 2] = along_columns * spacing_mm[2]
    affine[:3, 3] = origin_mm
    return affine


def ramp(shape: tuple[int, int, int], *, low: int = -900, high: int = 1500) -> NDArray[np.int16]:
    """Whole numbers in which no two neighbours and no two slices are alike."""
    values = np.random.default_rng(3).permutation(np.linspace(low, high, int(np.prod(shape))))
    return np.rint(values).astype(np.int16).reshape(shape)


def ct_series(
    *,
    slices: int = 4,
    rows: int = 5,
    columns: int = 7,
    spacing_mm: tuple[float, float, float] = (2.0, 0.5, 0.7),
    array: NDArray[Any] | None = None,
    affine_lps: Float64 | None = None,
    storage: Storage | None = None,
    identity: Identity | None = None,
) -> list[FileDataset]:
    """CT slices, in slice order; Hounsfield units, stored unsigned with intercept -1024."""
    values = ramp((slices, rows, columns)) if array is None else array
    affine = affine_from(spacing_mm) if affine_lps is None else affine_lps
    store = storage or Storage(signed=False, bits_stored=12, rescale=(1.0, -1024.0))
    return image_series(values, affine, modality="CT", storage=store, identity=identity)


def mr_series(
    array: NDArray[Any],
    affine_lps: Float64,
    *,
    rescale: tuple[float, float] | None = None,
    identity: Identity | None = None,
) -> list[FileDataset]:
    """MR slices from any finite values.

    Without ``rescale``, whole numbers from 0 to 65535 are stored as they are and everything else
    gets the slope and intercept that spread it over 16 bits, so that no value is cut off.
    """
    if rescale is None and _is_whole(array, 0, 65535):
        store = Storage(signed=False, rescale=None)
    else:
        store = Storage(signed=False, rescale=rescale or spread_over_16_bits(array))
    return image_series(array, affine_lps, modality="MR", storage=store, identity=identity)


def spread_over_16_bits(array: NDArray[Any]) -> tuple[float, float]:
    """Slope and intercept, as a decimal string can say them, that store ``array`` unsigned."""
    low, high = float(array.min()), float(array.max())
    slope = float(format_number_as_ds(max(high - low, 1e-6) / 65535 * (1 + 1e-9)))
    return slope, float(format_number_as_ds(low))


def image_series(
    array: NDArray[Any],
    affine_lps: Float64,
    *,
    modality: str,
    storage: Storage,
    identity: Identity | None = None,
) -> list[FileDataset]:
    """Single-frame instances of ``array`` (slice, row, column), in slice order."""
    who = identity or Identity()
    template = _template(SOP_CLASSES[modality], modality, who)
    _describe_plane(template, affine_lps)
    _describe_pixels(template, array.shape, storage)
    series: list[FileDataset] = []
    for index, values in enumerate(array):
        dataset = _copy_of(template)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        dataset.InstanceNumber = index + 1
        dataset.ImagePositionPatient = _decimals(affine_lps[:3, 3] + index * affine_lps[:3, 0])
        rescale = storage.of_slice(index)
        if rescale is not None:
            dataset.RescaleSlope, dataset.RescaleIntercept = _decimals(rescale)
        dataset.PixelData = stored_pixels(values, storage, rescale)
        series.append(dataset)
    return series


def enhanced_mr(
    array: NDArray[Any],
    affine_lps: Float64,
    *,
    frame_order: Sequence[int] | None = None,
    share_rescale: bool = True,
    storage: Storage | None = None,
    identity: Identity | None = None,
) -> FileDataset:
    """One enhanced MR instance; frame ``f`` holds slice ``frame_order[f]``."""
    store = storage or Storage(signed=False, rescale=(1.0, 0.0))
    order = list(range(len(array))) if frame_order is None else list(frame_order)
    dataset = _template(ENHANCED_MR_IMAGE, "MR", identity or Identity())
    _describe_pixels(dataset, array.shape, store)
    dataset.InstanceNumber = 1
    dataset.NumberOfFrames = len(array)
    shared = Dataset()
    shared.PixelMeasuresSequence = DicomSequence([_pixel_measures(affine_lps)])
    shared.PlaneOrientationSequence = DicomSequence([_plane_orientation(affine_lps)])
    shared.FrameAnatomySequence = DicomSequence([_frame_anatomy()])
    shared.MRImageFrameTypeSequence = DicomSequence([_frame_type()])
    if share_rescale:
        shared.PixelValueTransformationSequence = DicomSequence([_transformation(store, 0)])
    dataset.SharedFunctionalGroupsSequence = DicomSequence([shared])
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(
        [
            _frame_groups(affine_lps, number, index, None if share_rescale else store)
            for number, index in enumerate(order)
        ]
    )
    _describe_dimensions(dataset)
    dataset.PixelData = b"".join(
        stored_pixels(array[index], store, store.of_slice(index)) for index in order
    )
    return dataset


def stored_pixels(
    values: NDArray[Any], storage: Storage, rescale: tuple[float, float] | None
) -> bytes:
    """Little-endian stored values of one slice of modality values."""
    slope, intercept = rescale or (1.0, 0.0)
    stored = np.rint((values.astype(np.float64) - intercept) / slope)
    if storage.photometric == "MONOCHROME1":  # low is bright
        stored = (-1 if storage.signed else 2**storage.bits_stored - 1) - stored
    limits = np.iinfo(storage.dtype)
    assert limits.min <= stored.min(), "a value is too low to be stored"
    assert stored.max() <= limits.max, "a value is too high to be stored"
    data = stored.astype(storage.dtype).tobytes()
    return data + b"\0" * (len(data) % 2)


def write_series(
    folder: Path,
    array: NDArray[Any],
    affine_lps: Float64,
    modality: str = "CT",
    *,
    file_order: FileOrder = "shuffled",
    transfer_syntax: str = "explicit",
    storage: Storage | None = None,
    identity: Identity | None = None,
    seed: int = 7,
) -> tuple[Path, ...]:
    """Write an array as one series; returns the files in slice order.

    ``file_order`` says how names (and instance numbers) run against the slices: along, against,
    or at random.
    """
    store = storage or (
        Storage(signed=False, bits_stored=12, rescale=(1.0, -1024.0))
        if modality == "CT"
        else Storage(signed=False, rescale=None if modality == "MR" else (1.0, 0.0))
    )
    series = image_series(array, affine_lps, modality=modality, storage=store, identity=identity)
    return write_instances(
        folder, series, file_order=file_order, transfer_syntax=transfer_syntax, seed=seed
    )


def write_instances(
    folder: Path,
    series: Sequence[FileDataset],
    *,
    file_order: FileOrder = "shuffled",
    transfer_syntax: str = "explicit",
    seed: int = 7,
) -> tuple[Path, ...]:
    """Write built instances under names that run as ``file_order`` says; returns them in order."""
    folder.mkdir(parents=True, exist_ok=True)
    numbers = list(range(1, len(series) + 1))
    if file_order == "reverse":
        numbers.reverse()
    elif file_order == "shuffled":
        random.Random(seed).shuffle(numbers)  # noqa: S311 - a test input
    paths = []
    for dataset, number in zip(series, numbers, strict=True):
        dataset.InstanceNumber = number
        path = folder / f"IM{number:05d}.dcm"
        save(dataset, path, transfer_syntax=transfer_syntax)
        paths.append(path)
    return tuple(paths)


def save(dataset: FileDataset, path: Path, *, transfer_syntax: str = "explicit") -> Path:
    """Write one built (uncompressed, little-endian) instance in a transfer syntax."""
    if transfer_syntax == "jpeg-lossless":
        plain = save(dataset, path.with_suffix(".plain"), transfer_syntax="explicit")
        subprocess.run(["dcmcjpeg", "+e1", str(plain), str(path)], check=True)  # dcmtk
        plain.unlink()
        return path
    written = _copy_of(dataset)
    written.file_meta.TransferSyntaxUID = pydicom.uid.UID(TRANSFER_SYNTAXES[transfer_syntax])
    if transfer_syntax == "big-endian":
        words = np.frombuffer(written.PixelData, "<u2")
        written.PixelData = words.byteswap().tobytes()
        written["PixelData"].VR = "OW"
        written = FileDataset("", written, written.preamble, written.file_meta, False, False)
    elif transfer_syntax in ENCODERS:
        encode, bits = ENCODERS[transfer_syntax], written.BitsStored
        frames = [encode(frame, bits) for frame in _frame_arrays(written)]
        written.PixelData = encapsulate(frames)
        written["PixelData"].VR = "OB"
        written["PixelData"].is_undefined_length = True
    pydicom.dcmwrite(path, written, enforce_file_format=True)
    return path


def as_bytes(dataset: FileDataset) -> bytes:
    """A built instance as the bytes of its file, explicit little endian."""
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def _encode_jpeg_2000(frame: NDArray[Any], bits_stored: int) -> bytes:
    from openjpeg.utils import encode_array

    return bytes(encode_array(frame, bits_stored, photometric_interpretation=2))


def _encode_jpeg_ls(frame: NDArray[Any], bits_stored: int) -> bytes:
    import jpeg_ls

    rows, columns = frame.shape
    return bytes(jpeg_ls.encode_buffer(frame.tobytes(), rows, columns, 1, bits_stored))


def _encode_rle(frame: NDArray[Any], bits_stored: int) -> bytes:
    from rle.utils import encode_pixel_data

    return bytes(
        encode_pixel_data(
            frame.tobytes(),
            byteorder="<",
            rows=frame.shape[0],
            columns=frame.shape[1],
            samples_per_pixel=1,
            bits_allocated=8 * frame.dtype.itemsize,
            number_of_frames=1,
        )
    )


ENCODERS: dict[str, Callable[[NDArray[Any], int], bytes]] = {
    "jpeg-2000": _encode_jpeg_2000,
    "jpeg-ls": _encode_jpeg_ls,
    "rle": _encode_rle,
}


def _frame_arrays(dataset: FileDataset) -> NDArray[Any]:
    kind = "i" if dataset.PixelRepresentation else "u"
    stored = np.frombuffer(dataset.PixelData, f"<{kind}{dataset.BitsAllocated // 8}")
    n_pixels = int(dataset.get("NumberOfFrames", 1)) * dataset.Rows * dataset.Columns
    return stored[:n_pixels].reshape(-1, dataset.Rows, dataset.Columns)  # without the pad byte


def _template(sop_class: str, modality: str, who: Identity) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = sop_class
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    meta.ImplementationClassUID = "1.2.826.0.1.3680043.8.498.1"
    dataset = FileDataset("", {}, preamble=b"\0" * 128, file_meta=meta)
    dataset.SOPClassUID, dataset.SOPInstanceUID = sop_class, meta.MediaStorageSOPInstanceUID
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.PatientName, dataset.PatientID = who.patient_name, who.patient_id
    dataset.PatientBirthDate, dataset.PatientSex = "19700101", "O"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = who.study_uid, who.series_uid
    dataset.StudyDate = dataset.SeriesDate = dataset.AcquisitionDate = "20260102"
    dataset.ContentDate = "20260102"
    dataset.StudyTime = dataset.SeriesTime = dataset.AcquisitionTime = "101500"
    dataset.ContentTime = "101500"
    dataset.AccessionNumber, dataset.StudyID = "A1", "S1"
    dataset.ReferringPhysicianName = ""
    dataset.StudyDescription, dataset.SeriesDescription = "built study", who.description
    dataset.SeriesNumber, dataset.AcquisitionNumber = who.series_number, 1
    dataset.Modality, dataset.BodyPartExamined = modality, who.body_part
    dataset.Manufacturer, dataset.ManufacturerModelName = "clinfer", "builder"
    dataset.DeviceSerialNumber, dataset.SoftwareVersions = "1", "1"
    dataset.PatientPosition = "HFS"
    dataset.FrameOfReferenceUID = who.frame_of_reference_uid
    dataset.PositionReferenceIndicator = ""
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    _MODALITY_ATTRIBUTES[sop_class](dataset)
    return dataset


def _ct_attributes(dataset: FileDataset) -> None:
    dataset.KVP, dataset.RescaleType = "120", "HU"


def _mr_attributes(dataset: FileDataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "OTHER"]
    dataset.ScanningSequence, dataset.SequenceVariant, dataset.ScanOptions = "GR", "SP", ""
    dataset.MRAcquisitionType = "3D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "8", "3", "1"


def _pet_attributes(dataset: FileDataset) -> None:
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.Units, dataset.CountsSource, dataset.SeriesType = (
        "BQML",
        "EMISSION",
        ["STATIC", "IMAGE"],
    )
    dataset.NumberOfSlices, dataset.CorrectedImage, dataset.DecayCorrection = 1, ["DECY"], "START"
    dataset.CollimatorType, dataset.ImageIndex, dataset.DecayFactor = "NONE", 1, "1"
    dataset.RadiopharmaceuticalInformationSequence = DicomSequence([])
    dataset.PatientOrientationCodeSequence = DicomSequence([])
    dataset.PatientGantryRelationshipCodeSequence = DicomSequence([])
    del dataset.PatientPosition  # the orientation code sequences stand for it
    dataset.ActualFrameDuration, dataset.FrameReferenceTime = "60000", "0"


def _enhanced_mr_attributes(dataset: FileDataset) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    dataset.PixelPresentation, dataset.VolumetricProperties = "MONOCHROME", "VOLUME"
    dataset.VolumeBasedCalculationTechnique = "NONE"
    dataset.ComplexImageComponent, dataset.AcquisitionContrast = "MAGNITUDE", "T1"
    dataset.AcquisitionDateTime, dataset.AcquisitionDuration = "20260102101500", 60.0
    dataset.ResonantNucleus, dataset.MagneticFieldStrength = "1H", "3"
    dataset.KSpaceFiltering, dataset.ApplicableSafetyStandardAgency = "NONE", "IEC"
    dataset.BurnedInAnnotation, dataset.LossyImageCompression = "NO", "00"
    dataset.PresentationLUTShape = "IDENTITY"
    dataset.ContentQualification = "RESEARCH"
    del dataset.AcquisitionDate, dataset.AcquisitionTime  # one date and time together instead
    dataset.AcquisitionContextSequence = DicomSequence([])


_MODALITY_ATTRIBUTES: dict[str, Callable[[FileDataset], None]] = {
    CT_IMAGE: _ct_attributes,
    MR_IMAGE: _mr_attributes,
    PET_IMAGE: _pet_attributes,
    ENHANCED_MR_IMAGE: _enhanced_mr_attributes,
}


def _describe_plane(dataset: FileDataset, affine_lps: Float64) -> None:
    dataset.PixelSpacing = _pixel_measures(affine_lps).PixelSpacing
    dataset.SliceThickness = _pixel_measures(affine_lps).SliceThickness
    dataset.ImageOrientationPatient = _plane_orientation(affine_lps).ImageOrientationPatient


def _describe_pixels(dataset: FileDataset, shape: tuple[int, ...], storage: Storage) -> None:
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, storage.photometric
    dataset.Rows, dataset.Columns = shape[1], shape[2]
    dataset.BitsAllocated, dataset.BitsStored = storage.bits_allocated, storage.bits_stored
    dataset.HighBit = storage.bits_stored - 1
    dataset.PixelRepresentation = int(storage.signed)


def _pixel_measures(affine_lps: Float64) -> Dataset:
    lengths = np.linalg.norm(affine_lps[:3, :3], axis=0)
    item = Dataset()
    item.PixelSpacing = _decimals(lengths[1:])
    item.SliceThickness = _decimals(lengths[:1])[0]
    return item


def _plane_orientation(affine_lps: Float64) -> Dataset:
    directions = affine_lps[:3, :3] / np.linalg.norm(affine_lps[:3, :3], axis=0)
    item = Dataset()
    item.ImageOrientationPatient = _decimals([*directions[:, 2], *directions[:, 1]])
    return item


def _frame_type() -> Dataset:
    item = Dataset()
    item.FrameType = ["DERIVED", "PRIMARY", "VOLUME", "NONE"]
    item.PixelPresentation, item.VolumetricProperties = "MONOCHROME", "VOLUME"
    item.VolumeBasedCalculationTechnique = "NONE"
    item.ComplexImageComponent, item.AcquisitionContrast = "MAGNITUDE", "T1"
    return item


def _frame_anatomy() -> Dataset:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = "12738006", "SCT", "Brain"
    item = Dataset()
    item.FrameLaterality = "U"
    item.AnatomicRegionSequence = DicomSequence([region])
    return item


def _transformation(storage: Storage, index: int) -> Dataset:
    slope, intercept = storage.of_slice(index) or (1.0, 0.0)
    item = Dataset()
    item.RescaleSlope, item.RescaleIntercept = _decimals((slope, intercept))
    item.RescaleType = "US"
    return item


def _frame_groups(affine_lps: Float64, number: int, index: int, storage: Storage | None) -> Dataset:
    content = Dataset()
    content.StackID, content.InStackPositionNumber = "1", index + 1
    content.DimensionIndexValues = [1, index + 1]
    content.FrameAcquisitionNumber = number + 1
    position = Dataset()
    position.ImagePositionPatient = _decimals(affine_lps[:3, 3] + index * affine_lps[:3, 0])
    groups = Dataset()
    groups.FrameContentSequence = DicomSequence([content])
    groups.PlanePositionSequence = DicomSequence([position])
    if storage is not None:
        groups.PixelValueTransformationSequence = DicomSequence([_transformation(storage, index)])
    return groups


def _describe_dimensions(dataset: FileDataset) -> None:
    organization = Dataset()
    organization.DimensionOrganizationUID = generate_uid()
    dataset.DimensionOrganizationSequence = DicomSequence([organization])
    indices = []
    for pointer in (0x00209056, 0x00209057):  # stack, position in it
        index = Dataset()
        index.DimensionOrganizationUID = organization.DimensionOrganizationUID
        index.DimensionIndexPointer = pointer
        index.FunctionalGroupPointer = 0x00209111
        indices.append(index)
    dataset.DimensionIndexSequence = DicomSequence(indices)


def _copy_of(template: FileDataset) -> FileDataset:
    """A copy whose elements are its own (assigning to a dataset changes the element in place)."""
    meta = FileMetaDataset({tag: copy.copy(item) for tag, item in template.file_meta.items()})
    elements = {tag: copy.copy(item) for tag, item in template.items()}
    return FileDataset("", elements, preamble=b"\0" * 128, file_meta=meta)


def _decimals(values: Sequence[float] | Float64) -> list[str]:
    return [format_number_as_ds(float(value)) for value in values]


def _is_whole(array: NDArray[Any], low: int, high: int) -> bool:
    fits = low <= array.min() and array.max() <= high
    return bool(fits and (array == np.rint(array)).all())
