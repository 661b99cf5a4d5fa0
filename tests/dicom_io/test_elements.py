"""Walking a file's elements: the same as pydicom on good files, named errors on bad ones."""

from __future__ import annotations

import contextlib
import random
import resource
import time
import zlib
from pathlib import Path
from struct import pack

import pydicom
import pytest

from dicom_io.element_stream import FileLimits
from dicom_io.elements import inflate, parse_file
from dicom_io.errors import (
    DicomIoError,
    FileError,
    FileLimitError,
    MalformedFileError,
    NotDicomError,
    TruncatedFileError,
)
from dicom_io.read import read_volume
from dicom_io.series import scan
from tests.builders.dicom import (
    TRANSFER_SYNTAXES,
    as_bytes,
    ct_series,
    enhanced_mr,
    ramp,
    save,
    write_instances,
)
from tests.builders.dicom import affine_from as affine


def ct_bytes() -> bytes:
    return as_bytes(ct_series(slices=1)[0])


def written(folder: Path, data: bytes) -> Path:
    path = folder / "file.dcm"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("transfer_syntax", TRANSFER_SYNTAXES)
def test_the_header_equals_the_one_pydicom_reads(tmp_path: Path, transfer_syntax: str) -> None:
    (dataset,) = ct_series(array=ramp((1, 37, 41)))
    path = save(dataset, tmp_path / "x.dcm", transfer_syntax=transfer_syntax)
    parsed = parse_file(path)
    assert parsed.header == pydicom.dcmread(path, stop_before_pixels=True)
    assert parsed.transfer_syntax_uid == TRANSFER_SYNTAXES[transfer_syntax]
    assert parsed.size_bytes == path.stat().st_size


@pytest.mark.parametrize("transfer_syntax", ["implicit", "explicit", "big-endian"])
def test_nested_sequences_equal_those_pydicom_reads(tmp_path: Path, transfer_syntax: str) -> None:
    dataset = enhanced_mr(abs(ramp((5, 4, 6))), affine((2, 0.5, 0.7)))
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
    path = save(dataset, tmp_path / "x.dcm", transfer_syntax=transfer_syntax)
    assert parse_file(path).header == pydicom.dcmread(path, stop_before_pixels=True)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_every_real_header_equals_the_one_pydicom_reads(shared_data: Path) -> None:
    folders = ("ct-dicom", "ct-mr-pet-dicom", "mr-dicom", "seg-sr", "edge-dicom")
    files = [p for folder in folders for p in (shared_data / folder).rglob("*") if p.is_file()]
    instances = [i for series in scan(files).series for i in series.instances]
    assert len(instances) > 500
    for instance in instances:
        reference = pydicom.dcmread(instance.path, stop_before_pixels=True, force=True)
        if not reference and instance.path.name.endswith("too_short.dcm"):
            continue  # pydicom gives up on the whole header; ours keeps it
        assert instance.header == reference, instance.path


@pytest.mark.parametrize(("implicit", "little"), [(True, True), (False, True), (False, False)])
def test_a_data_set_without_preamble_and_meta_is_read(
    tmp_path: Path, implicit: bool, little: bool
) -> None:
    (dataset,) = ct_series(slices=1)
    path = tmp_path / "bare.dcm"
    del dataset.file_meta
    dataset.preamble = None
    if not little:
        dataset = pydicom.FileDataset("", dataset, None, None, False, False)
        words = dataset.PixelData
        dataset.PixelData = b"".join(
            words[k + 1 : k - 1 if k else None : -1] for k in range(0, 70, 2)
        )
        dataset["PixelData"].VR = "OW"
    pydicom.dcmwrite(path, dataset, implicit_vr=implicit, little_endian=little)
    (series,) = scan([path]).series
    from dicom_io.decode import read_pixels

    reference = pydicom.dcmread(path, force=True)
    reference.file_meta.TransferSyntaxUID = series.instances[0].transfer_syntax_uid
    assert (read_pixels(series.instances[0])[0] == reference.pixel_array).all()


@pytest.mark.parametrize("preamble", [b"MZ\x90\0", b"\x7fELF", b"#!/bin/sh\n", b"II*\0"])
def test_a_preamble_of_another_format_does_not_matter(tmp_path: Path, preamble: bytes) -> None:
    data = ct_bytes()
    path = written(tmp_path, preamble + data[len(preamble) :])
    assert parse_file(path).header.Modality == "CT"


