"""Slices of a volume as a screen shows them (`inference.pipeline.screen`): raw, or as pictures."""

from __future__ import annotations

import gzip
import io
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cuda_kernels.label_areas import label_areas
from dicom_io.volume import Volume
from inference.api.errors import ApiError
from inference.pipeline.preprocess import CanonicalView, to_canonical
from inference.pipeline.screen import AXIS, PLANES, Plane, acquired_plane, cut

SAME_PLACE_MM = 0.01
"""Largest difference of two grids' affines that are one grid; a NIfTI header holds float32."""

LETTER_THRESHOLD = 0.26
"""Direction cosine from which a second letter is added: about 15 degrees off the axis."""
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))

AUTO_PERCENTILES = (1.0, 99.0)
"""Part of the values that the automatic window spans, for images without fixed units."""


@dataclass(frozen=True, kw_only=True)
class WindowPreset:
    """A named window: values from ``center - width / 2`` to ``center + width / 2`` become grey."""

    name: str
    center: float
    width: float


CT_PRESETS_HU = (
    WindowPreset(name="Lung", center=-600, width=1500),
    WindowPreset(name="Soft tissue", center=40, width=400),
    WindowPreset(name="Bone", center=400, width=1800),
    WindowPreset(name="Brain", center=40, width=80),
)
"""Windows in common use for CT, in Hounsfield units; a display choice, not a measurement."""


@dataclass(frozen=True, kw_only=True)
class PlaneGeometry:
    """How one plane of a volume is laid out on the screen.

    Attributes
    ----------
    height, width : of a slice, in pixels; ``row_mm``, ``column_mm`` : distance between them
    letters : what lies at the top, bottom, left and right edge
    is_acquired : the plane in which the scanner made the slices; others are reformatted
    origin_lps_mm : centre of the top left pixel of slice 0; the three steps lead from it to the
        next slice, row and column
    """

    plane: Plane
    n_slices: int
    height: int
    width: int
    slice_mm: float
    row_mm: float
    column_mm: float
    letters: dict[str, str]
    is_acquired: bool
    origin_lps_mm: tuple[float, float, float]
    slice_step_lps_mm: tuple[float, float, float]
    row_step_lps_mm: tuple[float, float, float]
    column_step_lps_mm: tuple[float, float, float]


class DisplayVolume:
    """A volume ready to be drawn: its own voxels, seen along other axes."""

    def __init__(self, volume: Volume) -> None:
        self.modality, self.unit = volume.modality, volume.unit
        self._affine_lps = volume.affine_lps
        self._view = to_canonical(volume.array, volume.affine_lps)
        self.native_shape = volume.array.shape
        self.n_bytes = int(volume.array.nbytes)
        self.presets = window_presets(volume)
        self.planes = {plane: _geometry(self._view, plane) for plane in PLANES}
        self._lookup: tuple[tuple[float, float], NDArray[np.uint8]] | None = None

    @property
    def acquired_plane(self) -> Plane:
        """The plane of the scanner's own slices."""
        return acquired_plane(self._view.axes)

    def png(self, plane: Plane, index: int, *, center: float, width: float) -> bytes:
        """Return one slice as an 8-bit grey PNG.

        Raises
        ------
        ApiError
            The plane has no such slice.
        """
        values = cut(self._view.array, plane, self._checked(plane, index))
        grey = self._windowed(values, center, width)
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "PNG", compress_level=1)
        return file.getvalue()

    def raw(self, plane: Plane, index: int) -> bytes:
        """Return one slice's values row by row, little-endian: int16, or float32 where needed.

        The screen windows them itself, so that a window costs no request.

        Raises
        ------
        ApiError
            The plane has no such slice.
        """
        values = cut(self._view.array, plane, self._checked(plane, index))
        return values.astype(self.raw_dtype, copy=False).tobytes()

    @property
    def raw_dtype(self) -> np.dtype[Any]:
        """int16 where the values are, else float32."""
        return np.dtype("<i2" if self._view.array.dtype == np.int16 else "<f4")

    def attach(self, labels: NDArray[Any], affine_lps: NDArray[np.float64]) -> DisplayLabels:
        """See a label map on the volume's own grid the way the volume is seen.

        Raises
        ------
        ApiError
            The labels lie on another grid, so drawing them would put them in the wrong place.
        """
        is_same_place = np.allclose(affine_lps, self._affine_lps, atol=SAME_PLACE_MM)
        if labels.shape != self.native_shape or not is_same_place:
            raise ApiError(
                "not_drawable",
                f"the labels' grid {labels.shape} is not the series' grid {self.native_shape}",
            )
        dtype = np.uint8 if int(labels.max(initial=0)) < 256 else np.dtype("<u2")
        seen = np.ascontiguousarray(self._view.axes.view(labels.astype(dtype, copy=False)))
        return DisplayLabels(seen, self.acquired_plane)

    def _checked(self, plane: Plane, index: int) -> int:
        n_slices = self.planes[plane].n_slices
        if not 0 <= index < n_slices:
            raise ApiError("not_found", f"the {plane} plane has slices 0 to {n_slices - 1}")
        return index

    def _windowed(self, values: NDArray[Any], center: float, width: float) -> NDArray[np.uint8]:
        if values.dtype != np.int16:
            return window_to_grey(values, center, width)
        known = self._lookup
        if known is None or known[0] != (center, width):
            every_value = np.arange(-32768, 32768, dtype=np.int32)
            known = ((center, width), window_to_grey(every_value, center, width))
            self._lookup = known
        grey: NDArray[np.uint8] = known[1][values.astype(np.int32) + 32768]
        return grey


