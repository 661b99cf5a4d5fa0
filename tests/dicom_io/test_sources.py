"""Folders, archives and lists to files; archives that want out of their folder or are bombs."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest

from dicom_io.errors import ArchiveEntryError, ArchiveLimitError, SourceError
from dicom_io.read import read_volume
from dicom_io.series import scan
from dicom_io.sources import SourceLimits, open_source
from tests.builders.dicom import ct_series, write_instances


def zip_of(path: Path, entries: dict[str, bytes], **options: int) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, **options) as archive:  # type: ignore[arg-type]
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def tar_of(path: Path, entries: list[tarfile.TarInfo | tuple[str, bytes]], mode: str = "w") -> Path:
    with tarfile.open(path, mode) as archive:  # type: ignore[call-overload]
        for entry in entries:
            if isinstance(entry, tarfile.TarInfo):
                archive.addfile(entry)
            else:
                info = tarfile.TarInfo(entry[0])
                info.size = len(entry[1])
                archive.addfile(info, io.BytesIO(entry[1]))
    return path


def contents(path: Path | list[Path], limits: SourceLimits | None = None) -> dict[str, bytes]:
    with open_source(path, limits=limits or SourceLimits()) as files:
        return {file.name: file.read_bytes() for file in files}


def test_a_folder_gives_every_file_below_it(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "1").write_bytes(b"one")
    (tmp_path / "2").write_bytes(b"two")
    os.mkfifo(tmp_path / "pipe")
    assert contents(tmp_path) == {"1": b"one", "2": b"two"}


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz", "w:bz2"])
def test_a_tar_is_unpacked_and_removed_again(tmp_path: Path, mode: str) -> None:
    suffix = ".tar" + mode[1:].replace(":", ".")
    path = tar_of(tmp_path / f"x{suffix}", [("d/1", b"one"), ("./2", b"two")], mode)
    with open_source(path) as files:
        assert {file.name: file.read_bytes() for file in files} == {"1": b"one", "2": b"two"}
        kept = files
    assert not any(file.exists() for file in kept)


def test_a_series_reads_the_same_from_folder_zip_tar_and_list(tmp_path: Path) -> None:
    paths = write_instances(tmp_path / "in", ct_series(slices=3))
    entries = {f"deep/{path.name}": path.read_bytes() for path in paths}
    sources = [
        tmp_path / "in",
        zip_of(tmp_path / "x.zip", entries),
        tar_of(tmp_path / "x.tar.xz", list(entries.items()), "w:xz"),
        list(paths),
    ]
    hashes = set()
    for source in sources:
        with open_source(source) as files:
            volume = read_volume(scan(files).series[0])
        assert volume.source is not None
        hashes.add(tuple(item.sha256 for item in volume.source.instances))
    assert len(hashes) == 1


def test_a_list_may_hold_archives_and_files(tmp_path: Path) -> None:
    (tmp_path / "1").write_bytes(b"one")
    archive = zip_of(tmp_path / "x.zip", {"2": b"two"})
    assert contents([tmp_path / "1", archive]) == {"1": b"one", "2": b"two"}


def test_an_archive_within_an_archive_stays_a_file(tmp_path: Path) -> None:
    inner = zip_of(tmp_path / "inner.zip", {"x": b"x"}).read_bytes()
    assert list(contents(zip_of(tmp_path / "x.zip", {"inner.zip": inner}))) == ["inner.zip"]


LEAVING = ["../canary", "a/../../canary", "/tmp/canary", "..\\canary", "C:\\canary", "a/../b"]  # noqa: S108


@pytest.mark.parametrize("name", LEAVING)
def test_an_entry_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    for archive in (
        zip_of(tmp_path / "in" / "x.zip", {"good": b"1", name: b"canary"}),
        tar_of(tmp_path / "in" / "x.tar", [("good", b"1"), (name, b"canary")]),
    ):
        with pytest.raises(ArchiveEntryError) as caught:
            contents(archive)
        assert "leaves" in caught.value.problem
        assert caught.value.entry
    assert not list(tmp_path.rglob("canary"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE]
)
def test_links_and_devices_are_refused(tmp_path: Path, kind: bytes) -> None:
    info = tarfile.TarInfo("link")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(ArchiveEntryError) as caught:
        contents(tar_of(tmp_path / "x.tar", [info]))
    assert caught.value.entry == "link"


def test_a_link_in_a_zip_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    info = zipfile.ZipInfo("link")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(ArchiveEntryError, match="link"):
        contents(path)


def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveEntryError, match="twice"):
        contents(tar_of(tmp_path / "x.tar", [("a", b"1"), ("a", b"2")]))


def test_an_entry_that_is_a_file_and_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveEntryError):
        contents(tar_of(tmp_path / "x.tar", [("a", b"1"), ("a/b", b"2")]))


def test_a_name_that_is_too_long_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveEntryError):
        contents(zip_of(tmp_path / "x.zip", {"a" * 300: b"1"}))


def test_an_encrypted_zip_is_refused(tmp_path: Path) -> None:
    data = bytearray(zip_of(tmp_path / "x.zip", {"a": b"secret"}).read_bytes())
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(mark) + offset] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(ArchiveEntryError, match="encrypted"):
        contents(tmp_path / "x.zip")


@pytest.mark.parametrize(
    ("limits", "name"),
    [
        (SourceLimits(max_entries=2), "max_entries"),
        (SourceLimits(max_entry_bytes=9), "max_entry_bytes"),
        (SourceLimits(max_total_bytes=25), "max_total_bytes"),
    ],
)
def test_each_limit_is_named(tmp_path: Path, limits: SourceLimits, name: str) -> None:
    entries = {str(index): b"0123456789" for index in range(3)}
    for archive in (
        zip_of(tmp_path / "x.zip", entries),
        tar_of(tmp_path / "x.tar.gz", list(entries.items()), "w:gz"),
    ):
        with pytest.raises(ArchiveLimitError) as caught:
            contents(archive, limits)
        assert caught.value.limit == name


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_is_refused_by_its_ratio(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dicom_io.sources._RATIO_FROM_BYTES", 1024**2)
    data = b"\0" * (48 * 1024**2)
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        zip_of(path, {"a": data}, compresslevel=9)
    else:
        tar_of(path, [("a", data)], "w:gz")
    with pytest.raises(ArchiveLimitError) as caught:
        contents(path)
    assert caught.value.limit == "max_ratio"


def test_damaged_archives_are_refused(tmp_path: Path) -> None:
    whole = zip_of(tmp_path / "x.zip", {"a": bytes(range(256)) * 50}).read_bytes()
    (tmp_path / "x.zip").write_bytes(whole[:60] + b"\xff" * 20 + whole[80:])
    tar = tar_of(tmp_path / "x.tar.gz", [("a", os.urandom(5000))], "w:gz").read_bytes()
    (tmp_path / "x.tar.gz").write_bytes(tar[: len(tar) // 2])
    (tmp_path / "y.tar.xz").write_bytes(b"not xz at all")
    for name in ("x.zip", "x.tar.gz", "y.tar.xz"):
        with pytest.raises(SourceError, match="damaged"):
            contents(tmp_path / name)


def test_nothing_there_and_nothing_in_it_are_said(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="not there"):
        contents(tmp_path / "gone")
    with pytest.raises(SourceError, match="no file"):
        contents(tmp_path / "empty")
    with pytest.raises(SourceError, match="no file"):
        contents(zip_of(tmp_path / "x.zip", {}))


def test_a_dicom_file_with_a_zip_appended_is_a_dicom_file(tmp_path: Path) -> None:
    (path,) = write_instances(tmp_path, ct_series(slices=1))
    path.write_bytes(path.read_bytes() + zip_of(tmp_path / "x.zip", {"a": b"1"}).read_bytes())
    assert list(contents(path)) == [path.name]