@pytest.mark.parametrize("data", [b"", b"\0", b"text " * 50, bytes(range(256)) * 16, b"\0" * 4096])
def test_what_is_not_dicom_is_said_to_be_none(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(NotDicomError):
        parse_file(written(tmp_path, data))


def test_a_bare_data_set_without_uids_is_not_taken_for_dicom(tmp_path: Path) -> None:
    data = b"\x08\x00\x60\x00CS\x02\x00CT" + b"\x10\x00\x20\x00LO\x02\x00AB"
    with pytest.raises(NotDicomError, match="SOP Class"):
        parse_file(written(tmp_path, data))


def test_a_file_cut_anywhere_is_never_a_whole_image(tmp_path: Path) -> None:
    """At 200 places: refused while parsing, or left without the pixels it would need."""
    data = ct_bytes()
    for cut in range(1, len(data), max(1, len(data) // 200)):
        path = written(tmp_path, data[:-cut])
        try:
            parsed = parse_file(path)
        except FileError:
            continue
        assert parsed.pixels is None, cut


def test_a_length_of_2_gib_is_refused_without_allocating(tmp_path: Path) -> None:
    data = ct_bytes()
    at = data.index(b"\xe0\x7f\x10\x00OW\0\0") + 8
    path = written(tmp_path, data[:at] + pack("<I", 0x7FFFFFFE) + b"\0" * 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(TruncatedFileError) as caught:
        parse_file(path)
    assert caught.value.tag == "PixelData"
    assert caught.value.needed == 0x7FFFFFFE
    assert caught.value.present == 100
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64 * 1024


def test_an_element_longer_than_the_file_is_named(tmp_path: Path) -> None:
    data = ct_bytes()
    at = data.index(b"\x10\x00\x20\x00LO") + 6
    with pytest.raises(TruncatedFileError) as caught:
        parse_file(written(tmp_path, data[:at] + pack("<H", 0xFFFE) + data[at + 2 :]))
    assert caught.value.tag == "(0010,0020)"


def nested(depth: int, *, undefined: bool) -> bytes:
    """A sequence (0008,1140) within itself, ``depth`` deep."""
    inner = b""
    for _ in range(depth):
        length = 0xFFFFFFFF if undefined else len(inner)
        end = b"\xfe\xff\x0d\xe0\0\0\0\0" if undefined else b""
        item = b"\xfe\xff\x00\xe0" + pack("<I", length) + inner + end
        whole = 0xFFFFFFFF if undefined else len(item)
        tail = b"\xfe\xff\xdd\xe0\0\0\0\0" if undefined else b""
        inner = b"\x08\x00\x40\x11SQ\0\0" + pack("<I", whole) + item + tail
    return inner


def with_element(data: bytes, element: bytes) -> bytes:
    """Put an element of group 0008 before Modality's place."""
    at = data.index(b"\x08\x00\x60\x00CS")
    return data[:at] + element + data[at:]


@pytest.mark.parametrize("undefined", [True, False])
def test_nesting_is_limited(tmp_path: Path, undefined: bool) -> None:
    good = written(tmp_path, with_element(ct_bytes(), nested(60, undefined=undefined)))
    assert parse_file(good).header.Modality == "CT"
    for depth in (70, 200, 20_000 if undefined else 2_000):
        bad = written(tmp_path, with_element(ct_bytes(), nested(depth, undefined=undefined)))
        with pytest.raises(FileLimitError) as caught:
            parse_file(bad)
        assert caught.value.limit == "max_sequence_depth"


def test_a_sequence_of_something_else_is_malformed(tmp_path: Path) -> None:
    element = b"\x08\x00\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\x08\x00\x05\x00" + b"\0" * 8
    with pytest.raises(MalformedFileError, match="where an item belongs"):
        parse_file(written(tmp_path, with_element(ct_bytes(), element)))


def deflated(body: bytes) -> bytes:
    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    meta.MediaStorageSOPInstanceUID = "1.2.3"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    buffer = pydicom.filebase.DicomBytesIO()
    pydicom.filewriter.write_file_meta_info(buffer, meta)
    packer = zlib.compressobj(9, wbits=-15)
    packed = packer.compress(body) + packer.flush()
    return b"\0" * 128 + b"DICM" + buffer.getvalue() + packed


def test_a_deflated_bomb_is_refused_early(tmp_path: Path) -> None:
    path = written(tmp_path, deflated(b"\0" * (512 * 1024**2)))
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    with pytest.raises(FileLimitError) as caught:
        parse_file(path)
    assert caught.value.limit == "max_inflate_ratio"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 256 * 1024
    assert time.monotonic() - began < 2


def test_inflation_has_an_absolute_cap(tmp_path: Path) -> None:
    packer = zlib.compressobj(wbits=-15)
    data = packer.compress(b"\0" * 5_000_000) + packer.flush()
    with pytest.raises(FileLimitError) as caught:
        inflate(tmp_path / "x", data, FileLimits(max_inflated_bytes=1_000_000))
    assert caught.value.limit == "max_inflated_bytes"


def test_deflated_data_cut_short_is_refused(tmp_path: Path) -> None:
    (dataset,) = ct_series(slices=1)
    path = save(dataset, tmp_path / "x.dcm", transfer_syntax="deflated")
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileError):
        parse_file(path)


def test_deflated_garbage_is_malformed(tmp_path: Path) -> None:
    data = deflated(b"abc")
    with pytest.raises(MalformedFileError):
        parse_file(written(tmp_path, data[:-5] + b"\xff" * 30))


def test_a_file_over_the_size_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileLimitError) as caught:
        parse_file(written(tmp_path, ct_bytes()), limits=FileLimits(max_file_bytes=100))
    assert caught.value.limit == "max_file_bytes"


def test_a_header_longer_than_the_first_read_is_read_whole(tmp_path: Path) -> None:
    private = b"\x09\x00\x10\x10OB\0\0" + pack("<I", 3_000_000) + b"\7" * 3_000_000
    data = ct_bytes()
    at = data.index(b"\x10\x00\x10\x00PN")
    path = written(tmp_path, data[:at] + private + data[at:])
    header = parse_file(path).header
    assert len(header[0x0009, 0x1010].value) == 3_000_000
    assert header.PixelSpacing == [0.5, 0.7]


@pytest.mark.parametrize(
    ("charset", "name"),
    [
        ("ISO_IR 192", "Müller^Jörg"),
        ("ISO_IR 100", "Müller^Jörg"),
        ("GB18030", "Wang^XiaoDong=王^小东"),
        ("GBK", "Wang^XiaoDong=王^小东"),
        (["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう"),
        (["", "ISO 2022 IR 149"], "Hong^Gildong=洪^吉洞=홍^길동"),
    ],
)
def test_names_and_descriptions_come_back_in_their_character_set(
    tmp_path: Path, charset: str | list[str], name: str
) -> None:
    (dataset,) = ct_series(slices=1)
    dataset.SpecificCharacterSet, dataset.PatientName = charset, name
    path = save(dataset, tmp_path / "x.dcm")
    assert parse_file(path).header.PatientName == name


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
@pytest.mark.parametrize("kind", ["slices", "multi-frame"])
def test_mutated_files_end_in_a_volume_or_a_named_error(tmp_path: Path, kind: str) -> None:
    """Seeded mutations of 1 to 16 bytes: no other exception, nothing slow."""
    chance = random.Random(11)  # noqa: S311 - a test input
    if kind == "slices":
        paths = list(write_instances(tmp_path, ct_series(slices=3)))
    else:
        dataset = enhanced_mr(abs(ramp((3, 4, 5))), affine((2, 0.5, 0.7)))
        paths = [save(dataset, tmp_path / "mr.dcm")]
    original = paths[0].read_bytes()
    for _ in range(250):
        data = bytearray(original)
        for _ in range(chance.randint(1, 16)):
            data[chance.randrange(132, len(data))] = chance.randrange(256)
        paths[0].write_bytes(bytes(data))
        began = time.monotonic()
        for series in scan(paths).series:
            with contextlib.suppress(DicomIoError):
                read_volume(series, workers=1)
        assert time.monotonic() - began < 2
