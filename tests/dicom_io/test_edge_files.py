"""Every file of the edge collection against the committed table ``edge_outcomes.toml``."""

from __future__ import annotations

import fnmatch
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import SimpleITK

from dicom_io.decode import read_pixels
from dicom_io.errors import DicomIoError
from dicom_io.read import read_volume
from dicom_io.series import InstanceHeader, scan

TABLE = tomllib.loads(Path(__file__).with_name("edge_outcomes.toml").read_text("utf-8"))

# The files are odd on purpose; pydicom, as the reference, warns of what it sees in them.
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")


@pytest.fixture
def edge_files(shared_data: Path) -> Path:
    return shared_data / "edge-dicom"


def rows_for(path: str) -> list[dict[str, Any]]:
    return [row for row in TABLE["file"] if fnmatch.fnmatchcase(path, row["path"])]


def outcome_of_pixels(instance: InstanceHeader, row: dict[str, Any]) -> str:
    """The reader named in the row if its pixels equal ours, else our error's code."""
    try:
        ours = read_pixels(instance)
    except DicomIoError as error:
        return "none" if instance.pixels is None else error.code
    if row["pixels"] == "pydicom":
        reference = pydicom.dcmread(instance.path, force=True).pixel_array
    else:
        image = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(instance.path)))
        header = instance.header
        reference = (image - float(header.RescaleIntercept)) / float(header.RescaleSlope)
    same = np.array_equal(reference.reshape(ours.shape), ours)
    return str(row["pixels"]) if same else "different pixels"


def outcome_of_volume(paths: list[Path]) -> str:
    (series,) = scan(paths).series
    try:
        read_volume(series)
    except DicomIoError as error:
        return error.code
    return "volume"


def test_every_file_has_exactly_one_row(edge_files: Path) -> None:
    files = [p.relative_to(edge_files).as_posix() for p in edge_files.rglob("*") if p.is_file()]
    assert files
    assert [path for path in files if len(rows_for(path)) != 1] == []


def test_every_row_has_a_file(edge_files: Path) -> None:
    files = [p.relative_to(edge_files).as_posix() for p in edge_files.rglob("*") if p.is_file()]
    patterns = [row["path"] for row in TABLE["file"]]
    assert [p for p in patterns if not fnmatch.filter(files, p)] == []


def test_each_file_ends_as_the_table_says(edge_files: Path) -> None:
    wrong: list[str] = []
    for path in sorted(p for p in edge_files.rglob("*") if p.is_file()):
        name = path.relative_to(edge_files).as_posix()
        (row,) = rows_for(name)
        found = scan([path])
        if found.skipped:
            outcome = {"scan": found.skipped[0].code}
        else:
            (series,) = found.series
            outcome = {
                "scan": "image" if series.is_image else "object",
                "pixels": outcome_of_pixels(series.instances[0], row),
                "volume": outcome_of_volume([path]),
            }
        expected = {key: row[key] for key in ("scan", "pixels", "volume") if key in row}
        if outcome != expected:
            wrong.append(f"{name}: {outcome}, expected {expected}")
    assert wrong == []


@pytest.mark.parametrize("row", TABLE["series"], ids=lambda row: row["path"])
def test_each_series_ends_as_the_table_says(edge_files: Path, row: dict[str, Any]) -> None:
    paths = sorted((edge_files / row["path"]).iterdir())
    assert outcome_of_volume(paths) == row["volume"]
    if "fields" in row:
        with pytest.raises(DicomIoError) as caught:
            read_volume(scan(paths).series[0])
        for name, value in row["fields"].items():
            assert getattr(caught.value, name) == pytest.approx(value, abs=1e-3), name


def test_the_tilted_series_is_resampled_when_asked(edge_files: Path) -> None:
    """A voxel of the last slice is found where equation C.7.6.2.1-1 of PS3.3 puts it."""
    paths = sorted((edge_files / "dicom2nifti/failing/gantrytilting/001").iterdir())
    (series,) = scan(paths).series
    volume = read_volume(series, tilt="resample")
    assert volume.source is not None
    assert volume.source.resampled
    axes = volume.affine_lps[:3, :3]
    assert abs(axes[:, 0] @ axes[:, 1]) < 1e-6
    assert volume.spacing_mm == pytest.approx(
        (5 * np.cos(np.radians(14)), 0.41797, 0.41797), abs=1e-4
    )
    last = pydicom.dcmread(paths[-1])
    row, column = 260, 250
    step = np.array(last.ImageOrientationPatient[3:], float) * float(last.PixelSpacing[0])
    across = np.array(last.ImageOrientationPatient[:3], float) * float(last.PixelSpacing[1])
    place = np.array(last.ImagePositionPatient, float) + row * step + column * across
    index = np.linalg.solve(volume.affine_lps, [*place, 1.0])[:3]
    assert index[0] == pytest.approx(3, abs=1e-3)
    assert index[2] == pytest.approx(column, abs=1e-3)
    low = int(np.floor(index[1]))
    part = index[1] - low
    near = volume.array[3, low : low + 2, column].astype(float)
    source = last.pixel_array[row - 1 : row + 2, column].astype(float) - 1024
    # Shifted by part of a pixel and back: the value lies between its neighbours' in the source.
    assert source.min() - 1 <= (1 - part) * near[0] + part * near[1] <= source.max() + 1
