"""SUVbw of a PET whose factor is known by hand, and what is refused instead of guessed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.result_errors import ResultInputError
from dicom_io.suv import suvbw_factor
from dicom_io.volume import Volume
from tests.builders.dicom import affine_from, write_series
from tests.builders.results import read_only_series

F18_HALF_LIFE_S = 6586.2


def pet(folder: Path, change: Callable[[Dataset], None] = lambda _: None) -> Volume:
    """70 kg, 350 MBq of F-18, injected one half-life before the scan."""
    values = np.random.default_rng(1).integers(0, 900, (4, 9, 11)).astype(np.int16)
    files = write_series(folder / "pt", values, affine_from((3.0, 2.0, 2.5)), "PT")
    for path in files:
        image = dcmread(path)
        image.Units, image.DecayCorrection = "BQML", "START"
        image.CorrectedImage = ["ATTN", "DECY"]
        image.PatientWeight = 70
        image.SeriesDate = image.AcquisitionDate = "20261122"
        image.SeriesTime = image.AcquisitionTime = "120000"
        dose = Dataset()
        dose.RadionuclideTotalDose = "350000000"
        dose.RadionuclideHalfLife = str(F18_HALF_LIFE_S)
        dose.RadiopharmaceuticalStartDateTime = "20261122101013.8"  # 6586.2 s before
        image.RadiopharmaceuticalInformationSequence = [dose]
        change(image)
        image.save_as(path)
    return read_only_series(files)


def test_one_half_life_halves_the_dose(tmp_path: Path) -> None:
    """70,000 g / 175,000,000 Bq = 0.0004: 2500 Bq/ml are an SUV of 1."""
    assert suvbw_factor(pet(tmp_path)) == pytest.approx(0.0004, rel=1e-9)


def test_corrected_to_administration_the_dose_is_whole(tmp_path: Path) -> None:
    def administered(image: Dataset) -> None:
        image.DecayCorrection = "ADMIN"

    assert suvbw_factor(pet(tmp_path, administered)) == pytest.approx(0.0002, rel=1e-12)


def without(keyword: str) -> Callable[[Dataset], None]:
    def change(image: Dataset) -> None:
        delattr(image, keyword)

    return change


def having(keyword: str, value: object) -> Callable[[Dataset], None]:
    def change(image: Dataset) -> None:
        dose = image.RadiopharmaceuticalInformationSequence[0]
        setattr(dose if keyword in dose else image, keyword, value)

    return change


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (without("PatientWeight"), "PatientWeight"),
        (having("PatientWeight", 0), "PatientWeight"),
        (having("PatientWeight", 7000), "PatientWeight"),
        (having("CorrectedImage", ["ATTN"]), "CorrectedImage"),
        (having("DecayCorrection", "NONE"), "DecayCorrection"),
        (having("RadionuclideTotalDose", "0"), "RadionuclideTotalDose"),
        (having("AcquisitionTime", "115900"), "SeriesTime"),
        (
            having("RadiopharmaceuticalStartDateTime", "20261122120001"),
            "RadiopharmaceuticalStartDateTime",
        ),
        (
            having("RadiopharmaceuticalStartDateTime", "20261120120000"),
            "RadiopharmaceuticalStartDateTime",
        ),
        (
            having("RadiopharmaceuticalInformationSequence", []),
            "RadiopharmaceuticalInformationSequence",
        ),
    ],
)
def test_what_would_need_a_guess_is_refused_by_name(
    tmp_path: Path, change: Callable[[Dataset], None], field: str
) -> None:
    with pytest.raises(ResultInputError) as caught:
        suvbw_factor(pet(tmp_path, change))
    assert caught.value.field == field


def test_another_unit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ResultInputError) as caught:
        suvbw_factor(replace(pet(tmp_path), unit="1"))
    assert caught.value.field == "Units"
