"""Write how a patient's structures changed since an earlier study, as an SR that names both.

A TID 1500 report with one TID 1501 group for each structure: its volume and long axis now, what
they were, and the change in percent, under the tracking UID that it has at every time point. The
objects of both results are its evidence. In words besides, for viewers without the private codes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from highdicom import sr
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode

from dicom_io.equipment import check_names, coded, notice, stamp
from dicom_io.evidence import PATIENT_AND_STUDY
from dicom_io.report_content import (
    MILLILITRE,
    MILLIMETRE,
    OTHER_PROCEDURE,
    PROCEDURES,
    observation_context,
)
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, Segment
from dicom_io.source_header import study_header
from dicom_io.statement import CODING_SCHEME

SERIES_NUMBER = 9012
PERCENT = DicomCode("%", "UCUM", "Percent")
EARLIER = {
    "volume": DicomCode("earlier_volume", CODING_SCHEME, "Volume at the earlier time point"),
    "axis": DicomCode("earlier_long_axis", CODING_SCHEME, "Long axis at the earlier time point"),
}
CHANGES = {
    "volume": DicomCode("volume_change", CODING_SCHEME, "Change of volume"),
    "axis": DicomCode("long_axis_change", CODING_SCHEME, "Change of long axis"),
}
JUDGEMENT = sr.CodedConcept("change_judgement", CODING_SCHEME, "Change beside limits of agreement")
_NOT_IN_REPORTS = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "Laterality",
)


@dataclass(frozen=True, kw_only=True)
class ChangedQuantity:
    """One quantity at both time points; ``percent`` of the earlier value, None where that is 0."""

    earlier: float
    later: float
    percent: float | None
    judgement: str


@dataclass(frozen=True, kw_only=True)
class ChangedSegment:
    """One structure at both time points; None where a quantity has no pair."""

    segment: Segment
    tracking_uid: str
    match: str
    volume_ml: ChangedQuantity | None
    long_axis_mm: ChangedQuantity | None


def make_change_report(
    now: Sequence[Dataset],
    earlier: Sequence[Dataset],
    changed: Sequence[ChangedSegment],
    earlier_date: str,
    *,
    modality: str,
    algorithm: Algorithm,
    identity: ResultIdentity,
) -> Dataset:
    """Report the changes between two results of one patient.

    Parameters
    ----------
    now, earlier : headers of the result objects of each, at least one each
    earlier_date : of the earlier study, as DICOM writes it
    modality : of the images that both results were made of

    Raises
    ------
    ResultInputError
        Nothing changed hands, or the objects are of two patients.
    MissingIdentifierError
    """
    check_names(algorithm, tuple(one.segment for one in changed))
    if not changed or not now or not earlier:
        raise ResultInputError(field="changed", problem="there is nothing to compare")
    patients = {
        (str(one.get("PatientID", "")), str(one.get("IssuerOfPatientID", "")))
        for one in (*now, *earlier)
    }
    if len(patients) > 1:
        raise ResultInputError(field="earlier", problem="is of another patient")
    text = _words(changed, earlier_date, algorithm)
    header = study_header(now[0], [text, algorithm.name, *(one.segment.name for one in changed)])
    for keyword in _NOT_IN_REPORTS:
        if keyword in header:
            del header[keyword]
    report = sr.MeasurementReport(
        observation_context=observation_context(algorithm),
        procedure_reported=sr.CodedConcept.from_code(PROCEDURES.get(modality, OTHER_PROCEDURE)),
        imaging_measurements=[_group(one, algorithm) for one in changed],
    )
    report[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=text,
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
    )
    document = sr.Comprehensive3DSR(
        evidence=[_evidence(one) for one in (*now, *earlier)],
        content=report,
        series_instance_uid=identity.uid("change-series"),
        series_number=SERIES_NUMBER,
        sop_instance_uid=identity.uid("change"),
        instance_number=identity.revision,
        manufacturer=algorithm.manufacturer,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    return stamp(
        document,
        header,
        algorithm,
        identity,
        kind="change",
        description="change",
        series_number=SERIES_NUMBER,
    )


def _group(one: ChangedSegment, algorithm: Algorithm) -> sr.MeasurementsAndQualitativeEvaluations:
    measurements: list[sr.Measurement] = []
    for key, name, unit, change in (
        ("volume", codes.SCT.Volume, MILLILITRE, one.volume_ml),
        ("axis", codes.cid7470.LongAxis, MILLIMETRE, one.long_axis_mm),
    ):
        if change is None:
            continue
        measurements.append(sr.Measurement(name=name, value=change.later, unit=unit))
        measurements.append(sr.Measurement(name=EARLIER[key], value=change.earlier, unit=unit))
        if change.percent is not None:
            measurements.append(
                sr.Measurement(name=CHANGES[key], value=change.percent, unit=PERCENT)
            )
    judged = one.volume_ml or one.long_axis_mm
    evaluations = []
    if judged is not None:
        word = sr.CodedConcept(
            judged.judgement.replace(" ", "_")[:16], CODING_SCHEME, judged.judgement
        )
        evaluations.append(sr.QualitativeEvaluation(name=JUDGEMENT, value=word))
    return sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=one.tracking_uid, identifier=one.segment.name
        ),
        finding_category=coded(one.segment.category),
        finding_type=coded(one.segment.type),
        algorithm_id=sr.AlgorithmIdentification(name=algorithm.name, version=algorithm.version),
        measurements=measurements,
        qualitative_evaluations=evaluations or None,
    )


def _words(changed: Sequence[ChangedSegment], earlier_date: str, algorithm: Algorithm) -> str:
    lines = [
        f"{algorithm.name} {algorithm.version}: change since {earlier_date}; {notice(algorithm)}."
    ]
    for one in changed:
        for what, unit, change in (
            ("volume", "ml", one.volume_ml),
            ("long axis", "mm", one.long_axis_mm),
        ):
            if change is None:
                continue
            percent = "" if change.percent is None else f" ({change.percent:+.1f} %)"
            lines.append(
                f"{one.segment.name}, {what}: {change.earlier:.1f} to {change.later:.1f} {unit}"
                f"{percent}, {change.judgement}; match {one.match}."
            )
    return "\n".join(lines)


def _evidence(made: Dataset) -> Dataset:
    image = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        setattr(image, keyword, made[keyword].value)
    for keyword in PATIENT_AND_STUDY:
        setattr(image, keyword, "")
    return image
