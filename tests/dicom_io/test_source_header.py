"""What a result repeats of its source's patient and study, and what it does not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydicom import dcmread
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_io.segmentation import make_segmentation
from dicom_io.source_header import result_header
from dicom_io.volume import Volume
from dicom_io.write import write_dicom
from tests.builders.dicom import ct_series, write_instances
from tests.builders.results import ALGORITHM, IDENTITY, SEGMENTS, read_only_series, segment, thirds
from tests.builders.validators import dciodvfy


def volume_with(folder: Path, **attributes: Any) -> Volume:
    """A built CT whose slices have these attributes; None removes one."""
    series = ct_series()
    for instance in series:
        for keyword, value in attributes.items():
            if value is None:
                if keyword in instance:
                    del instance[keyword]
            else:
                setattr(instance, keyword, value)
    return read_only_series(write_instances(folder / "ct", series))


def written_seg(folder: Path, volume: Volume, segments: Any = SEGMENTS) -> tuple[Path, Dataset]:
    labels = thirds(volume.array.shape)
    seg = make_segmentation(volume, labels, segments, algorithm=ALGORITHM, identity=IDENTITY)
    write_dicom(seg, folder / "seg.dcm")
    return folder / "seg.dcm", dcmread(folder / "seg.dcm")


TYPE_2 = [
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
    "PositionReferenceIndicator",
]


def test_absent_type_2_attributes_are_written_empty(tmp_path: Path) -> None:
    volume = volume_with(tmp_path, **dict.fromkeys(TYPE_2))
    path, seg = written_seg(tmp_path, volume)
    for keyword in TYPE_2:
        assert keyword in seg
        assert not seg[keyword].value, keyword
    assert dciodvfy(path) == []


@pytest.mark.parametrize(
    ("character_set", "name", "written"),
    [
        ("GB18030", "Wang^XiaoDong=王^小东", "GB18030"),
        ("ISO_IR 192", "Müller^Jörg=王^小东", "ISO_IR 192"),
        ("ISO_IR 100", "Müller^Jörg", "ISO_IR 100"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동", ["", "ISO 2022 IR 149"]),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", ["", "ISO 2022 IR 87"]),
        (None, "Plain^Ascii", "ISO_IR 192"),
    ],
)
def test_names_keep_their_character_set(
    tmp_path: Path, character_set: Any, name: str, written: Any
) -> None:
    volume = volume_with(tmp_path, SpecificCharacterSet=character_set, PatientName=name)
    path, seg = written_seg(tmp_path, volume)
    assert str(seg.PatientName) == name
    found = seg.SpecificCharacterSet
    assert (found if isinstance(found, str) else list(found)) == written
    assert dciodvfy(path) == []


def test_ir_58_is_read_and_never_written(tmp_path: Path) -> None:
    """Bytes as PS3.5 K.2 has them: pydicom would write this set without its escape sequences."""
    volume = volume_with(tmp_path, SpecificCharacterSet="GB18030", PatientName="a")
    assert volume.source is not None
    header = volume.source.instances[0].header
    header.SpecificCharacterSet = ["", "ISO 2022 IR 58"]
    raw = b"Wang^XiaoDong=\x1b$)A" + "王".encode("gb2312") + b"^\x1b$)A" + "小东".encode("gb2312")
    header[0x00100010] = raw_value("PatientName", raw)
    copied = result_header(volume)
    assert copied.SpecificCharacterSet == "ISO_IR 192"
    assert str(copied.PatientName) == "Wang^XiaoDong=王^小东"


def test_a_segment_name_outside_the_sources_character_set_makes_it_utf_8(tmp_path: Path) -> None:
    volume = volume_with(tmp_path, SpecificCharacterSet="ISO_IR 100", PatientName="Müller^Jörg")
    named = [segment(label, f"肺 {label}", SEGMENTS[0].type) for label in (1, 2, 3)]
    _, seg = written_seg(tmp_path, volume, named)
    assert seg.SpecificCharacterSet == "ISO_IR 192"
    assert str(seg.PatientName) == "Müller^Jörg"
    assert seg.SegmentSequence[0].SegmentLabel == "肺 1"


def test_latin_1_bytes_without_a_declared_set_are_kept_as_text(tmp_path: Path) -> None:
    volume = volume_with(tmp_path, SpecificCharacterSet=None)
    assert volume.source is not None
    volume.source.instances[0].header[0x00100010] = raw_value(
        "PatientName", "Müller".encode("latin-1")
    )
    assert str(result_header(volume).PatientName) == "Müller"


def raw_value(keyword: str, raw: bytes) -> RawDataElement:
    """An element as it comes undecoded from a file."""
    tag = Tag(keyword)
    return RawDataElement(tag, dictionary_VR(tag), len(raw), raw, 0, False, True)


@pytest.mark.parametrize(
    ("keyword", "raw", "copied"),
    [
        ("StudyDate", b"20261122", "20261122"),
        ("StudyDate", b"2026.11.22", ""),
        ("StudyDate", b"20261199", ""),
        ("StudyTime", b"130507.123456 ", "130507.123456"),
        ("StudyTime", b"13:05", ""),
        ("StudyTime", b"250000", ""),
        ("PatientSex", b"m ", "M"),
        ("PatientSex", b"X ", ""),
        ("StudyID", b"seventeen letters", ""),
        ("PatientWeight", b"70.5", "70.5"),
        ("PatientWeight", b"heavy ", None),
        ("PatientAge", b"063Y", "063Y"),
        ("PatientAge", b"63", None),
        ("PatientAge", b"", ""),
        ("BodyPartExamined", b"Chest ", "CHEST"),
        ("BodyPartExamined", b"", None),
        ("BodyPartExamined", b"a/b ", None),
        ("Laterality", b"L ", "L"),
        ("Laterality", b"B ", None),
        ("TimezoneOffsetFromUTC", b"+0800 ", "+0800"),
        ("TimezoneOffsetFromUTC", b"CET ", None),
        ("PregnancyStatus", b"\x01\x00", "1"),
        ("PregnancyStatus", b"\x09\x00", None),
        ("PatientIdentityRemoved", b"YES ", "YES"),
    ],
)
def test_a_value_that_its_type_does_not_allow_is_not_repeated(
    tmp_path: Path, keyword: str, raw: bytes, copied: str | None
) -> None:
    """None: left out (optional); "": written empty (type 2, or empty in the source too)."""
    volume = volume_with(tmp_path)
    assert volume.source is not None
    element = raw_value(keyword, raw)
    volume.source.instances[0].header[element.tag] = element
    header = result_header(volume)
    if copied is None:
        assert keyword not in header
    else:
        assert str(header[keyword].value or "") == copied


def test_an_identity_longer_than_allowed_is_kept_whole(tmp_path: Path) -> None:
    volume = volume_with(tmp_path)
    assert volume.source is not None
    number = raw_value("PatientID", b"P" * 70)
    volume.source.instances[0].header[number.tag] = number
    assert result_header(volume).PatientID == "P" * 70


def test_only_complete_codes_are_repeated(tmp_path: Path) -> None:
    whole, half = Dataset(), Dataset()
    whole.CodeValue, whole.CodingSchemeDesignator, whole.CodeMeaning = "CT1", "99LOCAL", "CT chest"
    half.CodeValue = "CT2"
    volume = volume_with(tmp_path, ProcedureCodeSequence=[whole, half])
    (item,) = result_header(volume).ProcedureCodeSequence
    assert (item.CodeValue, item.CodeMeaning) == ("CT1", "CT chest")


def test_a_removed_identity_is_said_with_how(tmp_path: Path) -> None:
    volume = volume_with(tmp_path, PatientIdentityRemoved="YES", DeidentificationMethod=None)
    assert result_header(volume).DeidentificationMethod
    path, _ = written_seg(tmp_path, volume)
    assert dciodvfy(path) == []
