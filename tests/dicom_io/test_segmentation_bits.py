"""The packed frames are, byte for byte, those that highdicom writes for the same label map."""

from __future__ import annotations

from pathlib import Path

import highdicom as hd
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.pixels import pack_bits
from pydicom.sr.codedict import codes

from dicom_io.segmentation import make_segmentation
from dicom_io.volume import Volume
from dicom_io.write import write_dicom
from tests.builders.dicom import affine_from, write_series
from tests.builders.results import ALGORITHM, IDENTITY, SEGMENTS, read_only_series, thirds
from tests.builders.validators import dciodvfy


def by_highdicom(files: list[Path], volume: Volume, labels: np.ndarray) -> hd.seg.Segmentation:
    assert volume.source is not None
    by_uid = {str(image.SOPInstanceUID): image for image in map(dcmread, files)}
    images = [by_uid[str(each.instance_uid)] for each in volume.source.instances]
    return hd.seg.Segmentation(
        source_images=images,
        pixel_array=labels,
        segmentation_type="BINARY",
        segment_descriptions=[
            hd.seg.SegmentDescription(
                segment_number=number,
                segment_label=f"segment {number}",
                segmented_property_category=codes.SCT.Organ,
                segmented_property_type=codes.SCT.Lung,
                algorithm_type="MANUAL",
            )
            for number in (1, 2, 3)
        ],
        series_instance_uid="1.2.3",
        series_number=1,
        sop_instance_uid="1.2.4",
        instance_number=1,
        manufacturer="test",
        manufacturer_model_name="test",
        software_versions="1",
        device_serial_number="1",
    )


def frame_places(seg: Dataset) -> list[tuple[float, ...]]:
    return [
        (
            int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber),
            *(round(float(mm), 4) for mm in group.PlanePositionSequence[0].ImagePositionPatient),
        )
        for group in seg.PerFrameFunctionalGroupsSequence
    ]


@pytest.mark.parametrize("shape", [(4, 5, 7), (5, 8, 6), (3, 3, 3)])
def test_pixel_data_is_that_of_highdicom(shape: tuple[int, int, int], tmp_path: Path) -> None:
    files = write_series(tmp_path / "ct", np.zeros(shape, np.int16), affine_from((2.5, 0.6, 0.8)))
    volume = read_only_series(files)
    labels = thirds(shape)
    ours = make_segmentation(volume, labels, SEGMENTS, algorithm=ALGORITHM, identity=IDENTITY)
    theirs = by_highdicom(files, volume, labels)
    assert int(ours.NumberOfFrames) == int(theirs.NumberOfFrames)
    # highdicom orders the slices of a segment its own way: put its frames in our order.
    places = frame_places(theirs)
    order = [places.index(place) for place in frame_places(ours)]
    assert ours.PixelData == pack_bits(theirs.pixel_array[order].astype(np.uint8))
    write_dicom(ours, tmp_path / "seg.dcm")
    assert dciodvfy(tmp_path / "seg.dcm") == []
    read = hd.seg.segread(tmp_path / "seg.dcm")
    np.testing.assert_array_equal(read.pixel_array, theirs.pixel_array[order])
