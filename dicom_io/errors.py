"""Everything that can be wrong with a file, a series, a volume or a result object.

::

    DicomIoError
    ├── SourceError                    a folder or an archive could not be opened
    │   ├── ArchiveEntryError            an entry leaves the archive, is a link, repeated, encrypted
    │   └── ArchiveLimitError            too many entries, too many bytes, or a bomb
    ├── FileError                      one file could not be read
    │   ├── NotDicomError                it is not a DICOM file
    │   ├── TruncatedFileError           it ends inside a data element
    │   ├── MalformedFileError           its structure makes no sense
    │   ├── FileLimitError               larger, deeper or more inflated than allowed
    │   └── FileChangedError             it changed between scan and read
    ├── AttributeValueError            an attribute is absent, or says something impossible
    │   ├── MissingAttributeError        a needed attribute is absent or empty
    │   └── InvalidAttributeError        its value is not finite, not a number, out of range
    ├── PixelError                     the pixels of one instance cannot be trusted
    │   ├── UnsupportedTransferSyntaxError
    │   ├── UnsupportedPixelsError       colour, float or 1-bit pixels, a modality LUT, ...
    │   ├── PixelLengthError             fewer or more pixel bytes than rows x columns x frames
    │   ├── CodestreamError              the compressed stream is broken or contradicts the header
    │   ├── StoredBitsError              values outside Bits Stored
    │   └── PixelPaddingError            padding that would look like tissue
    ├── SeriesError                    the instances do not form one volume
    │   ├── NotAVolumeError              this kind of object does not form a volume
    │   ├── LocalizerError               a localizer among the slices
    │   ├── SingleSliceError             one slice has no slice spacing
    │   ├── DuplicateInstanceError       one SOP Instance UID, two contents
    │   ├── MixedSeriesError             slices differ in something that one volume has once
    │   │   ├── MixedSizeError
    │   │   ├── MixedOrientationError
    │   │   ├── MixedSpacingError
    │   │   └── MixedFrameOfReferenceError
    │   ├── SeveralMultiframeError       more than one multi-frame instance
    │   ├── MixedPatientError            instances of more than one patient
    │   └── VolumeLimitError             more voxels than allowed
    ├── GeometryError                  the slices do not lie on one grid
    │   ├── OrientationError             Image Orientation (Patient) is not two unit vectors
    │   ├── DuplicateSliceError          two slices at one position
    │   ├── SliceGapError                a slice is missing
    │   ├── UnevenSpacingError           the spacing varies
    │   ├── SliceShiftError              a slice lies beside the line of the others
    │   └── TiltError                    the slices are sheared (tilted gantry)
    └── NiftiError                     a NIfTI file cannot become a volume

Messages name UIDs, indices and values, never a name, a birth date or a patient id.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar


class DicomIoError(Exception):
    """Root of this package's errors; ``code`` is stable and documented."""

    code: ClassVar[str] = "dicom_io"


class SourceError(DicomIoError):
    """A folder or an archive could not be opened."""

    code = "source"

    def __init__(self, *, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path.name}: {problem}")


class ArchiveEntryError(SourceError):
    """An archive entry is unsafe: it leaves the archive, is a link, repeated or encrypted."""

    code = "archive_entry"

    def __init__(self, *, path: Path, entry: str, problem: str) -> None:
        self.entry = entry
        super().__init__(path=path, problem=f"entry {entry!r}: {problem}")


class ArchiveLimitError(SourceError):
    """An archive holds more than allowed: ``limit`` names the field of `SourceLimits`."""

    code = "archive_limit"

    def __init__(self, *, path: Path, limit: str, allowed: int) -> None:
        self.limit, self.allowed = limit, allowed
        super().__init__(path=path, problem=f"more than {limit} = {allowed} allows")


class FileError(DicomIoError):
    """One file could not be read."""

    code = "file"

    def __init__(self, *, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path.name}: {problem}")


class NotDicomError(FileError):
    """The file is not DICOM."""

    code = "not_dicom"


class TruncatedFileError(FileError):
    """The file ends inside a data element; ``tag`` is that element's."""

    code = "truncated_file"

    def __init__(self, *, path: Path, tag: str, needed: int, present: int) -> None:
        self.tag, self.needed, self.present = tag, needed, present
        super().__init__(
            path=path,
            problem=f"{tag} says {needed} bytes and {present} are there; send the file again",
        )


class MalformedFileError(FileError):
    """The structure of the file makes no sense."""

    code = "malformed_file"


