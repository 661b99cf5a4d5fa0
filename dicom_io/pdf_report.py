"""Put the printed report into the study as an Encapsulated PDF."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.uid import EncapsulatedPDFStorage

from dicom_io.equipment import check_names, notice, stamp
from dicom_io.evidence import referenced, source_references
from dicom_io.labelled import LabelledVolume
from dicom_io.report_pdf import report_pdf
from dicom_io.report_words import Language
from dicom_io.results import Algorithm, Code, ResultIdentity
from dicom_io.segmentation import check_labels
from dicom_io.source_header import result_header

SERIES_NUMBER = 9006
DIAGNOSTIC_IMAGING_REPORT = Code(value="18748-4", scheme="LN", meaning="Diagnostic imaging study")
"""LOINC; the document is titled as what it is, an AI measurement report."""
_NOT_IN_DOCUMENTS = (
    "FrameOfReferenceUID",
    "PositionReferenceIndicator",
    "BodyPartExamined",
    "Laterality",
)


def make_pdf_report(
    found: LabelledVolume,
    *,
    algorithm: Algorithm,
    identity: ResultIdentity,
    language: Language = "en",
) -> Dataset:
    """Print the measurements and a montage, for people without a viewer.

    Returns
    -------
    Dataset
        With file meta, Explicit VR Little Endian.

    Raises
    ------
    FontError
        A name has a character that no installed font can show.
    ResultInputError, NoDicomSourceError, MissingIdentifierError
    """
    check_names(algorithm, found.segments)
    check_labels(found.volume, found.labels, found.segments)
    header = result_header(found.volume, [algorithm.name, algorithm.manufacturer])
    content = report_pdf(found, header, algorithm=algorithm, identity=identity, language=language)
    for keyword in _NOT_IN_DOCUMENTS:
        if keyword in header:
            del header[keyword]
    document = Dataset()
    document.SOPClassUID = EncapsulatedPDFStorage
    document.Modality = "DOC"
    document.ConversionType = "WSD"
    document.BurnedInAnnotation = "YES"
    document.RecognizableVisualFeatures = "NO"
    document.DocumentTitle = f"AI measurement report, {notice(algorithm)}"
    code = Dataset()
    code.CodeValue = DIAGNOSTIC_IMAGING_REPORT.value
    code.CodingSchemeDesignator = DIAGNOSTIC_IMAGING_REPORT.scheme
    code.CodeMeaning = DIAGNOSTIC_IMAGING_REPORT.meaning
    document.ConceptNameCodeSequence = [code]
    document.SourceInstanceSequence = referenced(source_references(found.volume))
    document.VerificationFlag = "UNVERIFIED"
    document.MIMETypeOfEncapsulatedDocument = "application/pdf"
    document.EncapsulatedDocument = content + b"\0" * (len(content) % 2)
    document.EncapsulatedDocumentLength = len(content)
    stamped = stamp(
        document,
        header,
        algorithm,
        identity,
        kind="pdf",
        description="report",
        series_number=SERIES_NUMBER,
    )
    stamped.AcquisitionDateTime = ""
    return stamped
