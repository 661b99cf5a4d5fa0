"""NIfTI in and out. The only place where RAS exists: here it becomes LPS, and back.

A NIfTI array is (i, j, k) with i fastest in memory; a `Volume` is (slice, row, column) with the
column fastest. So the axes are reversed, which for a Fortran-ordered file copies nothing.
"""

from __future__ import annotations

import gzip
import zlib
from pathlib import Path
from typing import Any, cast

import nibabel as nib
import numpy as np
from nibabel.spatialimages import HeaderDataError
from numpy.typing import NDArray

from dicom_io.errors import NiftiError
from dicom_io.volume import Float64, Volume, VoxelArray

LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
_REVERSED_AXES = np.eye(4)[:, [2, 1, 0, 3]]

MAX_VOXELS = 2 * 1024**3
"""A larger image is refused before anything is allocated."""

MAX_INFLATE_RATIO = 100
"""A .nii.gz that inflates more is refused (above 256 MiB)."""

_RATIO_FROM_BYTES = 256 * 1024**2  # an empty mask honestly compresses 1000:1
_CHUNK_BYTES = 4 * 1024**2

_MM_PER_UNIT = {"mm": 1.0, "meter": 1000.0, "micron": 0.001, "unknown": 1.0}
MIN_LENGTH = 1e-6
"""An axis of an affine that is shorter, in the file's own unit, has no length."""

_INT16 = np.iinfo(np.int16)


def affine_lps_from_ras(affine_ras: Float64) -> Float64:
    """(i, j, k) to RAS becomes (slice, row, column) = (k, j, i) to LPS; all in millimetres."""
    return np.asarray(LPS_FROM_RAS @ affine_ras @ _REVERSED_AXES, dtype=np.float64)


def affine_ras_from_lps(affine_lps: Float64) -> Float64:
    """Undo `affine_lps_from_ras`; the same products, as each is its own inverse."""
    return np.asarray(LPS_FROM_RAS @ affine_lps @ _REVERSED_AXES, dtype=np.float64)


def read_nifti(path: Path) -> Volume:
    """Read one 3D NIfTI image (.nii or .nii.gz) as a volume without DICOM source.

    The place is the sform's where its code is set, else the qform's; where both are set and
    disagree by more than 0.1 mm anywhere in the image, neither is trusted. Metres and microns are
    converted; an unset unit means millimetres, as the common tools have it. Values are scaled by
    scl_slope and scl_inter (a slope of 0 means unscaled, as the standard says), and come as int16
    where they are whole and fit, else as float32.

    Raises
    ------
    NiftiError
        Not NIfTI, not 3D, no trustworthy place, NaN or infinite voxels, too large, a bomb.
    """
    data = _file_bytes(path)
    header = _header(path, data)
    shape = _shape(path, header)
    raw = _raw_voxels(path, header, data, shape)
    affine_ras = _affine_ras(path, header, shape)
    values = _scaled(path, header, raw)
    array = np.ascontiguousarray(values.T)  # (k, j, i) = (slice, row, column)
    return Volume(array=cast(VoxelArray, array), affine_lps=affine_lps_from_ras(affine_ras))


def write_nifti(
    path: Path,
    array: NDArray[Any],
    affine_lps: Float64,
    *,
    compress_level: int = 1,
) -> None:
    """Write a 3D array with sform and qform both set, codes 1 (scanner).

    Parameters
    ----------
    path : ends in .nii or .nii.gz
    array : (slice, row, column), any integer or float type that NIfTI has
    affine_lps : (4, 4). A sheared one does not fit a qform; then only the sform is set.
    """
    affine_ras = affine_ras_from_lps(affine_lps)
    image: Any = _new_image(array.transpose(2, 1, 0), affine_ras, dtype=array.dtype)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine_ras, code=1)
    if is_orthogonal(affine_ras):
        image.set_qform(affine_ras, code=1)
    else:
        image.set_qform(None, code=0)
    data = image.to_bytes()
    if path.name.endswith(".gz"):
        data = gzip.compress(data, compresslevel=compress_level, mtime=0)
    path.write_bytes(data)


_new_image: Any = nib.Nifti1Image  # nibabel is typed in part only


def _file_bytes(path: Path) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise NiftiError(path=path, field="file", problem=str(error.strerror)) from error
    return _inflated(path, data) if data[:2] == b"\x1f\x8b" else data


def _header(path: Path, data: bytes) -> Any:
    if data[344:348] == b"n+1\0":
        kind: Any = nib.Nifti1Header
    elif data[4:8] == b"n+2\0":
        kind = nib.Nifti2Header
    else:
        raise NiftiError(path=path, field="magic", problem="not a single-file NIfTI image")
    size = kind.template_dtype.itemsize
    if len(data) < size:
        raise NiftiError(path=path, field="header", problem="the file ends inside it")
    try:
        return kind(data[:size], check=False)
    except (HeaderDataError, ValueError) as error:
        raise NiftiError(path=path, field="header", problem=str(error)) from error


def _shape(path: Path, header: Any) -> tuple[int, int, int]:
    dim = [int(n) for n in header["dim"]]
    shape = dim[1 : 1 + dim[0]] if 1 <= dim[0] <= 7 else []
    if len(shape) > 3 and all(n == 1 for n in shape[3:]):
        shape = shape[:3]
    if len(shape) != 3:
        raise NiftiError(path=path, field="dim", problem=f"{dim} is not one 3D image; choose one")
    if min(shape) < 1 or shape[0] * shape[1] * shape[2] > MAX_VOXELS:
        raise NiftiError(path=path, field="dim", problem=f"{shape} is empty or too large")
    return shape[0], shape[1], shape[2]


