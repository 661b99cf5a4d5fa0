"""Inflate a deflated data set to a temporary file, no further than a cap and a ratio allow."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.jobs.errors import DamagedFileError, TooLargeError
from inference.jobs.receipts import IntakeSettings
from inference.jobs.structure import FileMeta, is_deflated
from inference.storage.objects import CHUNK_BYTES, ObjectStore

RATIO_FREE_BYTES = 16 * 1024 * 1024
"""Inflating to this size is harmless whatever the ratio."""


@contextmanager
def plain_dataset(
    path: Path, meta: FileMeta, objects: ObjectStore, settings: IntakeSettings
) -> Iterator[tuple[Path, int]]:
    """Give the file and offset of the data set's elements, inflated where it is deflated.

    Raises
    ------
    DamagedFileError, TooLargeError, StorageFullError
    """
    if not is_deflated(meta.transfer_syntax_uid):
        yield path, meta.dataset_offset
        return
    inflated = objects.new_temporary()
    try:
        _inflate(path, meta.dataset_offset, inflated, objects, settings)
        yield inflated, 0
    finally:
        inflated.unlink(missing_ok=True)


def _inflate(
    path: Path, offset: int, target: Path, objects: ObjectStore, settings: IntakeSettings
) -> None:
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    n_in, n_out = 0, 0
    try:
        with path.open("rb") as read, objects.disk.create(target) as write:
            read.seek(offset)
            while not inflater.eof:
                chunk = inflater.unconsumed_tail or read.read(CHUNK_BYTES)
                if not chunk:
                    raise DamagedFileError(field="deflated dataset", problem="is cut off")
                plain = inflater.decompress(chunk, CHUNK_BYTES)
                n_in = read.tell() - offset
                n_out += len(plain)
                if n_out > settings.max_inflated_bytes or (
                    n_out > RATIO_FREE_BYTES and n_out > n_in * settings.max_inflate_ratio
                ):
                    raise TooLargeError(
                        field="deflated dataset", problem=f"inflates {n_in} to over {n_out}"
                    )
                objects.disk.write(write, plain)
    except zlib.error as error:
        raise DamagedFileError(field="deflated dataset", problem=str(error)) from error
    except OSError as error:
        raise objects.named_error(error) from error
