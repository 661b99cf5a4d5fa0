"""Networks converted for an engine, kept on this machine; the repository holds safetensors only.

An entry is a folder named by the SHA-256 of what it was made from: weights, network, window,
engine and library versions. It appears whole, by one rename, with the hash of each file, and is
checked against them before it is used.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from inference.domain.errors import BackendError
from inference.pipeline.engines.base import installed_version
from inference.pipeline.spec import ModelSpec

MANIFEST = "entry.json"
INT8_FORM = "openvino-int8"
"""Name of the int8 network: the only form that cannot be made from weights alone."""
_CONVERTERS = ("torch", "monai", "openvino", "onnxruntime", "onnx", "nncf")


class EngineCacheError(BackendError):
    """A converted network on this machine is damaged; the folder may be deleted."""

    code = "engine_cache"

    def __init__(self, *, path: Path, problem: str) -> None:
        self.path, self.problem = path, problem
        super().__init__(f"{path}: {problem}; delete the folder, it is made again")


def default_cache_dir() -> Path:
    """Return where converted networks are kept when nothing else is said."""
    return Path.home() / ".cache" / "clinfer" / "engines"


class EngineCache:
    """A folder of converted networks; several processes may use it at once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entry(self, spec: ModelSpec, form: str, make: Callable[[Path], None]) -> Path:
        """Return the folder of a converted network, making it the first time.

        Parameters
        ----------
        form : what it was converted to, e.g. ``openvino``
        make : writes the files into the empty folder it is given

        Raises
        ------
        EngineCacheError
            The entry is damaged, or the cache folder cannot be written.
        """
        place = self.folder / key(spec, form)
        if not place.exists():
            self._make(place, form, make)
        _check(place)
        return place

    def replace(self, spec: ModelSpec, form: str, make: Callable[[Path], None]) -> Path:
        """Make an entry anew: one that depends on more than its key, as int8 on its windows."""
        place = self.folder / key(spec, form)
        shutil.rmtree(place, ignore_errors=True)
        return self.entry(spec, form, make)

    def has(self, spec: ModelSpec, form: str) -> bool:
        """Whether a network was converted already."""
        return (self.folder / key(spec, form) / MANIFEST).is_file()

    def _make(self, place: Path, form: str, make: Callable[[Path], None]) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            fresh = Path(tempfile.mkdtemp(prefix=f".{form}.", dir=self.folder))
        except OSError as error:
            raise EngineCacheError(
                path=self.folder, problem=f"cannot be written: {error.strerror}"
            ) from error
        try:
            make(fresh)
            hashes = {path.name: _sha256(path) for path in sorted(fresh.iterdir())}
            (fresh / MANIFEST).write_text(json.dumps(hashes, indent=2) + "\n", encoding="utf-8")
            for path in fresh.iterdir():
                _sync(path)
            try:
                fresh.rename(place)
            except OSError:  # another process was first; its entry is as good
                if not place.exists():
                    raise
        finally:
            shutil.rmtree(fresh, ignore_errors=True)


def key(spec: ModelSpec, form: str) -> str:
    """Return the name of an entry: what it is made from, hashed."""
    parts: dict[str, Any] = {
        "form": form,
        "weights": spec.weights.sha256,
        "network": spec.network.model_dump(mode="json", by_alias=True),
        "classes": spec.n_classes,
        "roi_size": spec.window.roi_size,
        "versions": {name: installed_version(name) for name in _CONVERTERS},
    }
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    return f"{form}-{digest[:32]}"


def _check(place: Path) -> None:
    try:
        hashes = json.loads((place / MANIFEST).read_text(encoding="utf-8"))
        wrong = [name for name, sha256 in hashes.items() if _sha256(place / name) != sha256]
    except (OSError, ValueError) as error:
        raise EngineCacheError(path=place, problem=f"not a whole entry: {error}") from error
    if wrong:
        raise EngineCacheError(path=place, problem=f"{wrong[0]} has changed since it was made")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
