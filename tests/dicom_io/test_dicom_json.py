"""Elements read by hand say what pydicom says of the same file, and lose nothing when written."""

from __future__ import annotations

import base64
import io
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.filewriter import dcmwrite
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from dicom_io.codec_pool import CodecPool
from dicom_io.dicom_json import JsonContext, json_pieces
from dicom_io.errors import CodestreamError, FileError, NotDicomError
from dicom_io.explicit_little import explicit_little_pieces
from dicom_io.instance_file import open_instance
from dicom_io.instance_frames import Frames

UNCOMPRESSED = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian)


def awkward() -> Dataset:
    """Every kind of value, empty ones, several ones, nested three deep."""
    inner = Dataset()
    inner.PixelRepresentation = 1
    inner.SmallestImagePixelValue = -5
    inner.ReferencedFrameNumber = [1, 2, 3]
    middle = Dataset()
    middle.CodeMeaning = "Größe"
    middle.ContentSequence = DicomSequence([inner, Dataset()])
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.PatientName = "Müller^Änne=X=Y"
    dataset.PatientComments = "two\\values are one text here"
    dataset.PixelSpacing = ["0.500000", "1e-3"]
    dataset.AcquisitionNumber = ""
    dataset.EventElapsedTimes = [1.5, -2.25]
    dataset.add_new(0x00189087, "FD", 1000.125)
    dataset.add_new(0x00660129, "OF", np.array([1.5, -2], "<f4").tobytes())
    dataset.add_new(0x00280009, "AT", [0x00181063, 0x00181065])
    dataset.add_new(0x00082112, "SQ", DicomSequence([middle]))
    dataset.add_new(0x00091001, "OB", b"\1\2\3\4")
    dataset.PixelRepresentation = 1
    dataset.SmallestImagePixelValue = -300
    return dataset


def written(dataset: Dataset, syntax: str, path: Path) -> Path:
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    out = io.BytesIO()
    dcmwrite(out, dataset, enforce_file_format=True)
    path.write_bytes(out.getvalue())
    return path


def our_json(path: Path) -> dict[str, Any]:
    with open_instance(path) as file:
        context = JsonContext(bulk=lambda place: f"bulk:{place}")
        text = "".join(json_pieces(file.stream, file.elements.values(), context))
    found: dict[str, Any] = json.loads(text)
    return found


@pytest.mark.parametrize("syntax", UNCOMPRESSED)
def test_every_kind_of_value_is_as_pydicom_has_it(tmp_path: Path, syntax: str) -> None:
    dataset = awkward()
    if syntax == ExplicitVRBigEndian:  # pydicom neither turns these when it writes nor reads
        dataset[0x00660129].value = np.array([1.5, -2], ">f4").tobytes()
    path = written(dataset, syntax, tmp_path / "a.dcm")
    ours = our_json(path)
    theirs = json.loads(pydicom.dcmread(path).to_json())
    assert ours.pop("00080005") == {"vr": "CS", "Value": ["ISO_IR 192"]}  # JSON is Unicode
    theirs.pop("00080005")
    if syntax == ImplicitVRLittleEndian:  # nobody says what a private value is there
        assert ours["00091001"] == {"vr": "UN", "InlineBinary": "AQIDBA=="}
    floats = base64.b64encode(np.array([1.5, -2], "<f4").tobytes()).decode()
    theirs["00660129"]["InlineBinary"] = floats
    assert ours == theirs


@pytest.mark.parametrize("syntax", UNCOMPRESSED[1:])
def test_written_anew_it_says_the_same(tmp_path: Path, syntax: str) -> None:
    path = written(awkward(), syntax, tmp_path / "a.dcm")
    with open_instance(path) as file, CodecPool(1) as pool:
        meta = path.read_bytes()[: file.dataset_begin]
        anew = b"".join(explicit_little_pieces(file, meta, None, pool))
    other = tmp_path / "b.dcm"
    other.write_bytes(anew)
    assert pydicom.dcmread(other).file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert our_json(other) == our_json(path)


