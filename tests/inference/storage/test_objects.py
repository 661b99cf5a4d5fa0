from __future__ import annotations

import errno
import hashlib
from pathlib import Path
from typing import BinaryIO

import pytest

from inference.storage.errors import ObjectDamagedError, StorageFullError
from inference.storage.objects import Disk, ObjectStore


class RecordingDisk(Disk):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str]] = []

    def write(self, file: BinaryIO, data: bytes | memoryview) -> None:
        self.calls.append(("write", ""))
        super().write(file, data)

    def fsync(self, path: Path) -> None:
        self.calls.append(("fsync", path.name))
        super().fsync(path)

    def rename(self, source: Path, target: Path) -> None:
        self.calls.append(("rename", target.name))
        super().rename(source, target)


def test_an_object_is_synced_before_and_after_it_gets_its_name(tmp_path: Path) -> None:
    disk = RecordingDisk()
    store = ObjectStore(tmp_path / "data", disk=disk, reserve_bytes=0)
    source = tmp_path / "file"
    source.write_bytes(b"abc")
    disk.calls.clear()
    stored = store.put(source)
    digest = hashlib.sha256(b"abc").hexdigest()
    assert stored.sha256 == digest
    assert stored.path == tmp_path / "data" / "objects" / digest[:2] / digest
    assert [call for call, _ in disk.calls] == ["write", "fsync", "rename", "fsync"]
    assert disk.calls[2:] == [("rename", digest), ("fsync", digest[:2])]
    store.verify(digest)
    assert list(store.tmp.iterdir()) == []


def test_damage_and_absence_are_named(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "data", reserve_bytes=0)
    source = tmp_path / "file"
    source.write_bytes(b"abc")
    stored = store.put(source)
    stored.path.write_bytes(b"abd")
    with pytest.raises(ObjectDamagedError) as caught:
        store.verify(stored.sha256)
    assert caught.value.found_sha256 == hashlib.sha256(b"abd").hexdigest()
    stored.path.unlink()
    with pytest.raises(ObjectDamagedError) as caught:
        store.verify(stored.sha256)
    assert caught.value.found_sha256 is None


def test_below_the_reserve_nothing_is_begun(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "data", reserve_bytes=10**18)
    with pytest.raises(StorageFullError) as caught:
        store.check_space(5)
    assert caught.value.needed_bytes == 10**18 + 5


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
@pytest.mark.parametrize("call", ["write", "fsync", "rename"])
def test_a_full_disk_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, number: int
) -> None:
    store = ObjectStore(tmp_path / "data", reserve_bytes=0)
    source = tmp_path / "file"
    source.write_bytes(b"abc")

    def fail(*_: object) -> None:
        raise OSError(number, "no room")

    monkeypatch.setattr(store.disk, call, fail)
    with pytest.raises(StorageFullError):
        store.put(source)
    assert list(store.tmp.iterdir()) == []
    assert list(store.all_objects()) == []
