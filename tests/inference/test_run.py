"""`clinfer run`, as a person types it, on real studies: files, checkers, a PACS, exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import psutil
import pydicom
import pytest
from PIL import Image
from pydicom.uid import generate_uid

from dicom_io.series import scan
from dicom_io.sources import open_source
from tests.builders.dicom import affine_from, ct_series, write_instances, write_series
from tests.builders.orthanc import Orthanc, find_orthanc, running_orthanc
from tests.builders.validators import dcentvfy, dciodvfy, pixelmed_sr

REAL_STUDIES = {
    "hippocampus crop": ("mr-dicom/pgbm-003/11_HCropVolume", "mr_hippocampus_seg"),
    "4D-lung": ("ct-dicom/4d-lung-113_HM10395/4d-lung-113_HM10395.tar.xz", "ct_lung_seg"),
    "LIDC": ("ct-dicom/lidc-idri-0001-partial", "ct_lung_seg"),
}
J2K = "ct-dicom/totalseg-example-j2k"


@pytest.fixture(scope="module")
def pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    if find_orthanc() is None:
        pytest.fail("Orthanc is missing: install the Debian packages orthanc orthanc-dicomweb")
    with running_orthanc(tmp_path_factory.mktemp("orthanc")) as orthanc:
        yield orthanc


def clinfer(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "inference", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


def last_line(done: subprocess.CompletedProcess[str]) -> str:
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize("name", REAL_STUDIES)
def test_a_real_study_gives_valid_objects_that_a_pacs_gives_back_unchanged(
    name: str, shared_data: Path, tmp_path: Path, pacs: Orthanc
) -> None:
    study, model = REAL_STUDIES[name]
    out = tmp_path / "out"
    done = clinfer("run", shared_data / study, "-o", out)
    assert done.returncode == 0, done.stderr

    (result,) = json.loads((out / "result.json").read_text())["results"]
    assert result["model"] == model
    assert [segment["volume_ml"] > 0 for segment in result["segments"]] == [True, True]
    assert result["timings_s"]["total"] > 0
    assert result["peak_memory_mib"] > 0
    files = {kind: out / path for kind, path in result["files"].items()}
    assert set(files) == {"seg", "sr", "labels", "sheet"}

    assert dciodvfy(files["seg"]) == []
    assert dciodvfy(files["sr"]) == []
    assert pixelmed_sr(files["sr"]) == []
    with open_source(shared_data / study) as sources:
        (series,) = (one for one in scan(sources).series if one.is_image)
        paths = [instance.path for instance in series.instances]
        assert dcentvfy([*paths, files["seg"], files["sr"]]) == []

    _labels_say_what_the_report_says(files["labels"], result["segments"])
    with Image.open(files["sheet"]) as sheet:
        assert sheet.width > 1000
    for kind in ("seg", "sr"):
        _pacs_gives_it_back(pacs, files[kind])


def test_the_j2k_series_with_blank_uids_is_refused_naming_the_uid(
    shared_data: Path, tmp_path: Path
) -> None:
    done = clinfer("run", shared_data / J2K, "-o", tmp_path / "out")
    assert done.returncode == 3
    assert last_line(done).startswith("error[")
    assert "UID" in last_line(done)
    assert list(tmp_path.iterdir()) == []  # nothing half-made stays


def test_a_copy_of_the_j2k_series_with_uids_goes_through(shared_data: Path, tmp_path: Path) -> None:
    study_uid, series_uid, frame_uid = generate_uid(), generate_uid(), generate_uid()
    (tmp_path / "in").mkdir()
    for number, path in enumerate(sorted((shared_data / J2K).glob("*.dcm"))):
        dataset = pydicom.dcmread(path)
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study_uid, series_uid
        dataset.FrameOfReferenceUID = frame_uid
        dataset.SOPInstanceUID = generate_uid()
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(tmp_path / "in" / f"{number}.dcm")
    out = tmp_path / "out"
    done = clinfer("run", tmp_path / "in", "-o", out)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((out / "result.json").read_text())["results"]
    assert dciodvfy(out / result["files"]["sr"]) == []
    if "seg" in result["files"]:
        assert dciodvfy(out / result["files"]["seg"]) == []


def test_a_study_without_lungs_gets_a_report_that_says_so_and_no_seg(tmp_path: Path) -> None:
    # A body of water in air, as wide as a chest: in scope, and nothing to find.
    _, y, x = np.ogrid[:24, :96, :128]
    inside = (y - 48.0) ** 2 / 36.0**2 + (x - 64.0) ** 2 / 50.0**2 < 1
    array = np.where(np.broadcast_to(inside, (24, 96, 128)), 40, -1000).astype(np.int16)
    write_series(tmp_path / "in", array, affine_from((4.0, 3.0, 3.1)), "CT")
    out = tmp_path / "out"
    done = clinfer("run", tmp_path / "in", "--model", "ct_lung_seg", "-o", out)
    assert done.returncode == 0, done.stderr
    (result,) = json.loads((out / "result.json").read_text())["results"]
    assert result["state"] == "no_finding"
    assert set(result["files"]) == {"sr", "labels", "sheet"}
    assert dciodvfy(out / result["files"]["sr"]) == []
    assert pixelmed_sr(out / result["files"]["sr"]) == []


def test_the_same_input_gives_the_same_uids_again(shared_data: Path, tmp_path: Path) -> None:
    uids = []
    for name in ("first", "second"):
        done = clinfer("run", shared_data / REAL_STUDIES["LIDC"][0], "-o", tmp_path / name)
        assert done.returncode == 0, done.stderr
        dataset = pydicom.dcmread(next((tmp_path / name).rglob("seg.dcm")))
        uids.append((dataset.SOPInstanceUID, dataset.SeriesInstanceUID, dataset.PixelData))
    assert uids[0] == uids[1]


def test_ctrl_c_ends_both_processes_and_leaves_nothing(tmp_path: Path) -> None:
    array = np.zeros((24, 96, 128), np.int16)
    write_series(tmp_path / "in", array, affine_from((4.0, 3.0, 3.1)), "CT")
    command = [sys.executable, "-m", "inference", "run", tmp_path / "in", "-o", tmp_path / "out"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        computing: list[psutil.Process] = []
        while not computing and running.poll() is None:
            computing = psutil.Process(running.pid).children()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=60)
    assert running.returncode == 130
    assert said.strip() == "error[interrupted]: stopped by Ctrl-C; nothing was written"
    assert len(computing) == 1
    psutil.wait_procs(computing, timeout=60)
    assert not computing[0].is_running() or computing[0].status() == psutil.STATUS_ZOMBIE
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_missing_slice_is_refused_by_name(tmp_path: Path) -> None:
    series = ct_series(slices=30, rows=96, columns=96, spacing_mm=(3.0, 3.0, 3.5))
    del series[12]
    write_instances(tmp_path / "in", series)
    done = clinfer("run", tmp_path / "in", "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "missing" in last_line(done)
    assert not (tmp_path / "out").exists()


def test_no_applicable_model_says_why(shared_data: Path, tmp_path: Path) -> None:
    study = shared_data / "mr-dicom/prostatex-0000/4.000000-t2tsetra-00702"
    done = clinfer("run", study, "-o", tmp_path / "out")
    assert done.returncode == 4
    assert last_line(done).startswith("error[no_applicable_model]:")
    assert "ct_lung_seg: modality" in last_line(done)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "nowhere", "-o", "out"), "not there"),
        (("run", ".", "-o", "."), "there already"),
        (("run", ".", "-o", "out", "--model", "no_such_model"), "no_such_model"),
        (("run", "."), "--output"),
        (("run", ".", "-o", "out", "--encodings", "seg,gspss"), "gspss"),
    ],
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...], words: str) -> None:
    done = clinfer(*arguments)
    assert done.returncode == 2
    assert last_line(done).startswith("error[usage]:")
    assert words in last_line(done)


def test_files_that_are_not_dicom_are_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no pixels here")
    done = clinfer("run", tmp_path / "notes.txt", "-o", tmp_path / "out")
    assert done.returncode == 3
    assert "notes.txt" in last_line(done)


def _labels_say_what_the_report_says(path: Path, segments: list[dict[str, Any]]) -> None:
    image = nib.load(path)
    labels = np.asarray(image.dataobj)
    voxel_ml = abs(np.linalg.det(image.affine[:3, :3])) / 1000
    for segment in segments:
        expected = int((labels == segment["label"]).sum()) * voxel_ml
        assert segment["volume_ml"] == pytest.approx(expected, rel=1e-4)


def _pacs_gives_it_back(pacs: Orthanc, path: Path) -> None:
    """Store by STOW-RS with a client of others, and compare every attribute of what comes back."""
    import io

    from dicomweb_client.api import DICOMwebClient

    sent = pydicom.dcmread(path)
    client = DICOMwebClient(url=pacs.dicomweb_url)
    client.store_instances([sent])
    back = pydicom.dcmread(
        io.BytesIO(
            pacs.retrieve(sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID)
        )
    )
    assert back == sent
