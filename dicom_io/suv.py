"""From becquerels per millilitre to the standardised uptake value, body weight (SUVbw).

SUVbw = activity concentration x body weight / dose decayed to the time of the scan, in g/ml. The
scan's time is SeriesTime where slices are decay-corrected to the start, as Quantitative Imaging
Biomarkers Alliance, "SUV vendor-neutral pseudo-code" has it; what that document only estimates is
refused here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from pydicom.dataset import Dataset

from dicom_io.attributes import decimal, text
from dicom_io.errors import AttributeValueError
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Measurement
from dicom_io.source_header import dicom_source
from dicom_io.volume import Volume

SUVBW_UNIT = "{SUVbw}g/ml"
ACTIVITY_UNIT = "Bq/mL"
MAX_UPTAKE = timedelta(hours=24)
"""Longest time from injection to scan that is believed; beyond, dates are wrong."""
WEIGHT_KG = (0.2, 500.0)


def in_suvbw(volume: Volume, measurements: Sequence[Measurement]) -> tuple[Measurement, ...]:
    """Return the measurements of a PET in SUVbw; volumes and counts stay.

    Raises
    ------
    ResultInputError
        As `suvbw_factor`.
    """
    factor = suvbw_factor(volume)
    return tuple(
        replace(
            each,
            mean=each.mean * factor,
            sd=each.sd * factor,
            minimum=each.minimum * factor,
            maximum=each.maximum * factor,
            unit=SUVBW_UNIT,
        )
        for each in measurements
    )


def suvbw_factor(volume: Volume) -> float:
    """Return what to multiply Bq/ml by to get SUVbw in g/ml.

    Raises
    ------
    ResultInputError
        ``field`` names the attribute that is absent, contradictory, or of a kind that would need
        a guess.
    NoDicomSourceError, MissingIdentifierError
    """
    if volume.modality != "PT" or volume.unit != ACTIVITY_UNIT:
        raise ResultInputError(
            field="Units", problem=f"{volume.modality} in {volume.unit!r}; needs PET in Bq/ml"
        )
    headers = [instance.header for instance in dicom_source(volume).instances]
    first = headers[0]
    corrections = text(first, "CorrectedImage").split("\\")
    if not {"ATTN", "DECY"} <= set(corrections):
        raise ResultInputError(field="CorrectedImage", problem=f"{corrections} lacks ATTN or DECY")
    weight_kg = _number(first, "PatientWeight")
    if not WEIGHT_KG[0] <= weight_kg <= WEIGHT_KG[1]:
        raise ResultInputError(
            field="PatientWeight", problem=f"{weight_kg} kg is not within {WEIGHT_KG} kg"
        )
    doses = first.get("RadiopharmaceuticalInformationSequence") or []
    if len(doses) != 1:
        raise ResultInputError(
            field="RadiopharmaceuticalInformationSequence", problem=f"{len(doses)} items, needs 1"
        )
    dose_bq = _number(doses[0], "RadionuclideTotalDose")
    half_life_s = _number(doses[0], "RadionuclideHalfLife")
    for field, value in (("RadionuclideTotalDose", dose_bq), ("RadionuclideHalfLife", half_life_s)):
        if value <= 0:
            raise ResultInputError(field=field, problem=f"{value} is not above 0")
    rule = text(first, "DecayCorrection")
    if rule == "ADMIN":
        return 1000 * weight_kg / dose_bq
    if rule != "START":
        raise ResultInputError(field="DecayCorrection", problem=f"{rule!r} is not START or ADMIN")
    uptake_s = _uptake(headers, doses[0]).total_seconds()
    decayed_bq = float(dose_bq * 2 ** (-uptake_s / half_life_s))
    return 1000 * weight_kg / decayed_bq


def _uptake(headers: list[Dataset], dose: Dataset) -> timedelta:
    """Time from injection to the start of the series."""
    scanned_at = _moment(text(headers[0], "SeriesDate") + text(headers[0], "SeriesTime"), "Series")
    for header in headers:
        acquired = text(header, "AcquisitionDate") + text(header, "AcquisitionTime")
        if _moment(acquired, "Acquisition") < scanned_at:
            raise ResultInputError(
                field="SeriesTime",
                problem="is after an AcquisitionTime: the series was made later, so it is not the "
                "time that decay was corrected to",
            )
    stated = text(dose, "RadiopharmaceuticalStartDateTime")
    if stated:
        injected_at = _moment(stated, "RadiopharmaceuticalStartDateTime")
    else:
        time = text(dose, "RadiopharmaceuticalStartTime")
        injected_at = _moment(text(headers[0], "SeriesDate") + time, "RadiopharmaceuticalStartTime")
    uptake = scanned_at - injected_at
    if not timedelta(0) <= uptake <= MAX_UPTAKE:
        raise ResultInputError(
            field="RadiopharmaceuticalStartDateTime",
            problem=f"{uptake} from injection to scan is not within 0 to {MAX_UPTAKE}",
        )
    return uptake


def _moment(stored: str, field: str) -> datetime:
    """Read date and time, without a zone: all of one object are in the same."""
    whole, _, fraction = stored.partition(".")
    try:
        moment = datetime.strptime(whole, "%Y%m%d%H%M%S")  # noqa: DTZ007 - compared among themselves
        return moment + timedelta(seconds=float(f"0.{fraction}") if fraction else 0.0)
    except ValueError as error:
        raise ResultInputError(
            field=field, problem=f"{stored!r} is not a whole date and time without an offset"
        ) from error


def _number(dataset: Dataset, keyword: str) -> float:
    try:
        return decimal(dataset, keyword, instance_uid="")
    except AttributeValueError as error:
        raise ResultInputError(field=keyword, problem="absent or not a number") from error