class DisplayLabels:
    """A label map seen like its volume, and on which slices each label is."""

    def __init__(self, canonical: NDArray[Any], acquired: Plane) -> None:
        self.array, self.acquired = canonical, acquired
        self.n_bytes = int(canonical.nbytes)
        self._areas = _areas(canonical)

    @property
    def bytes_per_pixel(self) -> int:
        """1, or 2 (little-endian) where there are more than 255 labels."""
        return self.array.dtype.itemsize

    def gzipped(self, plane: Plane, index: int) -> bytes:
        """Return one slice as gzipped raw bytes, row by row.

        Not a picture, so that no colour management can turn one label into another.
        """
        n_slices = self.array.shape[AXIS[plane]]
        if not 0 <= index < n_slices:
            raise ApiError("not_found", f"the {plane} plane has slices 0 to {n_slices - 1}")
        return gzip.compress(cut(self.array, plane, index).tobytes(), 1, mtime=0)

    def whole_gzipped(self) -> bytes:
        """Return every label, gzipped raw bytes: slice to Superior, row to Posterior, to Left."""
        return gzip.compress(self.array.data, 1, mtime=0)

    def presence(self, plane: Plane, label: int) -> dict[str, Any]:
        """Return the first, last and largest slice of a label in a plane; empty where absent."""
        areas = self._areas[plane].get(label)
        if areas is None:
            return {}
        found = np.flatnonzero(areas)
        return {"first": int(found[0]), "last": int(found[-1]), "largest": int(areas.argmax())}

    def fullest_slice(self, plane: Plane) -> int | None:
        """Return the slice with most labelled pixels, weighting segments alike; None if empty."""
        areas = [values / values.max() for values in self._areas[plane].values()]
        return int(np.sum(areas, axis=0).argmax()) if areas else None


def window_to_grey(values: NDArray[Any], center: float, width: float) -> NDArray[np.uint8]:
    """Map values linearly to 0..255; PS3.3 C.11.2.1.2.1 (LINEAR), for any unit.

    ``width`` is at least 1 there; here any width above 0 works, for images with small values.
    """
    step = 1.0 if width > 1 else 0.0
    low = center - 0.5 * step - (width - step) / 2
    grey = (values.astype(np.float32) - np.float32(low)) * np.float32(255 / max(width - step, 1e-9))
    rounded: NDArray[np.uint8] = np.clip(np.rint(grey), 0, 255).astype(np.uint8)
    return rounded


