"""A DICOM object is on disk whole, or the folder is as it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread

from dicom_io.write import write_dicom
from tests.builders.instances import ct_dataset


def test_a_written_object_reads_back(tmp_path: Path) -> None:
    dataset = ct_dataset()
    write_dicom(dataset, tmp_path / "ct.dcm")
    assert dcmread(tmp_path / "ct.dcm").to_json_dict() == dataset.to_json_dict()
    assert [path.name for path in tmp_path.iterdir()] == ["ct.dcm"]


def test_bytes_are_on_disk_before_the_name_and_the_name_before_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def watched_fsync(descriptor: int) -> None:
        steps.append("folder" if os.path.isdir(f"/proc/self/fd/{descriptor}") else "file")  # noqa: PTH112
        fsync(descriptor)

    def watched_replace(path: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", watched_fsync)
    monkeypatch.setattr(Path, "replace", watched_replace)
    write_dicom(ct_dataset(), tmp_path / "ct.dcm")
    assert steps == ["file", "rename", "folder"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ct.dcm"
    write_dicom(ct_dataset(slice_number=1), path)
    before = path.read_bytes()

    def full(_: int) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_dicom(ct_dataset(slice_number=2), path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["ct.dcm"]
