"""Every kind of object of one result: valid by others' checkers, in place, saying who made it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.gate_kinds import check_object
from dicom_io.key_objects import (
    RejectedObject,
    Rejection,
    make_key_objects,
    make_rejection_note,
)
from dicom_io.labelled import LabelledVolume
from dicom_io.pdf_report import make_pdf_report
from dicom_io.presentation_state import make_presentation_state
from dicom_io.probability_maps import make_fractional_segmentation, make_parametric_map
from dicom_io.read import read_volume
from dicom_io.result_errors import FontError, PlacementError, ResultInputError
from dicom_io.secondary_capture import make_secondary_captures
from dicom_io.segmentation import make_segmentation
from dicom_io.series import scan
from dicom_io.structure_set import make_structure_set
from dicom_io.write import write_dicom
from tests.builders.dicom import affine_from, enhanced_mr, save, write_series
from tests.builders.orthanc import find_orthanc, running_orthanc
from tests.builders.results import ALGORITHM, IDENTITY, SEGMENTS, measure, read_only_series, thirds
from tests.builders.validators import dcentvfy, dciodvfy, dcmpschk

SHAPE = (6, 25, 31)
SPACING_MM = (2.5, 0.6, 0.8)
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)
BY: dict[str, Any] = {"algorithm": ALGORITHM, "identity": IDENTITY}
NOTICE = "research use, not for primary diagnosis"


@dataclass(frozen=True, kw_only=True)
class Made:
    """One result in every kind, on disk."""

    found: LabelledVolume
    probabilities: dict[int, NDArray[np.float32]]
    files: dict[str, Path]

    def check(self, name: str) -> None:
        given = {2: self.probabilities[2]} if name == "pmap" else self.probabilities
        check_object(self.files[name], self.found, probabilities=given)


def probabilities_of(labels: NDArray[np.uint8]) -> dict[int, NDArray[np.float32]]:
    random = np.random.default_rng(8)
    inside = {label: (labels == label) * 0.75 for label in (1, 2, 3)}
    return {
        label: (mask + 0.25 * random.random(labels.shape) * (labels > 0)).astype(np.float32)
        for label, mask in inside.items()
    }


def make_all(folder: Path, found: LabelledVolume) -> Made:
    probabilities = probabilities_of(np.asarray(found.labels, np.uint8))
    objects: dict[str, Dataset] = {
        "seg": make_segmentation(found.volume, found.labels, SEGMENTS, **BY),
        "gsps": make_presentation_state(found, **BY),
        "rtstruct": make_structure_set(found, **BY),
        "pdf": make_pdf_report(found, **BY),
        "ko": make_key_objects(found, **BY),
        "pmap": make_parametric_map(found.volume, probabilities[2], SEGMENTS[1], **BY),
        "fractional": make_fractional_segmentation(
            found.volume,
            probabilities,
            SEGMENTS,
            algorithm=ALGORITHM,
            identity=replace(IDENTITY, profile="fractional"),
        ),
    }
    for number, picture in enumerate(make_secondary_captures(found, **BY), start=1):
        objects[f"sc-{number}"] = picture
    files = {}
    for name, dataset in objects.items():
        files[name] = folder / f"{name}.dcm"
        write_dicom(dataset, files[name])
    return Made(found=found, probabilities=probabilities, files=files)


def labelled(files: list[Path]) -> LabelledVolume:
    volume = read_only_series(files)
    labels = thirds(volume.array.shape)
    return LabelledVolume(
        volume=volume, labels=labels, segments=SEGMENTS, measurements=measure(volume, labels)
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Of an oblique CT with three different spacings and a Chinese name in GB18030."""
    folder = tmp_path_factory.mktemp("all")
    values = np.random.default_rng(4).integers(-900, 900, SHAPE).astype(np.int16)
    files = write_series(
        folder / "ct",
        values,
        affine_from(SPACING_MM, orientation=OBLIQUE),
    )
    for path in files:
        dataset = dcmread(path)
        dataset.SpecificCharacterSet = "GB18030"
        dataset.PatientName = "Wang^XiaoDong=王^小东"
        dataset.save_as(path)
    return make_all(folder, labelled(files))


def test_no_checker_finds_an_error_and_nothing_disagrees_with_the_source(made: Made) -> None:
    for name, path in made.files.items():
        assert (name, dciodvfy(path)) == (name, [])
    assert dcmpschk(made.files["gsps"]) == []
    source = made.found.volume.source
    assert source is not None
    assert dcentvfy([*made.files.values(), *(one.path for one in source.instances)]) == []


def test_every_object_passes_the_gate(made: Made) -> None:
    for name in made.files:
        made.check(name)