def window_presets(volume: Volume) -> tuple[WindowPreset, ...]:
    """Return the windows on offer, the one to begin with first."""
    if volume.modality == "CT":
        stored = _stored_window(volume)
        return ((stored,) if stored else ()) + CT_PRESETS_HU
    sample = volume.array[:: max(1, volume.array.shape[0] // 32), ::2, ::2]
    inside = sample[sample > sample.min()] if sample.size else sample
    values = inside if inside.size else volume.array
    low, high = (float(value) for value in np.percentile(values, AUTO_PERCENTILES))
    least, most = float(volume.array.min()), float(volume.array.max())
    return (
        WindowPreset(name="Auto", center=(low + high) / 2, width=max(high - low, 1e-6)),
        WindowPreset(name="Full", center=(least + most) / 2, width=max(most - least, 1e-6)),
    )


def _stored_window(volume: Volume) -> WindowPreset | None:
    """Return the window that the scanner stored, where it is usable."""
    if volume.source is None:
        return None
    header = volume.source.instances[0].header
    center, width = header.get("WindowCenter"), header.get("WindowWidth")
    center = center[0] if isinstance(center, list | tuple) or hasattr(center, "__len__") else center
    width = width[0] if isinstance(width, list | tuple) or hasattr(width, "__len__") else width
    try:
        found = WindowPreset(name="As stored", center=float(center), width=float(width))
    except (TypeError, ValueError):
        return None
    is_usable = np.isfinite(found.center) and np.isfinite(found.width) and found.width >= 1
    is_known = any((p.center, p.width) == (found.center, found.width) for p in CT_PRESETS_HU)
    return found if is_usable and not is_known else None


def edge_letter(direction_lps: NDArray[np.float64]) -> str:
    """Name a direction: one letter along an axis, two where it is clearly oblique."""
    order = np.argsort(-np.abs(direction_lps), kind="stable")
    letters = [
        _LETTERS[axis][0 if direction_lps[axis] > 0 else 1]
        for axis in order
        if abs(direction_lps[axis]) >= LETTER_THRESHOLD
    ]
    return "".join(letters[:2])


def _geometry(view: CanonicalView, plane: Plane) -> PlaneGeometry:
    depth, height, width = view.array.shape
    superior, posterior, left = (view.affine_lps[:3, axis] for axis in range(3))
    top = view.affine_lps[:3, 3] + superior * (depth - 1)
    if plane == "axial":
        counts, steps, corner = (depth, height, width), (-superior, posterior, left), top
    elif plane == "coronal":
        counts, steps, corner = (height, depth, width), (posterior, -superior, left), top
    else:
        counts, steps, corner = (width, depth, height), (left, -superior, posterior), top
    lengths = [float(np.linalg.norm(step)) for step in steps]
    down, right = steps[1] / lengths[1], steps[2] / lengths[2]
    return PlaneGeometry(
        plane=plane,
        n_slices=counts[0],
        height=counts[1],
        width=counts[2],
        slice_mm=lengths[0],
        row_mm=lengths[1],
        column_mm=lengths[2],
        letters={
            "top": edge_letter(-down),
            "bottom": edge_letter(down),
            "left": edge_letter(-right),
            "right": edge_letter(right),
        },
        is_acquired=view.axes.permutation[AXIS[plane]] == 0,
        origin_lps_mm=_triple(corner),
        slice_step_lps_mm=_triple(steps[0]),
        row_step_lps_mm=_triple(steps[1]),
        column_step_lps_mm=_triple(steps[2]),
    )


def _areas(canonical: NDArray[Any]) -> dict[Plane, dict[int, NDArray[np.int64]]]:
    """Count the pixels of each label on each slice of each plane, in the order of the screen."""
    n_labels = int(canonical.max(initial=0)) + 1
    counted = label_areas(canonical, n_labels)
    found = [label for label in range(1, n_labels) if counted[0][:, label].any()]
    areas: dict[Plane, dict[int, NDArray[np.int64]]] = {}
    for plane in PLANES:
        counts = counted[AXIS[plane]]
        order = counts[::-1] if plane == "axial" else counts
        areas[plane] = {label: np.ascontiguousarray(order[:, label]) for label in found}
    return areas


def _triple(vector: NDArray[np.float64]) -> tuple[float, float, float]:
    return (float(vector[0]), float(vector[1]), float(vector[2]))