def _raw_voxels(path: Path, header: Any, data: bytes, shape: tuple[int, int, int]) -> NDArray[Any]:
    """Voxels as stored, (i, j, k), a view of ``data``."""
    try:
        dtype = header.get_data_dtype()
    except (HeaderDataError, KeyError) as error:
        raise NiftiError(path=path, field="datatype", problem=str(error)) from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise NiftiError(path=path, field="datatype", problem=f"{dtype} voxels have no one value")
    offset, count = header["vox_offset"].item(), shape[0] * shape[1] * shape[2]
    if not np.isfinite(offset) or not 0 < offset <= len(data):
        raise NiftiError(path=path, field="vox_offset", problem=f"{offset} is not in the file")
    needed = int(offset) + count * dtype.itemsize
    if needed > len(data):
        raise NiftiError(
            path=path, field="data", problem=f"needs {needed} bytes and {len(data)} are there"
        )
    return np.frombuffer(data, dtype, count=count, offset=int(offset)).reshape(shape, order="F")


def _affine_ras(path: Path, header: Any, shape: tuple[int, int, int]) -> Float64:
    """Place of the voxels in RAS millimetres, from the sform or the qform."""
    unit = header.get_xyzt_units()[0] if int(header["xyzt_units"]) & 7 in (0, 1, 2, 3) else "?"
    pixdim = np.asarray(header["pixdim"][1:4], dtype=np.float64)
    if unit not in _MM_PER_UNIT:
        raise NiftiError(path=path, field="xyzt_units", problem="no unit of length")
    if not (np.isfinite(pixdim).all() and (pixdim > 0).all()):
        raise NiftiError(path=path, field="pixdim", problem=f"{pixdim.tolist()} is no spacing")
    forms: dict[str, Float64] = {}
    if int(header["sform_code"]) > 0:
        forms["sform"] = np.asarray(header.get_sform(), dtype=np.float64)
    if int(header["qform_code"]) > 0:
        try:
            forms["qform"] = np.asarray(header.get_qform(), dtype=np.float64)
        except (HeaderDataError, ValueError) as error:
            raise NiftiError(path=path, field="qform", problem=str(error)) from error
    if not forms:
        problem = "sform_code and qform_code are 0, so left and right are unknown"
        raise NiftiError(path=path, field="sform_code", problem=problem)
    for name, affine in forms.items():
        _check_affine(path, name, affine)
        affine[:3] *= _MM_PER_UNIT[unit]
    if len(forms) == 2 and _disagreement_mm(forms["sform"], forms["qform"], shape) > 0.1:
        problem = "sform and qform place the image differently; keep the right one"
        raise NiftiError(path=path, field="sform", problem=problem)
    return next(iter(forms.values()))


def _check_affine(path: Path, name: str, affine: Float64) -> None:
    """Refuse an affine that is not finite, collapses an axis, or is sheared."""
    if not np.isfinite(affine).all():
        raise NiftiError(path=path, field=name, problem="is not finite")
    lengths = np.linalg.norm(affine[:3, :3], axis=0)
    if lengths.min() < MIN_LENGTH:
        raise NiftiError(path=path, field=name, problem="is singular: an axis has no length")
    if abs(np.linalg.det(affine[:3, :3] / lengths)) < 0.1:
        raise NiftiError(path=path, field=name, problem="is singular: axes fall together")
    if not is_orthogonal(affine):
        raise NiftiError(path=path, field=name, problem="is sheared; resample it upright")


def is_orthogonal(affine: Float64) -> bool:
    """Whether the three axes are perpendicular, to 0.06 degrees."""
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    return bool(np.abs(directions.T @ directions - np.eye(3)).max() <= 1e-3)


def _disagreement_mm(one: Float64, other: Float64, shape: tuple[int, int, int]) -> float:
    """Largest distance between the two places of any corner of the image."""
    ends = [(0, n - 1) for n in shape]
    corners = np.array([(i, j, k, 1) for i in ends[0] for j in ends[1] for k in ends[2]], float)
    return float(np.linalg.norm((corners @ (one - other).T)[:, :3], axis=1).max())


def _scaled(path: Path, header: Any, raw: NDArray[Any]) -> NDArray[Any]:
    """Values as int16 where they are whole and fit, else float32; (i, j, k)."""
    slope, intercept = header["scl_slope"].item(), header["scl_inter"].item()
    if not (np.isfinite(slope) and np.isfinite(intercept)):
        raise NiftiError(path=path, field="scl_slope", problem=f"{slope}, {intercept}")
    values = raw
    if slope not in (0.0, 1.0) or (slope == 1.0 and intercept != 0.0):
        values = raw * np.float64(slope) + intercept
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise NiftiError(path=path, field="data", problem="holds NaN or infinite voxels")
    fits = _INT16.min <= values.min() and values.max() <= _INT16.max
    if fits and (values.dtype.kind != "f" or bool((values == np.rint(values)).all())):
        return values.astype(np.int16)
    return values.astype(np.float32)


def _inflated(path: Path, data: bytes) -> bytes:
    allowed = max(_RATIO_FROM_BYTES, MAX_INFLATE_RATIO * len(data))
    inflater, parts, total, rest = zlib.decompressobj(31), [], 0, data
    try:
        while rest and not inflater.eof:
            part = inflater.decompress(rest, _CHUNK_BYTES)
            parts.append(part)
            total += len(part)
            if total > allowed:
                raise NiftiError(
                    path=path, field="gzip", problem=f"inflates more than {MAX_INFLATE_RATIO}:1"
                )
            rest = inflater.unconsumed_tail
    except zlib.error as error:
        raise NiftiError(path=path, field="gzip", problem=str(error)) from error
    if not inflater.eof:
        raise NiftiError(path=path, field="gzip", problem="ends too early")
    return b"".join(parts)
