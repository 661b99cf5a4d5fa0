"""Write a DICOM object so that it is whole and on disk, or not there at all."""

from __future__ import annotations

import os
from pathlib import Path
from uuid import uuid4

from pydicom.dataset import Dataset


def write_dicom(dataset: Dataset, path: Path) -> None:
    """Write `dataset` to `path`: temporary file beside it, flushed to disk, renamed into place.

    An older file of that name is replaced in one step; a failure leaves it as it was and removes
    the temporary file.

    Parameters
    ----------
    dataset : with ``file_meta`` naming its transfer syntax
    path : its folder exists
    """
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as stream:
            dataset.save_as(stream, enforce_file_format=True)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