class FileLimitError(FileError):
    """The file is larger, deeper or more inflated than allowed; ``limit`` names the field."""

    code = "file_limit"

    def __init__(self, *, path: Path, limit: str, allowed: int) -> None:
        self.limit, self.allowed = limit, allowed
        super().__init__(path=path, problem=f"more than {limit} = {allowed} allows")


class FileChangedError(FileError):
    """The file changed after it was scanned; scan again."""

    code = "file_changed"


class AttributeValueError(DicomIoError):
    """An attribute is absent or says something impossible; ``keyword`` is its DICOM keyword."""

    code = "attribute"

    def __init__(self, *, instance_uid: str, keyword: str, problem: str) -> None:
        self.instance_uid, self.keyword, self.problem = instance_uid, keyword, problem
        super().__init__(f"instance {instance_uid or '(blank UID)'}: {keyword} {problem}")


class MissingAttributeError(AttributeValueError):
    """A needed attribute is absent or empty."""

    code = "missing_attribute"

    def __init__(self, *, instance_uid: str, keyword: str) -> None:
        super().__init__(instance_uid=instance_uid, keyword=keyword, problem="is absent or empty")


class InvalidAttributeError(AttributeValueError):
    """A value is not finite, not a number, or out of range; ``value`` is what was found."""

    code = "invalid_attribute"

    def __init__(self, *, instance_uid: str, keyword: str, value: str, allowed: str) -> None:
        self.value, self.allowed = value, allowed
        super().__init__(
            instance_uid=instance_uid, keyword=keyword, problem=f"is {value!r}; allowed: {allowed}"
        )


class PixelError(DicomIoError):
    """The pixels of one instance cannot be trusted."""

    code = "pixel"

    def __init__(self, *, instance_uid: str, problem: str) -> None:
        self.instance_uid, self.problem = instance_uid, problem
        super().__init__(f"instance {instance_uid or '(blank UID)'}: {problem}")


class UnsupportedTransferSyntaxError(PixelError):
    """No decoder for this transfer syntax."""

    code = "unsupported_transfer_syntax"

    def __init__(self, *, instance_uid: str, transfer_syntax_uid: str) -> None:
        self.transfer_syntax_uid = transfer_syntax_uid
        super().__init__(
            instance_uid=instance_uid,
            problem=f"transfer syntax {transfer_syntax_uid} is not supported; send it decompressed",
        )


class UnsupportedPixelsError(PixelError):
    """Pixels of a kind that cannot become a volume; ``keyword`` says which attribute."""

    code = "unsupported_pixels"

    def __init__(self, *, instance_uid: str, keyword: str, value: str) -> None:
        self.keyword, self.value = keyword, value
        super().__init__(
            instance_uid=instance_uid, problem=f"{keyword} {value} cannot become a volume"
        )


class PixelLengthError(PixelError):
    """Pixel Data holds fewer or more bytes than the header needs."""

    code = "pixel_length"

    def __init__(self, *, instance_uid: str, expected_bytes: int, found_bytes: int) -> None:
        self.expected_bytes, self.found_bytes = expected_bytes, found_bytes
        super().__init__(
            instance_uid=instance_uid,
            problem=f"Pixel Data has {found_bytes} bytes where the header needs {expected_bytes}",
        )


class CodestreamError(PixelError):
    """The compressed stream of a frame is broken or contradicts the header."""

    code = "codestream"

    def __init__(self, *, instance_uid: str, frame_number: int, problem: str) -> None:
        self.frame_number = frame_number
        super().__init__(instance_uid=instance_uid, problem=f"frame {frame_number}: {problem}")


class StoredBitsError(PixelError):
    """Pixel values lie outside Bits Stored, so the header or the pixels are wrong."""

    code = "stored_bits"

    def __init__(self, *, instance_uid: str, bits_stored: int, minimum: int, maximum: int) -> None:
        self.bits_stored, self.minimum, self.maximum = bits_stored, minimum, maximum
        super().__init__(
            instance_uid=instance_uid,
            problem=f"values {minimum} to {maximum} do not fit BitsStored {bits_stored}",
        )


class PixelPaddingError(PixelError):
    """Pixels equal to PixelPaddingValue are there and would look like tissue."""

    code = "pixel_padding"

    def __init__(self, *, instance_uid: str, padding_value: int, rescaled_value: float) -> None:
        self.padding_value, self.rescaled_value = padding_value, rescaled_value
        super().__init__(
            instance_uid=instance_uid,
            problem=f"PixelPaddingValue {padding_value} becomes {rescaled_value:g}, "
            "brighter than the background, and is used by pixels",
        )


