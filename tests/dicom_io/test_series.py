"""Files to studies and series: grouping, what is skipped and why."""

from __future__ import annotations

import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom.fileset import FileSet

from dicom_io.read import read_volume
from dicom_io.series import scan
from dicom_io.sources import open_source
from tests.builders.dicom import (
    Identity,
    affine_from,
    as_bytes,
    ct_series,
    enhanced_mr,
    mr_series,
    ramp,
    write_instances,
)

UNIFORM = affine_from((2.0, 0.5, 0.7))


def test_a_folder_of_two_studies_is_told_apart(tmp_path: Path) -> None:
    first = Identity()
    second_series = Identity(study_uid=first.study_uid, description="second")
    write_instances(tmp_path / "a", ct_series(slices=3, identity=first))
    write_instances(
        tmp_path / "b", mr_series(abs(ramp((4, 5, 6))), UNIFORM, identity=second_series)
    )
    write_instances(tmp_path / "c", ct_series(slices=5))
    found = scan(p for p in tmp_path.rglob("*") if p.is_file())
    assert found.skipped == ()
    assert len(found.studies) == 2
    study = next(s for s in found.studies if s.study_uid == first.study_uid)
    shape = {(s.modality, len(s.instances), s.description, s.body_part) for s in study.series}
    assert shape == {("CT", 3, "built series", "CHEST"), ("MR", 4, "second", "CHEST")}
    assert all(series.is_image for series in found.series)


def test_other_files_are_listed_with_a_reason_and_stop_nothing(tmp_path: Path) -> None:
    paths = list(write_instances(tmp_path, ct_series(slices=3)))
    (tmp_path / "readme.txt").write_text("hello")
    (tmp_path / "empty").write_bytes(b"")
    cut = tmp_path / "cut.dcm"
    cut.write_bytes(as_bytes(ct_series(slices=1)[0])[:-30])
    missing = tmp_path / "gone.dcm"
    found = scan([*paths, tmp_path / "readme.txt", tmp_path / "empty", cut, missing])
    assert len(found.series) == 1
    codes = {skipped.path.name: skipped.code for skipped in found.skipped}
    assert codes == {
        "readme.txt": "not_dicom",
        "empty": "not_dicom",
        "cut.dcm": "truncated_file",
        "gone.dcm": "file",
    }
    assert all(skipped.reason for skipped in found.skipped)


def test_a_dicomdir_is_skipped_and_its_files_are_scanned(tmp_path: Path) -> None:
    paths = write_instances(tmp_path / "in", ct_series(slices=3))
    files = FileSet()
    for path in paths:
        files.add(path)
    files.write(tmp_path / "disc")
    files._stage["t"].cleanup()  # pydicom leaves it to the garbage collector, which warns
    with open_source(tmp_path / "disc") as found_files:
        found = scan(found_files)
    assert [(s.path.name, s.code) for s in found.skipped] == [("DICOMDIR", "dicomdir")]
    assert len(found.series[0].instances) == 3


def test_a_copy_of_a_file_is_left_out_and_said(tmp_path: Path) -> None:
    paths = write_instances(tmp_path, ct_series(slices=3))
    copy = tmp_path / "copy.dcm"
    shutil.copy(paths[1], copy)
    found = scan([*paths, copy])
    (skipped,) = found.skipped
    assert skipped.code == "copy"
    assert {skipped.path.name, skipped.reason.split()[-1]} == {paths[1].name, "copy.dcm"}
    assert read_volume(found.series[0]).array.shape == (3, 5, 7)


def blank(instances: list[pydicom.FileDataset]) -> list[pydicom.FileDataset]:
    for dataset in instances:
        dataset.StudyInstanceUID = dataset.SeriesInstanceUID = ""
        dataset.FrameOfReferenceUID = ""
    return instances


def test_blank_uids_are_told_apart_by_geometry(tmp_path: Path) -> None:
    write_instances(tmp_path / "a", blank(ct_series(slices=3)))
    write_instances(tmp_path / "b", blank(ct_series(slices=4, rows=6)))
    found = scan(p for p in tmp_path.rglob("*") if p.is_file())
    assert len(found.studies) == 1
    shapes = {read_volume(series).array.shape for series in found.series}
    assert shapes == {(3, 5, 7), (4, 6, 7)}


def test_modalities_under_one_series_uid_are_two_series(tmp_path: Path) -> None:
    who = Identity()
    write_instances(tmp_path / "a", ct_series(slices=3, identity=who))
    write_instances(tmp_path / "b", mr_series(abs(ramp((3, 5, 7))), UNIFORM, identity=who))
    found = scan(p for p in tmp_path.rglob("*") if p.is_file())
    assert sorted(series.modality for series in found.series) == ["CT", "MR"]


def test_a_structure_set_is_listed_and_is_no_image(shared_data: Path) -> None:
    folder = shared_data / "ct-mr-pet-dicom" / "STS_001"
    with open_source(folder) as files:
        found = scan(files)
    kinds = sorted((s.modality, s.is_image, len(s.instances)) for s in found.series)
    assert kinds == [
        ("CT", True, 59),
        ("MR", True, 59),
        ("PT", True, 59),
        ("RTSTRUCT", False, 1),
        ("RTSTRUCT", False, 1),
        ("RTSTRUCT", False, 1),
    ]


def test_reading_ahead_on_threads_changes_nothing(tmp_path: Path) -> None:
    paths = write_instances(tmp_path, ct_series(slices=12))
    assert scan(paths, workers=4) == scan(paths)


def test_a_localizer_is_known_by_its_image_type(tmp_path: Path) -> None:
    instances = ct_series(slices=2)
    instances[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    (series,) = scan(write_instances(tmp_path, instances)).series
    assert sorted(item.is_localizer for item in series.instances) == [False, True]
    assert len(series.without_localizers().instances) == 1


@pytest.mark.parametrize("kind", ["ct", "mr", "enhanced"])
def test_built_instances_pass_dciodvfy(tmp_path: Path, kind: str) -> None:
    """Result objects inherit from the source, so a source with faults would hide theirs."""
    import subprocess

    if shutil.which("dciodvfy") is None:
        pytest.fail("dciodvfy is missing: install the Debian package dicom3tools")
    array = abs(ramp((3, 5, 7)))
    instances = {
        "ct": lambda: ct_series(slices=3),
        "mr": lambda: mr_series(array, UNIFORM),
        "enhanced": lambda: [enhanced_mr(array, UNIFORM)],
    }[kind]()
    for path in write_instances(tmp_path, instances):
        report = subprocess.run(
            ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
        ).stderr
        assert "Error" not in report, report
