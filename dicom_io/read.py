"""One series to one volume: check, order, decode.

Refuse, never guess: whatever is missing, doubled, mixed or bent is named with its slice, and no
volume is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from dicom_io.assemble import assemble, available_workers, stored_slice
from dicom_io.attributes import text
from dicom_io.errors import (
    DuplicateInstanceError,
    DuplicateSliceError,
    LocalizerError,
    MissingAttributeError,
    MixedFrameOfReferenceError,
    MixedOrientationError,
    MixedPatientError,
    MixedSeriesError,
    MixedSizeError,
    MixedSpacingError,
    NotAVolumeError,
    SeriesError,
    SeveralMultiframeError,
    SingleSliceError,
    UnsupportedPixelsError,
    VolumeLimitError,
)
from dicom_io.frames import Frame, PixelFormat, frames_of, pixel_format, unit_of
from dicom_io.geometry import (
    Stack,
    affine_lps,
    check_orientation,
    check_spacing,
    duplicate_pairs,
    is_tilted,
    order_slices,
    slice_step,
    tilt_error,
)
from dicom_io.series import (
    VOLUME_MODALITIES,
    VOLUME_SOP_CLASSES,
    InstanceHeader,
    Series,
)
from dicom_io.tilt import untilt
from dicom_io.volume import SourceInstance, Volume, VolumeSource

MAX_VOLUME_BYTES = 8 * 1024**3
"""Largest array, as float32, that a series may become."""

_SAME_DIRECTION = 1e-4  # 0.05 mm over 512 mm
_SAME_SPACING_MM = 1e-4

Formats = dict[InstanceHeader, PixelFormat]


def read_volume(
    series: Series,
    *,
    tilt: Literal["refuse", "resample"] = "refuse",
    workers: int | None = None,
) -> Volume:
    """Read one CT, MR or PET series as a volume.

    Slices are ordered by their position along the normal (row direction x column direction),
    never by InstanceNumber or file name; the first slice has the smallest projection.

    Parameters
    ----------
    tilt : what to do with a sheared stack (tilted gantry): refuse it, or resample it onto an
        upright grid (`dicom_io.tilt.untilt`); ``volume.source.resampled`` then says so.
    workers : cores to use; all by default.

    Returns
    -------
    Volume
        ``source.instances`` in slice order, each with the SHA-256 of the bytes that were decoded.

    Raises
    ------
    SeriesError, GeometryError, AttributeValueError, PixelError, FileError
        `dicom_io.errors` lists them; each names the slice or the instance.
    """
    _check_kind(series)
    formats = {instance: _volume_format(instance) for instance in series.instances}
    frames = [
        frame for instance in series.instances for frame in frames_of(instance, formats[instance])
    ]
    if len(frames) == 1:
        raise SingleSliceError(
            series_uid=series.series_uid, instance_uid=series.instances[0].instance_uid
        )
    _check_same(series, frames, formats)
    stack = order_slices(np.array([frame.position_mm for frame in frames]), frames[0].orientation)
    slices = [frames[index] for index in stack.order]
    _check_duplicates(series, stack, slices, formats)
    spacing_mm = check_spacing(stack, series_uid=series.series_uid)
    step = slice_step(stack, series_uid=series.series_uid)
    tilted = is_tilted(step, stack.normal)
    if tilted and tilt == "refuse":
        raise tilt_error(step, stack.normal, series_uid=series.series_uid)
    assert spacing_mm > 0
    array, digests = assemble(slices, formats, workers=workers or available_workers())
    affine = affine_lps(
        stack.positions_mm[0], slices[0].orientation, slices[0].pixel_spacing_mm, step
    )
    if tilted:
        array, affine = untilt(array, affine)
    first = slices[0].instance
    return Volume(
        array=array,
        affine_lps=affine,
        modality=first.modality,
        unit=unit_of(first),
        source=VolumeSource(
            study_uid=series.study_uid,
            series_uid=series.series_uid,
            frame_of_reference_uid=text(first.header, "FrameOfReferenceUID"),
            instances=_sources(slices, digests),
            resampled=tilted,
        ),
    )


def _check_kind(series: Series) -> None:
    """Refuse what is not a set of CT, MR or PET slices."""
    uid = series.series_uid
    if not series.instances:
        raise SeriesError(series_uid=uid, problem="holds no instance")
    localizers = tuple(item.instance_uid for item in series.instances if item.is_localizer)
    if localizers:
        raise LocalizerError(series_uid=uid, instance_uids=localizers, total=len(series.instances))
    first = series.instances[0]
    for instance in series.instances:
        # A blank SOP class (an anonymiser's doing) leaves the modality to go by.
        is_known = instance.sop_class_uid in VOLUME_SOP_CLASSES or not instance.sop_class_uid
        if not is_known or instance.modality not in VOLUME_MODALITIES:
            raise NotAVolumeError(
                series_uid=uid,
                sop_class_uid=instance.sop_class_uid,
                modality=instance.modality,
            )
        if instance.pixels is None:
            raise MissingAttributeError(instance_uid=instance.instance_uid, keyword="PixelData")
        if (instance.modality, instance.sop_class_uid) != (first.modality, first.sop_class_uid):
            raise MixedSeriesError(
                series_uid=uid,
                slice_index=series.instances.index(instance),
                instance_uid=instance.instance_uid,
                keyword="SOPClassUID",
                expected=f"{first.modality} {first.sop_class_uid}",
                found=f"{instance.modality} {instance.sop_class_uid}",
            )
    _check_identity(series)


def _check_identity(series: Series) -> None:
    """Refuse two patients in a series, and two contents of one SOP Instance UID."""
    seen: dict[str, InstanceHeader] = {}
    patient = text(series.instances[0].header, "PatientID")
    for instance in series.instances:
        if text(instance.header, "PatientID") != patient:
            raise MixedPatientError(
                series_uid=series.series_uid,
                instance_uids=(series.instances[0].instance_uid, instance.instance_uid),
            )
        other = seen.setdefault(instance.instance_uid, instance)
        if other is not instance and instance.instance_uid:
            raise DuplicateInstanceError(
                series_uid=series.series_uid,
                instance_uid=instance.instance_uid,
                files=(other.path.name, instance.path.name),
            )


def _volume_format(instance: InstanceHeader) -> PixelFormat:
    pixels = pixel_format(instance)
    uid = instance.instance_uid
    if pixels.samples != 1 or not pixels.photometric.startswith("MONOCHROME"):
        raise UnsupportedPixelsError(
            instance_uid=uid,
            keyword="PhotometricInterpretation",
            value=f"{pixels.photometric} with {pixels.samples} sample(s)",
        )
    if pixels.bits_allocated > 16:
        raise UnsupportedPixelsError(
            instance_uid=uid, keyword="BitsAllocated", value=str(pixels.bits_allocated)
        )
    return pixels


def _check_same(series: Series, frames: Sequence[Frame], formats: Formats) -> None:
    """Refuse frames that differ in what one volume has once."""
    uid = series.series_uid
    if len(series.instances) > 1 and any(item.n_frames > 1 for item in formats.values()):
        raise SeveralMultiframeError(
            series_uid=uid, instance_uids=tuple(item.instance_uid for item in series.instances)
        )
    for index, frame in enumerate(frames):
        check_orientation(frame.orientation, series_uid=uid, slice_index=index)
    first = frames[0]
    first_format = formats[first.instance]
    size = (first_format.rows, first_format.columns)
    reference = text(first.instance.header, "FrameOfReferenceUID")
    for index, frame in enumerate(frames):
        pixels = formats[frame.instance]
        kinds: tuple[tuple[type[MixedSeriesError], str, object, object, bool], ...] = (
            (
                MixedOrientationError,
                "ImageOrientationPatient",
                first.orientation,
                frame.orientation,
                _near(first.orientation, frame.orientation, _SAME_DIRECTION),
            ),
            (
                MixedSizeError,
                "Rows, Columns",
                size,
                (pixels.rows, pixels.columns),
                size == (pixels.rows, pixels.columns),
            ),
            (
                MixedSpacingError,
                "PixelSpacing",
                first.pixel_spacing_mm,
                frame.pixel_spacing_mm,
                _near(first.pixel_spacing_mm, frame.pixel_spacing_mm, _SAME_SPACING_MM),
            ),
            (
                MixedFrameOfReferenceError,
                "FrameOfReferenceUID",
                reference,
                found_reference := text(frame.instance.header, "FrameOfReferenceUID"),
                found_reference == reference,
            ),
        )
        for kind, keyword, expected, found, is_same in kinds:
            if not is_same:
                raise kind(
                    series_uid=uid,
                    slice_index=index,
                    instance_uid=frame.instance.instance_uid,
                    keyword=keyword,
                    expected=str(expected),
                    found=str(found),
                )
    needed = 4 * len(frames) * size[0] * size[1]
    if needed > MAX_VOLUME_BYTES:
        raise VolumeLimitError(series_uid=uid, needed_bytes=needed, allowed_bytes=MAX_VOLUME_BYTES)


def _check_duplicates(
    series: Series, stack: Stack, slices: Sequence[Frame], formats: Formats
) -> None:
    pairs = duplicate_pairs(stack)
    if not pairs:
        return
    index = pairs[0]
    one, other = slices[index], slices[index + 1]
    stored = [stored_slice(frame, formats[frame.instance]) for frame in (one, other)]
    is_same = (one.slope, one.intercept) == (other.slope, other.intercept)
    raise DuplicateSliceError(
        series_uid=series.series_uid,
        slice_index=index,
        position_mm=float(stack.distances_mm[index]),
        instance_uids=(one.instance.instance_uid, other.instance.instance_uid),
        n_duplicates=len(pairs),
        identical_pixels=is_same and bool(np.array_equal(stored[0], stored[1])),
    )


def _near(one: Sequence[float], other: Sequence[float], tolerance: float) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(one, other, strict=True))


def _sources(
    slices: Sequence[Frame], digests: dict[InstanceHeader, str]
) -> tuple[SourceInstance, ...]:
    """One source per single-frame slice, or one with all its frames for a multi-frame instance."""
    if len(digests) == len(slices):
        return tuple(_source(item.instance, digests, (item.frame_number,)) for item in slices)
    numbers = tuple(item.frame_number for item in slices)
    return (_source(slices[0].instance, digests, numbers),)


def _source(
    instance: InstanceHeader, digests: dict[InstanceHeader, str], frame_numbers: tuple[int, ...]
) -> SourceInstance:
    return SourceInstance(
        sop_class_uid=instance.sop_class_uid,
        instance_uid=instance.instance_uid,
        path=instance.path,
        sha256=digests[instance],
        header=instance.header,
        frame_numbers=frame_numbers,
    )