class SeriesError(DicomIoError):
    """The instances do not form one volume."""

    code = "series"

    def __init__(self, *, series_uid: str, problem: str) -> None:
        self.series_uid, self.problem = series_uid, problem
        super().__init__(f"series {series_uid or '(blank UID)'}: {problem}")


class NotAVolumeError(SeriesError):
    """Objects of this kind (``sop_class_uid``, ``modality``) do not form a volume."""

    code = "not_a_volume"

    def __init__(self, *, series_uid: str, sop_class_uid: str, modality: str) -> None:
        self.sop_class_uid, self.modality = sop_class_uid, modality
        super().__init__(
            series_uid=series_uid,
            problem=f"SOP class {sop_class_uid or '(blank)'} with modality {modality or '(blank)'} "
            "does not form a volume; CT, MR and PET images do",
        )


class LocalizerError(SeriesError):
    """A localizer (scout) lies among the slices; `Series.without_localizers` leaves it out."""

    code = "localizer"

    def __init__(self, *, series_uid: str, instance_uids: tuple[str, ...], total: int) -> None:
        self.instance_uids, self.total = instance_uids, total
        super().__init__(
            series_uid=series_uid,
            problem=f"{len(instance_uids)} of {total} instances are localizers "
            f"({', '.join(instance_uids[:3])}); leave them out and read again",
        )


class SingleSliceError(SeriesError):
    """One slice alone has no slice spacing, so it is not a volume."""

    code = "single_slice"

    def __init__(self, *, series_uid: str, instance_uid: str) -> None:
        self.instance_uid = instance_uid
        super().__init__(
            series_uid=series_uid,
            problem="there is one slice only; a volume needs two or more, as SliceThickness "
            "does not say how far apart slices lie",
        )


class DuplicateInstanceError(SeriesError):
    """Two files carry one SOP Instance UID and differ."""

    code = "duplicate_instance"

    def __init__(self, *, series_uid: str, instance_uid: str, files: tuple[str, str]) -> None:
        self.instance_uid, self.files = instance_uid, files
        super().__init__(
            series_uid=series_uid,
            problem=f"{files[0]} and {files[1]} both say to be {instance_uid} and differ; "
            "keep the right one",
        )


class MixedSeriesError(SeriesError):
    """Slice ``slice_index`` differs from slice 0 in ``keyword``, which one volume has once.

    ``slice_index`` counts in the order along the normal where that is known, else as scanned.
    """

    code = "mixed_series"

    def __init__(
        self,
        *,
        series_uid: str,
        slice_index: int,
        instance_uid: str,
        keyword: str,
        expected: str,
        found: str,
    ) -> None:
        self.slice_index, self.instance_uid, self.keyword = slice_index, instance_uid, keyword
        self.expected, self.found = expected, found
        super().__init__(
            series_uid=series_uid,
            problem=f"slice {slice_index} ({instance_uid}) has {keyword} {found} where the first "
            f"has {expected}; split the series",
        )


class MixedSizeError(MixedSeriesError):
    """Slices differ in Rows or Columns."""

    code = "mixed_size"


class MixedOrientationError(MixedSeriesError):
    """Slices differ in ImageOrientationPatient."""

    code = "mixed_orientation"


class MixedSpacingError(MixedSeriesError):
    """Slices differ in PixelSpacing."""

    code = "mixed_spacing"


class MixedFrameOfReferenceError(MixedSeriesError):
    """Slices differ in FrameOfReferenceUID."""

    code = "mixed_frame_of_reference"


class SeveralMultiframeError(SeriesError):
    """The series holds more than one multi-frame instance; choose one."""

    code = "several_multiframe"

    def __init__(self, *, series_uid: str, instance_uids: tuple[str, ...]) -> None:
        self.instance_uids = instance_uids
        super().__init__(
            series_uid=series_uid,
            problem=f"{len(instance_uids)} instances of which some have several frames; "
            "one multi-frame instance makes one volume, so choose one",
        )


class MixedPatientError(SeriesError):
    """Instances of one series name more than one patient (which, is not repeated here)."""

    code = "mixed_patient"

    def __init__(self, *, series_uid: str, instance_uids: tuple[str, str]) -> None:
        self.instance_uids = instance_uids
        super().__init__(
            series_uid=series_uid,
            problem=f"{instance_uids[0]} and {instance_uids[1]} name different patients",
        )


class VolumeLimitError(SeriesError):
    """The volume would need ``needed_bytes``, more than ``allowed_bytes``."""

    code = "volume_limit"

    def __init__(self, *, series_uid: str, needed_bytes: int, allowed_bytes: int) -> None:
        self.needed_bytes, self.allowed_bytes = needed_bytes, allowed_bytes
        super().__init__(
            series_uid=series_uid,
            problem=f"the volume would take {needed_bytes} bytes; allowed: {allowed_bytes}",
        )


