"""Measurements become a report that says what, where, how much, and what was not found."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_io.result_errors import MissingIdentifierError, ResultInputError
from dicom_io.segmentation import make_segmentation
from dicom_io.structured_report import make_measurement_report
from dicom_io.volume import Volume
from tests.builders.dicom import affine_from, enhanced_mr, save, write_series
from tests.builders.results import (
    ALGORITHM,
    IDENTITY,
    SEGMENTS,
    Written,
    measure,
    read_only_series,
    thirds,
    write_result,
)

SHAPE = (6, 25, 31)
SPACING_MM = (2.5, 0.6, 0.8)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    values = np.random.default_rng(5).integers(-900, 200, SHAPE).astype(np.int16)
    return read_only_series(write_series(tmp_path / "ct", values, affine_from(SPACING_MM)))


def report_of(written: Written) -> hd.sr.MeasurementReport:
    """The content, parsed by highdicom from the file."""
    content: hd.sr.MeasurementReport = hd.sr.srread(written.sr).content
    return content


def texts(item: Dataset) -> Iterator[str]:
    for child in item.get("ContentSequence") or []:
        if "TextValue" in child:
            yield child.TextValue
        yield from texts(child)


def test_each_segment_has_its_volume_and_statistics_in_coded_units(
    volume: Volume, tmp_path: Path
) -> None:
    written = write_result(tmp_path, volume)
    groups = report_of(written).get_volumetric_roi_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Left lung", "Right lung", "Heart"]
    for group, each, measured in zip(
        groups, SEGMENTS, measure(volume, written.labels), strict=True
    ):
        assert group.tracking_uid == IDENTITY.tracking_uid(each.label)
        assert group.finding_type.value == each.type.value
        if each.modifier is not None:
            assert group.finding_sites[0].laterality.value == each.modifier.value
        (amount,) = group.get_measurements(codes.SCT.Volume)
        assert amount.value == pytest.approx(measured.volume_ml, rel=1e-9)
        assert (amount.unit.value, amount.unit.scheme_designator) == ("ml", "UCUM")
        statistics = group.get_measurements(codes.DCM.AttenuationCoefficient)
        assert {item.unit.value for item in statistics} == {"[hnsf'U]"}
        found = {item.derivation.value: item.value for item in statistics}
        assert found == {
            codes.SCT.Mean.value: pytest.approx(measured.mean, rel=1e-9),
            codes.SCT.StandardDeviation.value: pytest.approx(measured.sd, rel=1e-9),
            codes.SCT.Minimum.value: measured.minimum,
            codes.SCT.Maximum.value: measured.maximum,
        }
        reference = group.referenced_segment[0].ReferencedSOPSequence[0]
        assert reference.ReferencedSOPInstanceUID == IDENTITY.uid("seg")
        assert reference.ReferencedSegmentNumber == each.label


def test_outlines_lie_on_the_key_slices_with_the_same_tracking_uid(
    volume: Volume, tmp_path: Path
) -> None:
    written = write_result(tmp_path, volume)
    assert volume.source is not None
    slices = {instance.instance_uid: k for k, instance in enumerate(volume.source.instances)}
    report = report_of(written)
    for each in SEGMENTS:
        areas = (written.labels == each.label).sum(axis=(1, 2))
        groups = report.get_planar_roi_measurement_groups(
            tracking_uid=IDENTITY.tracking_uid(each.label)
        )
        drawn = set()
        for group in groups:
            region = group.roi
            assert region.graphic_type == hd.sr.GraphicTypeValues.POLYLINE
            image = region.ContentSequence[0].ReferencedSOPSequence[0]
            drawn.add(slices[image.ReferencedSOPInstanceUID])
            points = region.value
            np.testing.assert_array_equal(points[0], points[-1])
            (area,) = group.get_measurements(codes.SCT.Area)
            x, y = points[:, 0], points[:, 1]
            pixels = abs(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1])) / 2
            assert area.value <= pixels * 0.6 * 0.8 + 1e-6, "holes are not part of the area"
            assert area.unit.value == "mm2"
        assert int(np.argmax(areas)) in drawn
        assert 1 <= len(drawn) <= 3


def test_nothing_found_is_said_in_codes_and_words_without_a_segmentation(
    volume: Volume, tmp_path: Path
) -> None:
    written = write_result(tmp_path, volume, np.zeros(SHAPE, np.uint8))
    assert written.seg is None
    report = report_of(written)
    groups = report.get_image_measurement_groups()
    assert [group.tracking_identifier for group in groups] == ["Left lung", "Right lung", "Heart"]
    for group in groups:
        (evaluation,) = group.get_qualitative_evaluations(codes.DCM.PresenceOfProperty)
        assert evaluation.value == codes.cid240.Absent
        assert group.get_measurements() == []
    said = " ".join(texts(dcmread(written.sr)))
    assert "Searched for and not found: Left lung, Right lung, Heart." in said


def test_a_segment_not_found_beside_others_has_no_volume(volume: Volume, tmp_path: Path) -> None:
    labels = np.where(thirds(SHAPE) == 2, 2, 0).astype(np.uint8)
    written = write_result(tmp_path, volume, labels)
    report = report_of(written)
    absent = {}
    for group in report.get_volumetric_roi_measurement_groups():
        (amount,) = group.get_measurements(codes.SCT.Volume)
        presence = group.get_qualitative_evaluations(codes.DCM.PresenceOfProperty)
        evaluations = [item.value.value for item in presence]
        absent[group.tracking_identifier] = (amount.value == 0, evaluations)
    gone = ["272519000"]  # SNOMED CT: absent
    assert absent == {"Left lung": (True, gone), "Right lung": (False, []), "Heart": (True, gone)}
    assert not report.get_planar_roi_measurement_groups(tracking_uid=IDENTITY.tracking_uid(1))
    assert "not found: Left lung, Heart." in " ".join(texts(dcmread(written.sr)))


def test_it_is_complete_preliminary_and_unverified_and_names_its_device(
    volume: Volume, tmp_path: Path
) -> None:
    written = write_result(tmp_path, volume)
    sr = dcmread(written.sr)
    assert sr.SOPClassUID == "1.2.840.10008.5.1.4.1.1.88.34"
    assert (sr.CompletionFlag, sr.PreliminaryFlag) == ("COMPLETE", "PRELIMINARY")
    assert sr.VerificationFlag == "UNVERIFIED"
    assert sr.SOPInstanceUID == IDENTITY.uid("sr")
    assert sr.SeriesInstanceUID == IDENTITY.uid("sr-series")
    assert sr.SeriesNumber > 9000
    assert sr.ContentQualification == "RESEARCH"
    assert sr.SeriesDescription.startswith("AI report ct_thorax_seg")
    assert sr.ContributingEquipmentSequence[0].DeviceUID == ALGORITHM.device_uid
    (context,) = report_of(written).get_observer_contexts()
    device = context.observer_identifying_attributes
    assert device.uid == ALGORITHM.device_uid
    assert device.manufacturer_name == "clinfer"
    assert device.model_name == "ct_thorax_seg"
    assert "research use, not for primary diagnosis" in device.name
    procedures = [
        item.ConceptCodeSequence[0].CodeMeaning
        for item in sr.ContentSequence
        if item.ConceptNameCodeSequence[0].CodeValue == "121058"
    ]
    assert procedures == ["CT unspecified body region"]
    assert volume.source is not None
    evidence = {
        item.ReferencedSOPInstanceUID
        for series in sr.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence
        for item in series.ReferencedSOPSequence
    }
    sources = {instance.instance_uid for instance in volume.source.instances}
    assert evidence == sources | {IDENTITY.uid("seg")}
    assert "FrameOfReferenceUID" not in sr


def test_the_sources_own_procedure_code_stays_in_the_header(volume: Volume, tmp_path: Path) -> None:
    assert volume.source is not None
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "CT1", "99LOCAL", "CT thorax"
    volume.source.instances[0].header.ProcedureCodeSequence = [item]
    sr = dcmread(write_result(tmp_path, volume).sr)
    assert sr.ProcedureCodeSequence[0].CodeValue == "CT1"


def test_outlines_of_a_multiframe_source_name_the_frame(tmp_path: Path) -> None:
    order = (2, 0, 3, 1)
    labels = thirds((4, 25, 31))
    image = enhanced_mr(labels.astype(np.int16) * 100, affine_from(SPACING_MM), frame_order=order)
    read = read_only_series([save(image, tmp_path / "mr.dcm")])
    drawn = (read.array // 100).astype(np.uint8)
    written = write_result(tmp_path, read, drawn)
    for group in report_of(written).get_planar_roi_measurement_groups():
        reference = group.roi.ContentSequence[0].ReferencedSOPSequence[0]
        index = order[reference.ReferencedFrameNumber - 1]
        label = next(s.label for s in SEGMENTS if s.name == group.tracking_identifier)
        columns, rows = group.roi.value[:, 0], group.roi.value[:, 1]
        where = np.argwhere(labels[index] == label)
        assert (where.min(axis=0) <= [rows.min(), columns.min()]).all()
        assert (where.max(axis=0) + 1 >= [rows.max(), columns.max()]).all()
    (group, *_) = report_of(written).get_volumetric_roi_measurement_groups()
    (_, mean, *_) = group.get_measurements()
    assert (mean.name.value, mean.unit.value) == ("110852", "1")


def test_a_resampled_volume_has_volumes_and_no_outlines(tmp_path: Path) -> None:
    affine = affine_from(SPACING_MM, shear_mm=(0.0, 0.7, 0.0))
    files = write_series(tmp_path / "ct", thirds(SHAPE).astype(np.int16), affine)
    written = write_result(tmp_path, read_only_series(files, tilt="resample"))
    report = report_of(written)
    assert len(report.get_volumetric_roi_measurement_groups()) == 3
    assert report.get_planar_roi_measurement_groups() == []


def make(volume: Volume, **change: Any) -> Dataset:
    labels = thirds(SHAPE)
    seg = make_segmentation(volume, labels, SEGMENTS, algorithm=ALGORITHM, identity=IDENTITY)
    given: dict[str, Any] = {
        "labels": labels,
        "segments": SEGMENTS,
        "measurements": measure(volume, labels),
        "segmentation": seg,
        "algorithm": ALGORITHM,
        "identity": IDENTITY,
    }
    return make_measurement_report(volume, **(given | change))


def test_measurements_of_other_labels_than_were_drawn_are_refused(volume: Volume) -> None:
    measured = measure(volume, thirds(SHAPE))
    wrong = replace(measured[1], n_voxels=measured[1].n_voxels + 1)
    cases = {
        "measurements": measured[:2],
        "measurements[2].n_voxels": (measured[0], wrong, measured[2]),
        "measurement.mean": (replace(measured[0], mean=float("nan")), *measured[1:]),
    }
    for field, given in cases.items():
        with pytest.raises(ResultInputError) as caught:
            make(volume, measurements=given)
        assert caught.value.field == field


def test_a_segmentation_that_does_not_belong_is_refused(volume: Volume) -> None:
    other = replace(IDENTITY, key="another case")
    stranger = make_segmentation(
        volume, thirds(SHAPE), SEGMENTS, algorithm=ALGORITHM, identity=other
    )
    empty = {"labels": np.zeros(SHAPE, np.uint8), "measurements": ()}
    for change in ({"segmentation": None}, {"segmentation": stranger}, empty):
        with pytest.raises(ResultInputError) as caught:
            make(volume, **change)
        assert caught.value.field == "segmentation"


def test_a_missing_identifier_refuses_the_report_by_name(volume: Volume) -> None:
    assert volume.source is not None
    source = replace(volume.source, series_uid="")
    with pytest.raises(MissingIdentifierError) as caught:
        make(volume).StudyInstanceUID and make_measurement_report(
            replace(volume, source=source),
            np.zeros(SHAPE, np.uint8),
            SEGMENTS,
            (),
            None,
            algorithm=ALGORITHM,
            identity=IDENTITY,
        )
    assert caught.value.attribute == "SeriesInstanceUID"


def test_the_same_report_is_the_same_bytes(volume: Volume, tmp_path: Path) -> None:
    first = write_result(tmp_path, volume).sr.read_bytes()
    assert write_result(tmp_path, volume).sr.read_bytes() == first
