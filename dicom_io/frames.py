"""What one frame's header says: its place, and how its stored values become modality values.

A single-frame instance says it at the top; an enhanced multi-frame one in functional groups,
per frame or shared by all (PS3.3 C.7.6.16). Only standard attributes are used: private scaling
factors are ignored, never guessed, and a real world value map is not applied.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from pydicom.dataset import Dataset

from dicom_io.attributes import (
    decimal,
    decimals,
    integer_string,
    items,
    optional_unsigned,
    text,
    unsigned,
)
from dicom_io.errors import (
    InvalidAttributeError,
    MissingAttributeError,
    UnsupportedPixelsError,
)
from dicom_io.series import InstanceHeader


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """How the pixels of one instance are stored."""

    rows: int
    columns: int
    n_frames: int
    samples: int
    planar: bool
    bits_allocated: int
    bits_stored: int
    is_signed: bool
    photometric: str

    @property
    def frame_bytes(self) -> int:
        """Bytes of one uncompressed frame."""
        return self.rows * self.columns * self.samples * self.bits_allocated // 8


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice-to-be: ``value = slope * stored + intercept``."""

    instance: InstanceHeader = field(repr=False)
    frame_number: int
    position_mm: tuple[float, ...]
    orientation: tuple[float, ...]
    pixel_spacing_mm: tuple[float, float]
    slope: float
    intercept: float


def pixel_format(instance: InstanceHeader) -> PixelFormat:
    """Read and check the image pixel attributes (PS3.3 C.7.6.3).

    Raises
    ------
    MissingAttributeError, InvalidAttributeError, UnsupportedPixelsError
    """
    header, uid = instance.header, instance.instance_uid
    allocated = unsigned(header, "BitsAllocated", instance_uid=uid)
    stored = unsigned(header, "BitsStored", instance_uid=uid)
    high_bit = optional_unsigned(header, "HighBit", instance_uid=uid)
    representation = unsigned(header, "PixelRepresentation", instance_uid=uid)
    if allocated not in (8, 16, 32):
        raise UnsupportedPixelsError(
            instance_uid=uid, keyword="BitsAllocated", value=str(allocated)
        )
    _require(1 <= stored <= allocated, uid, "BitsStored", stored, f"1 to {allocated}")
    if high_bit is not None:
        _require(high_bit == stored - 1, uid, "HighBit", high_bit, f"{stored - 1}")
    _require(representation in (0, 1), uid, "PixelRepresentation", representation, "0 or 1")
    rows = unsigned(header, "Rows", instance_uid=uid)
    columns = unsigned(header, "Columns", instance_uid=uid)
    n_frames = integer_string(header, "NumberOfFrames", default=1, instance_uid=uid)
    _require(rows > 0, uid, "Rows", rows, "1 or more")
    _require(columns > 0, uid, "Columns", columns, "1 or more")
    _require(n_frames > 0, uid, "NumberOfFrames", n_frames, "1 or more")
    samples = optional_unsigned(header, "SamplesPerPixel", instance_uid=uid)
    planar = optional_unsigned(header, "PlanarConfiguration", instance_uid=uid)
    return PixelFormat(
        rows=rows,
        columns=columns,
        n_frames=n_frames,
        samples=1 if samples is None else samples,
        planar=planar == 1,
        bits_allocated=allocated,
        bits_stored=stored,
        is_signed=representation == 1,
        photometric=text(header, "PhotometricInterpretation"),
    )


def frames_of(instance: InstanceHeader, pixels: PixelFormat) -> list[Frame]:
    """Return the frames of one instance, in stored order.

    Raises
    ------
    MissingAttributeError, InvalidAttributeError
        A place or a rescale is absent or not finite.
    UnsupportedPixelsError
        Modality values need a lookup table, or a CT is not in Hounsfield units.
    """
    header, uid = instance.header, instance.instance_uid
    if "ModalityLUTSequence" in header:
        raise UnsupportedPixelsError(instance_uid=uid, keyword="ModalityLUTSequence", value="")
    if "PerFrameFunctionalGroupsSequence" not in header:
        if pixels.n_frames > 1:
            raise MissingAttributeError(
                instance_uid=uid, keyword="PerFrameFunctionalGroupsSequence"
            )
        return [_frame(instance, pixels, 1, header, header, header, header)]
    groups_for_all = items(header, "SharedFunctionalGroupsSequence", instance_uid=uid)
    shared = (groups_for_all or [Dataset()])[0]
    per_frame = items(header, "PerFrameFunctionalGroupsSequence", instance_uid=uid)
    _require(
        len(per_frame) == pixels.n_frames,
        uid,
        "NumberOfFrames",
        pixels.n_frames,
        f"{len(per_frame)}, as there are functional groups",
    )
    return [
        _frame(
            instance,
            pixels,
            number,
            _macro(groups, shared, "PlanePositionSequence", uid),
            _macro(groups, shared, "PlaneOrientationSequence", uid),
            _macro(groups, shared, "PixelMeasuresSequence", uid),
            _optional_macro(groups, shared, "PixelValueTransformationSequence", uid) or Dataset(),
        )
        for number, groups in enumerate(per_frame, start=1)
    ]


