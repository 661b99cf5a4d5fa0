"""Shared memory: private, gone by name at once, and never left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from inference.backends.shared_memory import (
    SHARED_MEMORY_FOLDER,
    SharedMemoryFullError,
    SharedRegion,
    remove_dead_regions,
)


def test_an_array_outlives_the_name() -> None:
    with SharedRegion(24) as region:
        path = SHARED_MEMORY_FOLDER / region.name
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.stat().st_size == 24
        array = region.array((2, 3, 4), np.uint8)
        array[...] = np.arange(24).reshape(2, 3, 4)
        assert path.read_bytes() == bytes(range(24))
    assert not path.exists()
    del region
    np.testing.assert_array_equal(array.ravel(), np.arange(24))


def test_the_name_goes_on_an_error() -> None:
    with pytest.raises(ZeroDivisionError), SharedRegion(8) as region:
        raise ZeroDivisionError
    assert not (SHARED_MEMORY_FOLDER / region.name).exists()


def test_a_full_memory_is_an_error_and_leaves_nothing() -> None:
    room = os.statvfs(SHARED_MEMORY_FOLDER)
    wanted = room.f_blocks * room.f_frsize + 2**20
    with pytest.raises(SharedMemoryFullError) as caught:
        SharedRegion(wanted)
    assert caught.value.needed_bytes == wanted
    assert caught.value.free_bytes < wanted
    assert list(SHARED_MEMORY_FOLDER.glob(f"clinfer-volume-{os.getpid()}-*")) == []


def test_what_a_killed_process_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    left = {f"clinfer-volume-{dead}-{'0' * 16}", f"clinfer-server-{dead}-{'0' * 16}-model"}
    kept = (
        f"clinfer-volume-{os.getpid()}-{'0' * 16}",  # its owner lives
        f"clinfer-server-{os.getpid()}-{'0' * 16}-model",
        f"clinfer-volume-{dead}-short",  # not a name that we give
        f"another-{dead}-{'0' * 16}",
    )
    long_ago = time.time() - 3600
    for name in (*left, *kept):
        (tmp_path / name).write_bytes(b"voxels")
        os.utime(tmp_path / name, (long_ago, long_ago))
    young = f"clinfer-volume-{dead}-{'1' * 16}"
    (tmp_path / young).write_bytes(b"voxels")
    assert set(remove_dead_regions(folder=tmp_path)) == left
    assert {path.name for path in tmp_path.iterdir()} == {*kept, young}