def test_every_object_names_model_weights_equipment_and_its_caution(made: Made) -> None:
    for path in made.files.values():
        dataset = dcmread(path)
        (equipment,) = dataset.ContributingEquipmentSequence
        assert equipment.DeviceUID == ALGORITHM.device_uid
        assert ALGORITHM.weights_sha256 in equipment.SoftwareVersions
        assert NOTICE in equipment.ContributionDescription
        assert "research" in dataset.SeriesDescription
        assert dataset.SpecificCharacterSet == "GB18030"
        assert str(dataset.PatientName) == "Wang^XiaoDong=王^小东"
        assert str(dataset.PatientName).encode("gb18030") in path.read_bytes()


def test_uids_come_from_the_key_and_differ_between_kinds(made: Made, tmp_path: Path) -> None:
    again = make_all(tmp_path, made.found)
    uids = {name: dcmread(path).SOPInstanceUID for name, path in made.files.items()}
    assert len(set(uids.values())) == len(uids)
    for name, path in again.files.items():
        assert path.read_bytes() == made.files[name].read_bytes(), name


def test_outlines_carry_the_tracking_uids_of_the_segmentation(made: Made) -> None:
    seg = dcmread(made.files["seg"])
    tracking = {item.SegmentLabel: item.TrackingUID for item in seg.SegmentSequence}
    state = dcmread(made.files["gsps"])
    lines = [
        line
        for annotation in state.GraphicAnnotationSequence
        for line in annotation.get("GraphicObjectSequence") or []
    ]
    assert {line.TrackingID: line.TrackingUID for line in lines} == tracking
    plan = dcmread(made.files["rtstruct"])
    assert {
        item.TrackingID: item.TrackingUID for item in plan.RTROIObservationsSequence
    } == tracking
    texts = [
        text.UnformattedTextValue
        for annotation in state.GraphicAnnotationSequence
        for text in annotation.get("TextObjectSequence") or []
    ]
    assert any(text.startswith("Left lung: ") for text in texts)
    assert any(NOTICE in text for text in texts)


def test_contours_rasterised_another_way_are_the_segments(made: Made) -> None:
    """Independent of our own fill: the winding of each contour around each pixel centre."""
    plan = dcmread(made.files["rtstruct"])
    volume, labels = made.found.volume, made.found.labels
    to_voxels = np.linalg.inv(volume.affine_lps)
    grid = np.stack(np.mgrid[: SHAPE[1], : SHAPE[2]], axis=-1).reshape(-1, 2).astype(float)
    for roi in plan.ROIContourSequence:
        mask = np.zeros(SHAPE, dtype=bool)
        for contour in roi.ContourSequence:
            points = np.array(contour.ContourData, float).reshape(-1, 3)
            indices = points @ to_voxels[:3, :3].T + to_voxels[:3, 3]
            (index,) = set(np.rint(indices[:, 0]).astype(int).tolist())
            mask[index] ^= winding(indices[:, 1:], grid).reshape(SHAPE[1:])
        truth = labels == roi.ReferencedROINumber
        dice = 2 * (mask & truth).sum() / (mask.sum() + truth.sum())
        assert dice == 1.0


