"""From the scanner's grid to the model's: canonical axes, spacing, intensity. No second copy.

Training and serving both call :func:`preprocess`. The model's grid is the one that MONAI's
`Orientation` and `Spacing` give: closest axes are permuted and flipped, oblique directions are
kept, first voxel centres coincide, and samples past the border take the border's value.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cuda_kernels.axis import LinearAxis, linear_axis
from cuda_kernels.nearest import resample_nearest
from cuda_kernels.normalise import zscore
from cuda_kernels.resample import resample
from inference.domain.errors import RefusedError
from inference.pipeline.spec import ClipScale, ModelSpec, Preprocessing, ZScore

Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Shape3 = tuple[int, int, int]

SAME_SPACING_MM = 1e-3
"""Spacings closer than this to the model's are kept as they are (MONAI's AFFINE_TOL)."""

MAX_SHEAR = 0.02
"""Largest cosine between two grid axes, about 1.1 degrees; beyond it the grid is sheared."""

SPACING_RANGE_MM = (0.01, 100.0)
MAX_MODEL_VOXELS = 2**30
"""4 GiB as float32: beyond any body at any model's spacing."""


@dataclass(frozen=True, kw_only=True)
class CanonicalAxes:
    """How native axes map to (slice to Superior, row to Posterior, column to Left).

    Canonical axis ``k`` is native axis ``permutation[k]``, reversed where ``flips[k]``.
    """

    permutation: Shape3
    flips: tuple[bool, bool, bool]

    def view(self, native: NDArray[Any]) -> NDArray[Any]:
        """Return a native array seen along canonical axes; writing into it writes the array."""
        step = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return native.transpose(self.permutation)[step]


