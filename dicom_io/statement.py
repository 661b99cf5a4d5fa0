"""Say in a PACS why there is no result: a report, and a picture for viewers that show no reports.

A study without any object of ours looks like one that was read as normal. So whatever ends without
a result leaves a statement: what became of the analysis, and why, in words and in a code.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import highdicom as hd
import numpy as np
from highdicom import sr
from PIL import Image, ImageDraw
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import SecondaryCaptureImageStorage

from dicom_io.equipment import check_names, leave_laterality_open, notice, stamp
from dicom_io.evidence import PATIENT_AND_STUDY
from dicom_io.fonts import picture_font
from dicom_io.report_content import OTHER_PROCEDURE, PROCEDURES, observation_context
from dicom_io.report_words import Language
from dicom_io.result_errors import ResultInputError
from dicom_io.results import Algorithm, ResultIdentity, derived_uid
from dicom_io.source_header import study_header

SR_SERIES_NUMBER = 9010
SC_SERIES_NUMBER = 9011
CODING_SCHEME = "99CLINFER"
STATE_CODE = hd.sr.CodedConcept("analysis_state", CODING_SCHEME, "State of the analysis")
WIDTH_PX, HEIGHT_PX, MARGIN_PX = 768, 512, 32
SIZE_PX, SMALLEST_PX = 20, 9
MAX_REASON = 900
_NOT_IN_STATEMENTS = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "Laterality",
)

_SAID: dict[Language, dict[str, str]] = {
    "en": {
        "not_applicable": "NOT APPLICABLE: no model is for this kind of study",
        "refused": "REFUSED: no result was made from these images",
        "failed": "FAILED: the analysis could not be finished",
        "warning": "No result is not a normal result. Nobody but the reader has looked at it.",
        "reason": "Reason",
    },
    "zh": {
        "not_applicable": "不适用：没有适合此类检查的模型",
        "refused": "已拒绝：未从这些图像生成结果",
        "failed": "失败：分析未能完成",
        "warning": "没有结果不等于正常。除阅片医师外无人看过此检查。",
        "reason": "原因",
    },
}


@dataclass(frozen=True, kw_only=True)
class Referenced:
    """One instance of the study that the statement is about."""

    sop_class_uid: str
    instance_uid: str
    series_uid: str


@dataclass(frozen=True, kw_only=True)
class Statement:
    """What became of an analysis: ``state`` is not_applicable, refused or failed."""

    state: str
    reason_code: str
    reason: str

    def words(self, language: Language) -> str:
        """Return it as sentences; the reason stays in the words in which it was given."""
        said = _SAID[language]
        if self.state not in said:
            raise ResultInputError(field="state", problem=f"{self.state!r} has its own objects")
        reason = self.reason if len(self.reason) <= MAX_REASON else self.reason[:MAX_REASON] + "..."
        code = f" ({self.reason_code})" if self.reason_code else ""
        return f"{said[self.state]}.\n{said['warning']}\n{said['reason']}{code}: {reason}"


def make_state_report(
    origin: Dataset,
    about: Sequence[Referenced],
    statement: Statement,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    language: Language = "en",
) -> Dataset:
    """Write the statement as a Comprehensive 3D SR (TID 1500) without a measurement.

    Parameters
    ----------
    origin : an instance of the study, for patient and study; its pixels are not needed
    about : the images that no result was made of, at least one

    Raises
    ------
    ResultInputError, MissingIdentifierError
    """
    text = statement.words(language)
    header = _header(origin, text, algorithm)
    modality = str(origin.get("Modality", ""))
    state = sr.CodedConcept(statement.state, CODING_SCHEME, statement.state.replace("_", " "))
    group = sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=sr.TrackingIdentifier(
            uid=derived_uid(f"{identity.key}/tracking/state"), identifier="analysis"
        ),
        finding_type=sr.CodedConcept.from_code(codes.SCT.ImagingProcedure),
        algorithm_id=sr.AlgorithmIdentification(name=algorithm.name, version=algorithm.version),
        qualitative_evaluations=[sr.QualitativeEvaluation(name=STATE_CODE, value=state)],
    )
    report = sr.MeasurementReport(
        observation_context=observation_context(algorithm),
        procedure_reported=sr.CodedConcept.from_code(PROCEDURES.get(modality, OTHER_PROCEDURE)),
        imaging_measurements=[group],
    )
    report[0].ContentSequence.append(
        sr.TextContentItem(
            name=codes.DCM.Comment,
            value=text,
            relationship_type=sr.RelationshipTypeValues.CONTAINS,
        )
    )
    kind = "state-sr" if language == "en" else f"state-sr-{language}"
    document = sr.Comprehensive3DSR(
        evidence=_evidence(about, str(header.StudyInstanceUID)),
        content=report,
        series_instance_uid=identity.uid(f"{kind}-series"),
        series_number=SR_SERIES_NUMBER,
        sop_instance_uid=identity.uid(kind),
        instance_number=identity.revision,
        manufacturer=algorithm.manufacturer,
        is_complete=True,
        is_final=False,
        is_verified=False,
    )
    stamped = stamp(
        document,
        header,
        algorithm,
        identity,
        kind=kind,
        description=f"{statement.state.replace('_', ' ')}:",
        series_number=SR_SERIES_NUMBER,
    )
    return _as_statement(stamped, statement, algorithm)


def make_state_picture(
    origin: Dataset,
    statement: Statement,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    language: Language = "en",
) -> Dataset:
    """Write the statement as a picture of words (Secondary Capture).

    Raises
    ------
    ResultInputError, FontError, MissingIdentifierError
    """
    text = statement.words(language)
    header = _header(origin, text, algorithm)
    leave_laterality_open(header)
    pixels = _draw(text, notice(algorithm))
    image = Dataset()
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.Modality = "OT"
    image.ConversionType = "WSD"
    image.ImageType = ["DERIVED", "SECONDARY"]
    image.PatientOrientation = ""
    image.SamplesPerPixel = 3
    image.PhotometricInterpretation = "RGB"
    image.PlanarConfiguration = 0
    image.Rows, image.Columns = pixels.shape[:2]
    image.BitsAllocated = image.BitsStored = 8
    image.HighBit = 7
    image.PixelRepresentation = 0
    image.BurnedInAnnotation = "YES"
    image.RecognizableVisualFeatures = "NO"
    image.LossyImageCompression = "00"
    image.DerivationDescription = f"statement in words; {notice(algorithm)}"
    image.ImageComments = statement.state.replace("_", " ")
    image.PixelData = pixels.tobytes()
    image["PixelData"].VR = "OB"
    kind = "state-sc" if language == "en" else f"state-sc-{language}"
    stamped = stamp(
        image,
        header,
        algorithm,
        identity,
        kind=kind,
        description=f"{statement.state.replace('_', ' ')}:",
        series_number=SC_SERIES_NUMBER,
    )
    return _as_statement(stamped, statement, algorithm)


def _header(origin: Dataset, text: str, algorithm: Algorithm) -> Dataset:
    check_names(algorithm, ())
    header = study_header(origin, [text, algorithm.name, algorithm.manufacturer])
    for keyword in _NOT_IN_STATEMENTS:
        if keyword in header:
            del header[keyword]
    return header


def _as_statement(stamped: Dataset, statement: Statement, algorithm: Algorithm) -> Dataset:
    """Say in Contributing Equipment that a statement was made, not a segmentation."""
    (item,) = stamped.ContributingEquipmentSequence
    item.ContributionDescription = (
        f"Statement by {algorithm.name} {algorithm.version} that there is no result "
        f"({statement.state}); {notice(algorithm)}"
    )[:1024]
    return stamped


def _evidence(about: Sequence[Referenced], study_uid: str) -> list[Dataset]:
    if not about:
        raise ResultInputError(field="about", problem="is empty; a statement names its images")
    found = []
    for one in about:
        image = Dataset()
        image.SOPClassUID = one.sop_class_uid
        image.SOPInstanceUID = one.instance_uid
        image.SeriesInstanceUID = one.series_uid
        image.StudyInstanceUID = study_uid
        found.append(image)
    for keyword in PATIENT_AND_STUDY:
        setattr(found[0], keyword, "")
    return found


def _draw(text: str, footer: str) -> np.ndarray[tuple[int, int, int], np.dtype[np.uint8]]:
    """Write words on black, (row, column, 3); lines are broken to fit, none is cut."""
    image = Image.new("RGB", (WIDTH_PX, HEIGHT_PX), (0, 0, 0))
    draw = ImageDraw.Draw(image)
    size = SIZE_PX
    while True:
        font = picture_font(text + footer, size)
        lines = [
            line for paragraph in text.split("\n") for line in [*_broken(draw, paragraph, font), ""]
        ]
        if (len(lines) + 2) * (size + 6) + 2 * MARGIN_PX <= HEIGHT_PX or size <= SMALLEST_PX:
            break
        size -= 1
    top = MARGIN_PX
    for number, line in enumerate(lines):
        color = (255, 196, 0) if number == 0 else (255, 255, 255)
        draw.text((MARGIN_PX, top), line, color, font, "la")
        top += size + 6
    draw.text((MARGIN_PX, HEIGHT_PX - MARGIN_PX), footer, (255, 196, 0), font, "ld")
    return np.asarray(image, dtype=np.uint8)


def _broken(draw: ImageDraw.ImageDraw, paragraph: str, font: Any) -> list[str]:
    """Break a paragraph into lines that fit the picture, at spaces where there are any."""
    lines, line = [], ""
    for word in re.findall(r"[!-~]+ *|.", paragraph):
        if line and draw.textlength(line + word, font) > WIDTH_PX - 2 * MARGIN_PX:
            lines.append(line)
            line = ""
        line += word
    return [*lines, line]