class GeometryError(DicomIoError):
    """The slices do not lie on one grid."""

    code = "geometry"

    def __init__(self, *, series_uid: str, problem: str) -> None:
        self.series_uid, self.problem = series_uid, problem
        super().__init__(f"series {series_uid or '(blank UID)'}: {problem}")


class OrientationError(GeometryError):
    """ImageOrientationPatient is not two perpendicular unit vectors."""

    code = "orientation"

    def __init__(self, *, series_uid: str, slice_index: int, values: tuple[float, ...]) -> None:
        self.slice_index, self.values = slice_index, values
        super().__init__(
            series_uid=series_uid,
            problem=f"slice {slice_index}: ImageOrientationPatient {list(values)} is not two "
            "perpendicular unit vectors",
        )


class DuplicateSliceError(GeometryError):
    """Slices ``slice_index`` and ``slice_index + 1`` lie at one position.

    ``identical_pixels`` tells a slice sent twice from different images of one place (b-values,
    echoes, phases), of which one must be chosen.
    """

    code = "duplicate_slice"

    def __init__(
        self,
        *,
        series_uid: str,
        slice_index: int,
        position_mm: float,
        instance_uids: tuple[str, str],
        n_duplicates: int,
        identical_pixels: bool,
    ) -> None:
        self.slice_index, self.position_mm = slice_index, position_mm
        self.instance_uids, self.n_duplicates = instance_uids, n_duplicates
        self.identical_pixels = identical_pixels
        advice = (
            "the same pixels twice; keep one"
            if identical_pixels
            else "different images of one place (b-values, echoes, phases); choose one"
        )
        super().__init__(
            series_uid=series_uid,
            problem=f"slices {slice_index} and {slice_index + 1} ({instance_uids[0]}, "
            f"{instance_uids[1]}) lie at one position, {position_mm:.3f} mm ({n_duplicates} such "
            f"pairs): {advice}",
        )


class SliceGapError(GeometryError):
    """A slice is missing after slice ``slice_index``."""

    code = "slice_gap"

    def __init__(
        self, *, series_uid: str, slice_index: int, expected_mm: float, found_mm: float
    ) -> None:
        self.slice_index, self.expected_mm, self.found_mm = slice_index, expected_mm, found_mm
        missing = round(found_mm / expected_mm) - 1
        super().__init__(
            series_uid=series_uid,
            problem=f"{missing} slice(s) missing after slice {slice_index}: the next one is "
            f"{found_mm:.3f} mm away where the others are {expected_mm:.3f} mm apart; send them",
        )


class UnevenSpacingError(GeometryError):
    """The distance from slice ``slice_index`` to the next is not that of the others."""

    code = "uneven_spacing"

    def __init__(
        self, *, series_uid: str, slice_index: int, expected_mm: float, found_mm: float
    ) -> None:
        self.slice_index, self.expected_mm, self.found_mm = slice_index, expected_mm, found_mm
        super().__init__(
            series_uid=series_uid,
            problem=f"after slice {slice_index} the next one is {found_mm:.3f} mm away where "
            f"{expected_mm:.3f} mm is expected",
        )


class SliceShiftError(GeometryError):
    """Slice ``slice_index`` lies ``shift_mm`` beside the line that the others form."""

    code = "slice_shift"

    def __init__(self, *, series_uid: str, slice_index: int, shift_mm: float) -> None:
        self.slice_index, self.shift_mm = slice_index, shift_mm
        super().__init__(
            series_uid=series_uid,
            problem=f"slice {slice_index} lies {shift_mm:.3f} mm beside the line of the others",
        )


class TiltError(GeometryError):
    """The stack is sheared by ``angle_deg``, as by a tilted gantry; ask for tilt="resample"."""

    code = "tilt"

    def __init__(self, *, series_uid: str, angle_deg: float, shift_mm_per_slice: float) -> None:
        self.angle_deg, self.shift_mm_per_slice = angle_deg, shift_mm_per_slice
        super().__init__(
            series_uid=series_uid,
            problem=f"each slice is shifted by {shift_mm_per_slice:.3f} mm against the one before "
            f"(tilt of {angle_deg:.2f} degrees); ask for resampling or send an upright series",
        )


class NiftiError(DicomIoError):
    """A NIfTI file cannot become a volume; ``field`` names the header field (or "data")."""

    code = "nifti"

    def __init__(self, *, path: Path, field: str, problem: str) -> None:
        self.path, self.field, self.problem = path, field, problem
        super().__init__(f"{path.name}: {field}: {problem}")