def padding_range(instance: InstanceHeader, pixels: PixelFormat) -> tuple[int, int] | None:
    """Return the lowest and highest stored value that mean "no pixel" (PS3.3 C.7.5.1.1.2)."""
    uid = instance.instance_uid
    value = optional_unsigned(instance.header, "PixelPaddingValue", instance_uid=uid)
    if value is None:
        return None
    limit = optional_unsigned(instance.header, "PixelPaddingRangeLimit", instance_uid=uid)
    # Some write a signed value with VR US (63536 for -2000): what counts is the bit pattern.
    ends = [
        end - 0x10000 if pixels.is_signed and end >= 0x8000 else end
        for end in (value, value if limit is None else limit)
    ]
    return min(ends), max(ends)


def unit_of(instance: InstanceHeader) -> str:
    """UCUM code of the modality values."""
    if instance.modality == "CT":
        return "[hnsf'U]"
    if instance.modality == "PT":
        units = {"BQML": "Bq/mL", "GML": "g/mL", "CNTS": "{counts}", "PROPCNTS": "{propcounts}"}
        return units.get(text(instance.header, "Units"), "1")
    return "1"


def _frame(
    instance: InstanceHeader,
    pixels: PixelFormat,
    number: int,
    place: Dataset,
    direction: Dataset,
    measures: Dataset,
    transformation: Dataset,
) -> Frame:
    uid = instance.instance_uid
    spacing = decimals(measures, "PixelSpacing", count=2, instance_uid=uid)
    _require(min(spacing) > 0, uid, "PixelSpacing", spacing, "greater than 0 mm")
    slope, intercept = _rescale(instance, pixels, transformation)
    return Frame(
        instance=instance,
        frame_number=number,
        position_mm=decimals(place, "ImagePositionPatient", count=3, instance_uid=uid),
        orientation=decimals(direction, "ImageOrientationPatient", count=6, instance_uid=uid),
        pixel_spacing_mm=(spacing[0], spacing[1]),
        slope=slope,
        intercept=intercept,
    )


def _rescale(
    instance: InstanceHeader, pixels: PixelFormat, transformation: Dataset
) -> tuple[float, float]:
    """Slope and intercept; CT and PET must say them, an MR may leave both out (1 and 0).

    MONOCHROME1 says that low values are shown bright. Hounsfield units and activities keep their
    meaning whatever the display, so CT and PET values stay; an MR has no unit, its brightness is
    its meaning, so its stored values are mirrored within Bits Stored.
    """
    uid = instance.instance_uid
    slope, intercept = 1.0, 0.0
    is_given = "RescaleSlope" in transformation or "RescaleIntercept" in transformation
    if is_given or instance.modality != "MR":
        slope = decimal(transformation, "RescaleSlope", instance_uid=uid)
        intercept = decimal(transformation, "RescaleIntercept", instance_uid=uid)
        _require(slope != 0, uid, "RescaleSlope", slope, "not 0")
    kind = text(transformation, "RescaleType")
    if instance.modality == "CT" and kind not in ("", "HU"):
        raise UnsupportedPixelsError(instance_uid=uid, keyword="RescaleType", value=kind)
    if pixels.photometric == "MONOCHROME1" and instance.modality == "MR":
        mirror = -1 if pixels.is_signed else 2**pixels.bits_stored - 1  # lowest + highest
        return -slope, slope * mirror + intercept
    return slope, intercept


def _macro(groups: Dataset, shared: Dataset, keyword: str, instance_uid: str) -> Dataset:
    found = _optional_macro(groups, shared, keyword, instance_uid)
    if found is None:
        raise MissingAttributeError(instance_uid=instance_uid, keyword=keyword)
    return found


def _optional_macro(
    groups: Dataset, shared: Dataset, keyword: str, instance_uid: str
) -> Dataset | None:
    for holder in (groups, shared):
        found = items(holder, keyword, instance_uid=instance_uid)
        if found:
            return found[0]
    return None


def _require(holds: bool, instance_uid: str, keyword: str, value: object, allowed: str) -> None:
    if not holds:
        raise InvalidAttributeError(
            instance_uid=instance_uid, keyword=keyword, value=str(value), allowed=allowed
        )