def winding(polygon: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Whether the angles from each point to the polygon's corners add up to a turn."""
    to_corners = polygon[None] - points[:, None]
    angles = np.arctan2(to_corners[..., 0], to_corners[..., 1])
    steps = np.diff(np.concatenate([angles, angles[:, :1]], axis=1), axis=1)
    steps = (steps + np.pi) % (2 * np.pi) - np.pi
    return np.asarray(np.abs(steps.sum(axis=1)) > np.pi)


def test_pictures_are_marked_and_without_geometry(made: Made) -> None:
    pictures = [dcmread(path) for name, path in made.files.items() if name.startswith("sc-")]
    assert len(pictures) >= 3
    assert [int(picture.InstanceNumber) for picture in pictures] == [*range(1, len(pictures) + 1)]
    for picture in pictures:
        assert picture.BurnedInAnnotation == "YES"
        assert NOTICE in picture.DerivationDescription
        assert "FrameOfReferenceUID" not in picture
        assert picture.SourceImageSequence
    assert len({picture.SeriesInstanceUID for picture in pictures}) == 1


def text_of_pdf(path: Path, folder: Path) -> str:
    """By dcmtk and poppler: the PDF in the object, and the words in the PDF."""
    subprocess.run(["dcm2pdf", path, folder / "report.pdf"], check=True)
    done = subprocess.run(
        ["pdftotext", "-layout", folder / "report.pdf", "-"],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_the_printed_report_shows_chinese_names_and_the_amounts(made: Made, tmp_path: Path) -> None:
    text = text_of_pdf(made.files["pdf"], tmp_path)
    assert "王 小东" in text
    assert NOTICE in text
    assert ALGORITHM.weights_sha256 in text
    for each in made.found.measurements:
        assert f"{each.volume_ml:.1f}" in text
    write_dicom(make_pdf_report(made.found, **BY, language="zh"), tmp_path / "zh.dcm")
    chinese = text_of_pdf(tmp_path / "zh.dcm", tmp_path)
    assert "仅供研究使用，不用于主要诊断" in chinese
    fonts = subprocess.run(
        ["pdffonts", tmp_path / "report.pdf"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    assert any("WenQuanYi" in line and " yes yes " in line for line in fonts)  # embedded, subset


def test_a_name_that_no_font_shows_is_refused_by_its_character(made: Made) -> None:
    source = made.found.volume.source
    assert source is not None
    first = source.instances[0]
    header = Dataset()
    header.update(first.header)
    header.PatientName = "สมชาย"
    images = (replace(first, header=header), *source.instances[1:])
    volume = replace(made.found.volume, source=replace(source, instances=images))
    with pytest.raises(FontError) as caught:
        make_pdf_report(replace(made.found, volume=volume), **BY)
    assert "U+0E0A" in caught.value.problem


def spoil_gsps(state: Dataset) -> None:
    line = state.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
    line.GraphicData = [
        value + (1.0 if n % 2 == 0 else 0.0) for n, value in enumerate(line.GraphicData)
    ]


def spoil_image(state: Dataset) -> None:
    items = state.ReferencedSeriesSequence[0].ReferencedImageSequence
    shown = state.GraphicAnnotationSequence[0].ReferencedImageSequence[0]
    other = next(i for i in items if i.ReferencedSOPInstanceUID != shown.ReferencedSOPInstanceUID)
    shown.ReferencedSOPInstanceUID = other.ReferencedSOPInstanceUID


def spoil_contour(plan: Dataset) -> None:
    contour = plan.ROIContourSequence[1].ContourSequence[0]
    contour.ContourData = [float(value) + 0.05 for value in contour.ContourData]


def spoil_contours(plan: Dataset) -> None:
    del plan.ROIContourSequence[0].ContourSequence[0]


def spoil_picture(picture: Dataset) -> None:
    pixels = np.frombuffer(picture.PixelData, np.uint8).reshape(picture.Rows, picture.Columns, 3)
    picture.PixelData = np.roll(pixels, 12, axis=1).tobytes()


def spoil_map(parametric: Dataset) -> None:
    groups = parametric.PerFrameFunctionalGroupsSequence
    first, second = groups[1].PlanePositionSequence, groups[2].PlanePositionSequence
    groups[1].PlanePositionSequence, groups[2].PlanePositionSequence = second, first


def spoil_fraction(segmentation: Dataset) -> None:
    pixels = bytearray(segmentation.PixelData)
    place = next(n for n, value in enumerate(pixels) if value > 10)
    pixels[place] -= 3
    segmentation.PixelData = bytes(pixels)


@pytest.mark.parametrize(
    ("name", "spoil", "field"),
    [
        ("gsps", spoil_gsps, "GraphicData"),
        ("gsps", spoil_image, "GraphicAnnotationSequence|GraphicData"),
        ("rtstruct", spoil_contour, "ContourData"),
        ("rtstruct", spoil_contours, "ContourSequence"),
        ("sc-1", spoil_picture, "PixelData"),
        ("sc-2", spoil_picture, "PixelData"),
        ("pmap", spoil_map, "probability"),
        ("fractional", spoil_fraction, "probability"),
    ],
)
def test_the_gate_sees_what_is_misplaced(
    made: Made, tmp_path: Path, name: str, spoil: Callable[[Dataset], None], field: str
) -> None:
    dataset = dcmread(made.files[name])
    spoil(dataset)
    dataset.save_as(tmp_path / "spoilt.dcm")
    spoilt = replace(made, files={name: tmp_path / "spoilt.dcm"})
    with pytest.raises(PlacementError) as caught:
        spoilt.check(name)
    assert caught.value.field in field.split("|")


def test_a_rejection_note_lists_what_it_rejects_and_why(made: Made, tmp_path: Path) -> None:
    rejected = []
    for name in ("seg", "gsps", "sc-1"):
        dataset = dcmread(made.files[name])
        rejected.append(
            RejectedObject(
                sop_class_uid=dataset.SOPClassUID,
                instance_uid=dataset.SOPInstanceUID,
                series_uid=dataset.SeriesInstanceUID,
            )
        )
    codes = {Rejection.QUALITY: "113001", Rejection.PATIENT_SAFETY: "113037"}
    for reason, code in codes.items():
        note = make_rejection_note(made.found.volume, rejected, reason, "左右颠倒 wrong side", **BY)
        write_dicom(note, tmp_path / "note.dcm")
        back = dcmread(tmp_path / "note.dcm")
        assert back.ConceptNameCodeSequence[0].CodeValue == code
        listed = {
            item.ReferencedSOPInstanceUID
            for series in back.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
            for item in series.ReferencedSOPSequence
        }
        assert listed == {one.instance_uid for one in rejected}
        assert any("wrong side" in item.get("TextValue", "") for item in back.ContentSequence)
        assert dciodvfy(tmp_path / "note.dcm") == []
        source = made.found.volume.source
        assert source is not None
        paths = [tmp_path / "note.dcm", *(one.path for one in source.instances)]
        assert dcentvfy(paths) == []


def test_a_rejection_of_nothing_twice_or_of_the_source_is_refused(made: Made) -> None:
    source = made.found.volume.source
    assert source is not None
    image = source.instances[0]
    own = RejectedObject(
        sop_class_uid=image.sop_class_uid,
        instance_uid=image.instance_uid,
        series_uid=source.series_uid,
    )
    result = replace(own, instance_uid="1.2.3")
    for rejected, words in (((), "none"), ((result, result), "twice"), ((own,), "source image")):
        with pytest.raises(ResultInputError, match=words) as caught:
            make_rejection_note(made.found.volume, rejected, Rejection.QUALITY, "why", **BY)
        assert caught.value.field == "rejected"
    with pytest.raises(ResultInputError) as caught:
        make_rejection_note(made.found.volume, [result], Rejection.QUALITY, " ", **BY)
    assert caught.value.field == "comment"


@pytest.mark.parametrize("kind", ["PET of several slopes", "enhanced MR"])
def test_other_sources_conform_and_pass_the_gate(tmp_path: Path, kind: str) -> None:
    if kind == "enhanced MR":
        image = enhanced_mr(
            thirds(SHAPE).astype(np.int16), affine_from(SPACING_MM), frame_order=(4, 2, 0, 1, 3, 5)
        )
        files = [save(image, tmp_path / "mr.dcm")]
    else:
        values = np.random.default_rng(4).integers(0, 900, SHAPE).astype(np.int16)
        files = write_series(tmp_path / "pt", values, affine_from(SPACING_MM), "PT")
    made = make_all(tmp_path, labelled(files))
    for name, path in made.files.items():
        assert (name, dciodvfy(path)) == (name, [])
        made.check(name)
    assert dcmpschk(made.files["gsps"]) == []


@pytest.mark.slow
@pytest.mark.parametrize("modality", ["MR", "PT"])
def test_results_of_real_series_conform(shared_data: Path, tmp_path: Path, modality: str) -> None:
    folder = shared_data / "ct-mr-pet-dicom" / "STS_001"
    found = scan(sorted(folder.rglob("*.dcm"))).series
    (series,) = [each for each in found if each.is_image and each.modality == modality]
    volume = read_volume(series)
    labels = thirds(volume.array.shape)
    made = make_all(
        tmp_path,
        LabelledVolume(
            volume=volume, labels=labels, segments=SEGMENTS, measurements=measure(volume, labels)
        ),
    )
    for name, path in made.files.items():
        assert (name, dciodvfy(path)) == (name, [])
        made.check(name)
    assert dcmpschk(made.files["gsps"]) == []
    source = [instance.path for instance in series.instances]
    assert dcentvfy([*made.files.values(), *source]) == []


def test_where_nothing_was_found_pictures_and_pdf_say_so(made: Made, tmp_path: Path) -> None:
    labels = np.zeros(SHAPE, np.uint8)
    empty = replace(made.found, labels=labels, measurements=())
    (picture,) = make_secondary_captures(empty, **BY)
    write_dicom(picture, tmp_path / "sc.dcm")
    check_object(tmp_path / "sc.dcm", empty)
    write_dicom(make_pdf_report(empty, **BY), tmp_path / "pdf.dcm")
    assert "Nothing found." in text_of_pdf(tmp_path / "pdf.dcm", tmp_path)
    for make in (make_presentation_state, make_structure_set, make_key_objects):
        with pytest.raises(ResultInputError):
            make(empty, **BY)


def test_a_real_pacs_stores_every_kind_and_gives_it_back(made: Made, tmp_path: Path) -> None:
    import io

    from dicomweb_client.api import DICOMwebClient

    if find_orthanc() is None:
        pytest.fail("Orthanc is missing: install the Debian packages orthanc orthanc-dicomweb")
    with running_orthanc(tmp_path) as pacs:
        client = DICOMwebClient(url=pacs.dicomweb_url)
        for name, path in made.files.items():
            sent = dcmread(path)
            client.store_instances([sent])
            back = dcmread(
                io.BytesIO(
                    pacs.retrieve(
                        sent.StudyInstanceUID, sent.SeriesInstanceUID, sent.SOPInstanceUID
                    )
                )
            )
            assert back == sent, name