@dataclass(frozen=True, kw_only=True)
class CanonicalView:
    """A volume seen along canonical axes; ``array`` shares memory with the native one."""

    array: NDArray[Any]
    affine_lps: Float64
    axes: CanonicalAxes
    spacing_mm: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class ModelGrid:
    """The model's grid over a volume.

    Attributes
    ----------
    shape : voxels of the model's grid along (S, P, L)
    spacing_mm : its spacing; the native one on an axis where both agree within 1 micrometre
    affine_lps : index on the model's grid to LPS millimetres
    native_shape : voxels of the canonical view of the volume
    native_per_model : model spacing divided by native spacing, per axis
    axes : how the volume's own axes map to canonical ones
    """

    shape: Shape3
    spacing_mm: tuple[float, float, float]
    affine_lps: Float64
    native_shape: Shape3
    native_per_model: tuple[float, float, float]
    axes: CanonicalAxes

    def axes_to_model(self) -> tuple[LinearAxis, LinearAxis, LinearAxis]:
        """How model voxels are interpolated from native ones."""
        z, y, x = (
            linear_axis(native, model, step)
            for native, model, step in zip(
                self.native_shape, self.shape, self.native_per_model, strict=True
            )
        )
        return z, y, x

    def axes_to_native(self) -> tuple[LinearAxis, LinearAxis, LinearAxis]:
        """How native voxels are interpolated from model ones."""
        z, y, x = (
            linear_axis(model, native, 1 / step)
            for native, model, step in zip(
                self.native_shape, self.shape, self.native_per_model, strict=True
            )
        )
        return z, y, x


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What the network sees: float32 (S, P, L), normalised, on ``grid``."""

    array: Float32
    grid: ModelGrid


def to_canonical(array: NDArray[Any], affine_lps: Float64) -> CanonicalView:
    """See a volume along canonical axes, without copying it.

    Raises
    ------
    RefusedError
        The array is empty or not 3D, or the affine is no grid: not finite, degenerate, sheared.
    """
    if array.ndim != 3 or 0 in array.shape:
        raise RefusedError(f"array: shape {array.shape} is not three axes of at least 1 voxel")
    affine = np.asarray(affine_lps, dtype=np.float64)
    spacing = _checked_spacing(affine)
    axes = _closest_axes(affine[:3, :3] / spacing)
    canonical = np.eye(4)
    canonical[:3, 3] = affine[:3, 3]
    for k, (axis, flip) in enumerate(zip(axes.permutation, axes.flips, strict=True)):
        column = affine[:3, axis]
        canonical[:3, k] = -column if flip else column
        if flip:
            canonical[:3, 3] += column * (array.shape[axis] - 1)
    a, b, c = (float(spacing[axis]) for axis in axes.permutation)
    return CanonicalView(
        array=axes.view(array), affine_lps=canonical, axes=axes, spacing_mm=(a, b, c)
    )


def model_grid(view: CanonicalView, preprocessing: Preprocessing) -> ModelGrid:
    """Lay the model's grid over a volume.

    Raises
    ------
    RefusedError
        The grid would have more than 2**30 voxels.
    """
    shape, spacing, ratio = [], [], []
    for size, native, wanted in zip(
        view.array.shape, view.spacing_mm, preprocessing.spacing_mm, strict=True
    ):
        kept = native if abs(native - wanted) <= SAME_SPACING_MM else wanted
        # Rounded first, so that 254.5000001 and 254.4999999 of a float32 affine are one case.
        shape.append(int(np.round(np.round((size - 1) * native / kept, 4) + 1)))
        spacing.append(kept)
        ratio.append(kept / native)
    if shape[0] * shape[1] * shape[2] > MAX_MODEL_VOXELS:
        raise RefusedError(
            f"array: extent {[round(n * mm) for n, mm in zip(shape, spacing, strict=True)]} mm"
            f" gives {shape} voxels at the model's spacing, more than {MAX_MODEL_VOXELS}"
        )
    affine = view.affine_lps.copy()
    affine[:3, :3] *= np.asarray(ratio)
    return ModelGrid(
        shape=(shape[0], shape[1], shape[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        affine_lps=affine,
        native_shape=(view.array.shape[0], view.array.shape[1], view.array.shape[2]),
        native_per_model=(ratio[0], ratio[1], ratio[2]),
        axes=view.axes,
    )


def preprocess(
    array: NDArray[Any], affine_lps: Float64, spec: ModelSpec | Preprocessing
) -> Prepared:
    """Bring a volume to the model's axes, spacing and intensities.

    Parameters
    ----------
    array : (slice, row, column), int16 or float32, native order
    affine_lps : (4, 4), index to LPS millimetres

    Raises
    ------
    RefusedError
        No grid, wrong type, or voxels that are not finite.
    """
    preprocessing = spec.preprocessing if isinstance(spec, ModelSpec) else spec
    view = to_canonical(array, affine_lps)
    grid = model_grid(view, preprocessing)
    if array.dtype not in (np.int16, np.float32):
        raise RefusedError(f"array: dtype {array.dtype} is neither int16 nor float32")
    if array.dtype == np.float32 and not all(np.isfinite(plane).all() for plane in array):
        raise RefusedError("array: some voxels are NaN or infinite")
    intensity = preprocessing.intensity
    match intensity:
        case ClipScale():
            out = resample(
                view.array, grid.axes_to_model(), lower=intensity.lower, upper=intensity.upper
            )
        case ZScore():
            out = resample(view.array, grid.axes_to_model())
            _zscore(out, intensity)
    return Prepared(array=out, grid=grid)


def preprocess_labels(
    labels: NDArray[Any], affine_lps: Float64, spec: ModelSpec | Preprocessing
) -> NDArray[Any]:
    """Bring a label map to the grid of :func:`preprocess`, taking the nearest voxel (training).

    Returns
    -------
    (S, P, L), C-contiguous, of the labels' dtype
    """
    preprocessing = spec.preprocessing if isinstance(spec, ModelSpec) else spec
    view = to_canonical(labels, affine_lps)
    grid = model_grid(view, preprocessing)
    found: NDArray[Any] = resample_nearest(view.array, grid.axes_to_model())
    return found


def _checked_spacing(affine: Float64) -> Float64:
    if affine.shape != (4, 4) or not np.isfinite(affine).all():
        raise RefusedError("affine_lps: must be 4 x 4 and finite")
    spacing: Float64 = np.linalg.norm(affine[:3, :3], axis=0)
    low, high = SPACING_RANGE_MM
    if (spacing < low).any() or (spacing > high).any():
        raise RefusedError(
            f"affine_lps: spacing {spacing.round(4).tolist()} mm is outside [{low}, {high}] mm"
        )
    directions = affine[:3, :3] / spacing
    shear = float(np.abs(directions.T @ directions - np.eye(3)).max())
    if shear > MAX_SHEAR:
        raise RefusedError(
            f"affine_lps: the grid is sheared, cosine {shear:.4f} between two axes is above"
            f" {MAX_SHEAR}; resample it to a rectangular grid first"
        )
    return spacing


def _closest_axes(directions: Float64) -> CanonicalAxes:
    """Give each native axis the patient axis it runs along, the clearest one first."""
    strength = np.abs(directions)  # (LPS axis, native axis)
    patient_of: dict[int, int] = {}
    for native in np.argsort(-strength.max(axis=0), kind="stable"):
        free = [axis for axis in range(3) if axis not in patient_of.values()]
        patient_of[int(native)] = max(free, key=lambda axis: strength[axis, native])
    native_of = {patient: native for native, patient in patient_of.items()}
    s, p, left = native_of[2], native_of[1], native_of[0]
    return CanonicalAxes(
        permutation=(s, p, left),
        flips=(
            bool(directions[2, s] < 0),
            bool(directions[1, p] < 0),
            bool(directions[0, left] < 0),
        ),
    )


def _zscore(out: Float32, intensity: ZScore) -> None:
    """Normalise in place."""
    values = out[out != 0] if intensity.nonzero else out
    if values.size == 0:
        raise RefusedError("array: every voxel is 0")
    clip = (-np.inf, np.inf)
    if intensity.percentiles is not None:
        low, high = np.percentile(values, intensity.percentiles)
        clip = (float(np.float32(low)), float(np.float32(high)))
        np.clip(values, clip[0], clip[1], out=values)  # of a copy where only nonzero voxels count
    mean = float(values.mean(dtype=np.float64))
    sd = float(values.std(dtype=np.float64))
    if not sd > 0:
        raise RefusedError(f"array: every voxel has the same value, {mean:g}; nothing to normalise")
    zscore(out, mean, sd, clip=clip, nonzero=intensity.nonzero, out=out)
