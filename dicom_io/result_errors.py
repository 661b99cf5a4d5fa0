"""What can stop a result object from being made, read back or released.

::

    DicomIoError
    └── ResultError                    a result object
        ├── MissingIdentifierError       the source lacks a UID that the result must carry
        ├── NoDicomSourceError           the volume came from a file format without DICOM instances
        ├── SourceGridMismatchError      the volume's slices are not where its instances are
        ├── ResultInputError             labels, segments, measurements or names do not fit together
        ├── UnsupportedObjectError       an object of a kind or encoding that is not read here
        ├── FontError                    a text cannot be shown with the fonts that are there
        └── PlacementError               a written object is not what was meant; never release it
"""

from __future__ import annotations

from dicom_io.errors import DicomIoError


class ResultError(DicomIoError):
    """A result object cannot be made, read or released."""

    code = "result"


class MissingIdentifierError(ResultError):
    """A type 1 identifier of the source is absent or blank, so no result can point to it."""

    code = "missing_identifier"

    def __init__(self, *, attribute: str, series_uid: str, slice_index: int | None = None) -> None:
        self.attribute, self.series_uid, self.slice_index = attribute, series_uid, slice_index
        where = "" if slice_index is None else f" of slice {slice_index}"
        super().__init__(
            f"{attribute}{where} is absent or blank in source series {series_uid or '(no UID)'}; "
            "a result must name the images it belongs to: give the source its identifiers "
            "(ask the sender for the original, or import a copy with new UIDs) and send it again"
        )


class NoDicomSourceError(ResultError):
    """The volume has no DICOM instances (NIfTI), so no DICOM result can refer to them."""

    code = "no_dicom_source"

    def __init__(self) -> None:
        super().__init__(
            "the volume was not read from DICOM, so there is no study to put a DICOM result into; "
            "write the labels as NIfTI instead"
        )


class SourceGridMismatchError(ResultError):
    """A slice of the volume does not lie where its source instance says."""

    code = "source_grid_mismatch"

    def __init__(self, *, slice_index: int, distance_mm: float, limit_mm: float) -> None:
        self.slice_index, self.distance_mm, self.limit_mm = slice_index, distance_mm, limit_mm
        super().__init__(
            f"slice {slice_index} of the volume lies {distance_mm:.3f} mm from its source image "
            f"(limit {limit_mm:.3f} mm)"
        )


class ResultInputError(ResultError):
    """Labels, segments, measurements or names handed in do not fit together."""

    code = "result_input"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field = field
        super().__init__(f"{field}: {problem}")


class UnsupportedObjectError(ResultError):
    """An object of a kind or encoding that is not read here."""

    code = "unsupported_object"

    def __init__(self, *, field: str, value: str) -> None:
        self.field, self.value = field, value
        super().__init__(f"{field} {value!r} is not read here")


class FontError(ResultError):
    """A text of a picture or a printed report has characters that no font here can show."""

    code = "font"

    def __init__(self, *, problem: str) -> None:
        self.problem = problem
        super().__init__(f"{problem}; SEG, SR, GSPS and RTSTRUCT need no font")


class PlacementError(ResultError):
    """A written object, read back, differs from the labels it was made from."""

    code = "placement"

    def __init__(
        self,
        *,
        field: str,
        expected: object,
        found: object,
        segment: int | None = None,
        slice_index: int | None = None,
        frame: int | None = None,
    ) -> None:
        self.field, self.expected, self.found = field, expected, found
        self.segment, self.slice_index, self.frame = segment, slice_index, frame
        places = {"segment": segment, "slice": slice_index, "frame": frame}
        where = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
        super().__init__(
            f"{field}{f' ({where})' if where else ''}: expected {expected}, found {found}"
        )
