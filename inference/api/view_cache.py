"""Volumes and label maps kept in memory for the study page, within a bound."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar, cast

import numpy as np

from cuda_kernels.label_areas import label_areas
from dicom_io.errors import DicomIoError
from dicom_io.nifti import read_nifti
from dicom_io.read import read_volume
from dicom_io.series import scan
from inference.api.errors import ApiError
from inference.api.slices import DisplayLabels, DisplayVolume
from inference.domain.errors import RefusedError


class Sized(Protocol):
    """What the cache holds."""

    n_bytes: int


T = TypeVar("T", bound=Sized)


class SizedCache:
    """Keeps what was used last, up to a number of bytes; each thing is made only once at a time."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._making: dict[Hashable, threading.Lock] = {}
        self._kept: OrderedDict[Hashable, Sized] = OrderedDict()

    @property
    def n_bytes(self) -> int:
        """How much is held."""
        with self._lock:
            return sum(value.n_bytes for value in self._kept.values())

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what is kept under a key, or make and keep it; others that ask for it wait."""
        found = self._found(key)
        if found is not None:
            return cast(T, found)
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        with making:
            found = self._found(key)
            if found is not None:
                return cast(T, found)
            try:
                made = make()
            finally:
                with self._lock:
                    self._making.pop(key, None)
            with self._lock:
                self._kept[key] = made
                total = sum(value.n_bytes for value in self._kept.values())
                while total > self._max_bytes and len(self._kept) > 1:
                    _, oldest = self._kept.popitem(last=False)
                    total -= oldest.n_bytes
            return made

    def _found(self, key: Hashable) -> Sized | None:
        with self._lock:
            found = self._kept.get(key)
            if found is not None:
                self._kept.move_to_end(key)
            return found


@dataclass(frozen=True, kw_only=True)
class SeriesFiles:
    """A series and its stored files; they are named by content, so equal files are one key."""

    study_uid: str
    series_uid: str
    paths: tuple[Path, ...]


class ViewCache:
    """Hands out what the study page draws."""

    def __init__(self, max_bytes: int) -> None:
        self._cache = SizedCache(max_bytes)

    @property
    def n_bytes(self) -> int:
        """How much is held."""
        return self._cache.n_bytes

    def volume(self, files: SeriesFiles) -> DisplayVolume:
        """Return a series ready to be drawn.

        Raises
        ------
        ApiError
            The series is no volume; the detail says why.
        """
        return self._cache.get(files, lambda: _read(files))

    def warm_up(self) -> None:
        """Load what counts labels, so that the first page does not wait for it."""
        label_areas(np.zeros((1, 1, 1), np.uint8), 1)

    def labels(self, files: SeriesFiles, sha256: str, path: Path) -> DisplayLabels:
        """Return a result's labels, checked to lie on the grid of their series."""
        return self._cache.get(
            (sha256, files),
            lambda: _read_labels(lambda: self.volume(files), path),
        )


def _read(files: SeriesFiles) -> DisplayVolume:
    try:
        found = [s for s in scan(files.paths).series if s.series_uid == files.series_uid]
        if not found:
            raise ApiError("not_drawable", "none of the stored files can be read as this series")
        return DisplayVolume(read_volume(found[0]))
    except (DicomIoError, RefusedError) as error:
        raise ApiError("not_drawable", str(error), reason_code=error.code) from error


def _read_labels(volume: Callable[[], DisplayVolume], path: Path) -> DisplayLabels:
    """Unpack the labels while the series is read: both take about as long."""
    with ThreadPoolExecutor(1) as pool:
        unpacking = pool.submit(read_nifti, path)
        lies_on = volume()
        stored = unpacking.result()
    values: Any = stored.array
    if values.dtype.kind == "f":
        values = np.rint(values).astype(np.int32)
    return lies_on.attach(values, stored.affine_lps)