def test_long_sequences_in_parts_are_the_same_text(tmp_path: Path) -> None:
    dataset = awkward()
    items = []
    for number in range(3000):
        item = Dataset()
        item.ImagePositionPatient = [0, number, number / 3]
        items.append(item)
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(items)
    path = written(dataset, ExplicitVRLittleEndian, tmp_path / "a.dcm")
    assert path.stat().st_size > 64 * 1024
    ours = our_json(path)["52009230"]["Value"]
    theirs = json.loads(pydicom.dcmread(path).to_json())["52009230"]["Value"]
    assert len(ours) == 3000
    assert ours == theirs


def test_numbers_that_json_does_not_have_are_words(tmp_path: Path) -> None:
    dataset = awkward()
    dataset.EventElapsedTimes = [float("nan"), float("-inf")]
    path = written(dataset, ExplicitVRLittleEndian, tmp_path / "a.dcm")
    assert our_json(path)["00082130"] == {"vr": "DS", "Value": ["nan", "-inf"]}
    dataset.add_new(0x00189087, "FD", float("nan"))
    path = written(dataset, ExplicitVRLittleEndian, tmp_path / "a.dcm")
    assert our_json(path)["00189087"] == {"vr": "FD", "Value": ["NaN"]}


@pytest.mark.parametrize("cut", [3, 200, 400])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, cut: int) -> None:
    path = written(awkward(), ExplicitVRLittleEndian, tmp_path / "a.dcm")
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(FileError):
        our_json(path)


def test_what_is_no_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.dcm"
    path.write_bytes(b"hello" * 100)
    with pytest.raises(NotDicomError):
        our_json(path)


@pytest.mark.parametrize("folder", ["edge-dicom", "seg-sr", "ct-mr-pet-dicom"])
def test_real_files_say_what_pydicom_says(shared_data: Path, folder: str) -> None:
    n_compared = 0
    seen: set[tuple[str, str]] = set()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of pydicom, about files that break the standard
        for path in sorted(one for one in (shared_data / folder).rglob("*") if one.is_file()):
            try:
                theirs = pydicom.dcmread(path, stop_before_pixels=True)
                key = (str(theirs.file_meta.TransferSyntaxUID), str(theirs.SOPClassUID))
                expected = json.loads(theirs.to_json())
                ours = our_json(path)
            except (FileError, AttributeError, ValueError, KeyError, TypeError):
                continue  # what one of the two cannot read is no witness
            except pydicom.errors.InvalidDicomError:
                continue
            if key not in seen:
                seen.add(key)
                n_compared += compared(expected, ours)
    assert n_compared > 100


def compared(theirs: dict[str, Any], ours: dict[str, Any]) -> int:
    """Compare standard attributes of plain kinds; return how many there were."""
    kinds = {"DA", "TM", "UI", "US", "UL", "SS", "IS", "FD", "SQ"}
    count = 0
    for tag, member in theirs.items():
        if int(tag[:4], 16) % 2 or member["vr"] not in kinds or tag[4:] == "0000":
            continue
        if member["vr"] == "SQ":
            items = ours[tag].get("Value", [])
            pairs = zip(member.get("Value", []), items, strict=True)
            count += sum(compared(one, two) for one, two in pairs)
        else:
            assert ours[tag] == member, tag
            count += 1
    return count


def test_frames_without_an_offset_table_are_told_apart_or_refused(tmp_path: Path) -> None:
    dataset = awkward()
    dataset.Rows = dataset.Columns = 2
    dataset.BitsAllocated, dataset.SamplesPerPixel, dataset.NumberOfFrames = 8, 1, 2
    whole = encapsulate([b"one-", b"two-two-"], fragments_per_frame=2, has_bot=True)
    for data, is_clear in ((whole, True), (_without_table(whole), False)):
        dataset.PixelData = data
        dataset["PixelData"].VR = "OB"
        dataset["PixelData"].is_undefined_length = True
        path = written(dataset, "1.2.840.10008.1.2.4.80", tmp_path / "a.dcm")
        with open_instance(path) as file:
            frames = Frames(file, instance_uid="1.2.3")
            if is_clear:
                assert [frames.stored(n) for n in (1, 2)] == [b"one-", b"two-two-"]
            else:
                with pytest.raises(CodestreamError, match="4 fragments for 2 frames"):
                    frames.stored(1)


def _without_table(data: bytes) -> bytes:
    length = int.from_bytes(data[4:8], "little")
    return data[:4] + b"\0\0\0\0" + data[8 + length :]
