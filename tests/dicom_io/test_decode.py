"""Stored pixels of every transfer syntax, and streams that are broken or contradict the header."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate

from dicom_io import codec_pool, decode
from dicom_io.codec_pool import CodecPool, DecodeFailedError
from dicom_io.codestream import UnreadableCodestreamError, codestream_size
from dicom_io.decode import read_pixels
from dicom_io.errors import (
    CodestreamError,
    PixelLengthError,
    StoredBitsError,
    UnsupportedPixelsError,
    UnsupportedTransferSyntaxError,
)
from dicom_io.read import read_volume
from dicom_io.series import InstanceHeader, read_header
from tests.builders.dicom import (
    TRANSFER_SYNTAXES,
    Storage,
    affine_from,
    as_bytes,
    ct_series,
    enhanced_mr,
    image_series,
    ramp,
    save,
)
from tests.dicom_io.conftest import AsSeries

SHAPE = (3, 37, 41)  # JPEG 2000 wants some size; odd, so that rows and columns cannot be swapped
UNIFORM = affine_from((2.0, 0.5, 0.7))


@pytest.mark.parametrize("transfer_syntax", TRANSFER_SYNTAXES)
@pytest.mark.parametrize(
    "storage",
    [
        Storage(signed=True, bits_stored=16),
        Storage(signed=True, bits_stored=12),
        Storage(signed=False, bits_stored=12, rescale=(1.0, -1024.0)),
        Storage(signed=False, bits_stored=16, rescale=(1.0, -1024.0)),
        Storage(signed=False, bits_stored=8, bits_allocated=8, rescale=(4.0, -1024.0)),
    ],
    ids=["signed-16", "signed-12", "unsigned-12", "unsigned-16", "unsigned-8"],
)
def test_a_series_of_every_syntax_and_sign_gives_its_values(
    as_series: AsSeries, transfer_syntax: str, storage: Storage
) -> None:
    if storage.bits_allocated == 8:
        array = np.arange(np.prod(SHAPE)).reshape(SHAPE) % 256 * 4 - 1024
    else:
        array = ramp(SHAPE)
    instances = image_series(array, UNIFORM, modality="CT", storage=storage)
    volume = read_volume(as_series(instances, transfer_syntax))
    np.testing.assert_array_equal(volume.array, array)


@pytest.mark.parametrize("transfer_syntax", ["rle", "jpeg-ls", "jpeg-2000"])
def test_the_pixels_equal_those_that_pydicom_decodes_by_its_own_decoders(
    tmp_path: Path, transfer_syntax: str
) -> None:
    """RLE by pydicom's own code, JPEG 2000 by Pillow; JPEG-LS has but one library."""
    (dataset,) = ct_series(array=ramp((1, 37, 41)))
    path = save(dataset, tmp_path / "x.dcm", transfer_syntax=transfer_syntax)
    ours = read_pixels(read_header(path))
    np.testing.assert_array_equal(ours[0], pydicom.dcmread(path).pixel_array)


def test_colour_is_read_as_stored_in_both_planar_configurations(tmp_path: Path) -> None:
    (dataset,) = ct_series(slices=1)
    pixels = np.arange(5 * 7 * 3, dtype=np.uint8).reshape(5, 7, 3)
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
    for planar in (0, 1):
        dataset.PlanarConfiguration = planar
        stored = np.moveaxis(pixels, -1, 0) if planar else pixels
        dataset.PixelData = stored.tobytes() + b"\0"
        path = save(dataset, tmp_path / f"{planar}.dcm")
        np.testing.assert_array_equal(read_pixels(read_header(path))[0], pixels)


def compressed(
    tmp_path: Path, frames: list[bytes], n_frames: int = 1, **change: int
) -> InstanceHeader:
    """An instance of 37 x 41 whose pixels are the given JPEG-LS streams."""
    (dataset,) = ct_series(slices=1, rows=37, columns=41)
    if n_frames > 1:
        dataset.NumberOfFrames = n_frames
    for keyword, value in change.items():
        setattr(dataset, keyword, value)
    dataset.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES["jpeg-ls"]
    dataset.PixelData = encapsulate(frames)
    dataset["PixelData"].VR = "OB"
    dataset["PixelData"].is_undefined_length = True
    path = tmp_path / "compressed.dcm"
    path.write_bytes(as_bytes(dataset))
    return read_header(path)


def jpeg_ls(shape: tuple[int, int] = (37, 41), bits: int = 12) -> bytes:
    import jpeg_ls as encoder

    kind = "u1" if bits <= 8 else "<u2"
    data = (np.arange(np.prod(shape)) % 200).astype(kind).tobytes()
    return bytes(encoder.encode_buffer(data, *shape, 1, bits))


def test_a_stream_of_another_size_is_refused(tmp_path: Path) -> None:
    instance = compressed(tmp_path, [jpeg_ls((41, 37))])
    with pytest.raises(CodestreamError, match=r"\(41, 37, 1, 16\) in the stream") as caught:
        read_pixels(instance)
    assert caught.value.frame_number == 1


def test_a_stream_of_another_precision_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CodestreamError, match="8"):
        read_pixels(compressed(tmp_path, [jpeg_ls(bits=8)]))


@pytest.mark.parametrize(
    "stream", [b"\0\0", b"\xff\xd8\xff\xd9", b"GARBAGE!" * 9, b"\xff\x4f\xff\x51"]
)
def test_bytes_that_are_no_stream_are_refused(tmp_path: Path, stream: bytes) -> None:
    with pytest.raises(CodestreamError):
        read_pixels(compressed(tmp_path, [stream + b"\0" * (len(stream) % 2)]))


@pytest.mark.parametrize("transfer_syntax", ["jpeg-ls", "jpeg-2000", "jpeg-lossless"])
def test_a_stream_cut_short_is_refused(tmp_path: Path, transfer_syntax: str) -> None:
    """And at once: CharLS alone takes seconds to miss the end marker."""
    (dataset,) = ct_series(array=ramp((1, 37, 41)))
    path = save(dataset, tmp_path / "x.dcm", transfer_syntax=transfer_syntax)
    whole = pydicom.dcmread(path)
    stream = pydicom.encaps.get_frame(whole.PixelData, 0, number_of_frames=1)
    for length in range(20, len(stream) - 4, len(stream) // 20):
        whole.PixelData = encapsulate([stream[:length]])
        whole.save_as(path)
        with pytest.raises(CodestreamError, match="stream"):
            read_pixels(read_header(path))


def test_frames_in_several_fragments_are_joined_by_the_offset_table(tmp_path: Path) -> None:
    array = np.abs(ramp((3, 37, 41)))
    path = save(enhanced_mr(array, UNIFORM), tmp_path / "x.dcm", transfer_syntax="jpeg-ls")
    plain = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(plain.PixelData, number_of_frames=3))
    plain.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=True)
    plain.save_as(path)
    np.testing.assert_array_equal(read_pixels(read_header(path)), array)
    plain.PixelData = encapsulate(frames, fragments_per_frame=2, has_bot=False)
    plain.save_as(path)
    with pytest.raises(CodestreamError, match="6 fragments for 3 frames"):
        read_pixels(read_header(path))


def test_an_offset_table_that_points_outside_is_refused(tmp_path: Path) -> None:
    array = np.abs(ramp((3, 37, 41)))
    path = save(enhanced_mr(array, UNIFORM), tmp_path / "x.dcm", transfer_syntax="jpeg-ls")
    dataset = pydicom.dcmread(path)
    frames = list(pydicom.encaps.generate_frames(dataset.PixelData, number_of_frames=3))
    data = bytearray(encapsulate(frames, fragments_per_frame=2, has_bot=True))
    data[12:16] = b"\xf0\xff\xff\xff"
    dataset.PixelData = bytes(data)
    dataset.save_as(path)
    with pytest.raises(CodestreamError, match="offset table"):
        read_pixels(read_header(path))


def test_compressed_pixels_that_end_before_their_delimiter_are_refused(tmp_path: Path) -> None:
    instance = compressed(tmp_path, [jpeg_ls()])
    data = instance.path.read_bytes()
    for cut in (1, 8, 9, 40):
        instance.path.write_bytes(data[:-cut])
        with pytest.raises(CodestreamError, match="end before their delimiter"):
            read_pixels(read_header(instance.path))


def test_a_decoded_size_over_the_cap_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decode, "MAX_DECODED_BYTES", 37 * 41 * 2 - 1)
    with pytest.raises(PixelLengthError):
        read_pixels(compressed(tmp_path, [jpeg_ls()]))


def test_a_run_length_bomb_is_refused(tmp_path: Path) -> None:
    """20000 x 20000 from a stream that repeats one byte; refused by size, not by running out."""
    (dataset,) = ct_series(slices=1)
    dataset.Rows = dataset.Columns = 40000
    dataset.file_meta.TransferSyntaxUID = TRANSFER_SYNTAXES["rle"]
    dataset.PixelData = encapsulate([b"\x02\0\0\0" + b"\0" * 60 + b"\x81\0" * 1000])
    dataset["PixelData"].VR, dataset["PixelData"].is_undefined_length = "OB", True
    path = tmp_path / "x.dcm"
    path.write_bytes(as_bytes(dataset))
    with pytest.raises(PixelLengthError):
        read_pixels(read_header(path))


def test_a_broken_run_length_stream_is_refused(tmp_path: Path) -> None:
    (dataset,) = ct_series(slices=1)
    path = save(dataset, tmp_path / "x.dcm", transfer_syntax="rle")
    data = pydicom.dcmread(path)
    stream = pydicom.encaps.get_frame(data.PixelData, 0, number_of_frames=1)
    for broken in (stream[:70], b"\x09" + stream[1:], stream[:64]):
        data.PixelData = encapsulate([broken])
        data.save_as(path)
        with pytest.raises(CodestreamError):
            read_pixels(read_header(path))


def test_an_unknown_transfer_syntax_is_named(tmp_path: Path) -> None:
    (dataset,) = ct_series(slices=1)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.113619.5.2"
    path = tmp_path / "x.dcm"
    pydicom.dcmwrite(path, dataset, implicit_vr=False, little_endian=True)
    with pytest.raises(UnsupportedTransferSyntaxError) as caught:
        read_pixels(read_header(path))
    assert caught.value.transfer_syntax_uid == "1.2.840.113619.5.2"


def test_float_pixels_are_named(tmp_path: Path) -> None:
    (dataset,) = ct_series(slices=1)
    del dataset.PixelData
    dataset.FloatPixelData = np.ones(35, "<f4").tobytes()
    with pytest.raises(UnsupportedPixelsError) as caught:
        read_pixels(read_header(save_plain(dataset, tmp_path)))
    assert caught.value.keyword == "FloatPixelData"


def save_plain(dataset: pydicom.Dataset, folder: Path) -> Path:
    path = folder / "plain.dcm"
    dataset.save_as(path, enforce_file_format=True)
    return path


def test_values_outside_bits_stored_are_refused_and_never_masked(as_series: AsSeries) -> None:
    """A padding of 63536 in a "12-bit" image would become bone if its high bits were dropped."""
    instances = ct_series(slices=3)
    stored = np.frombuffer(instances[1].PixelData, "<u2").copy()
    stored[3] = 63536
    instances[1].PixelData = stored.tobytes()
    with pytest.raises(StoredBitsError) as caught:
        read_volume(as_series(instances))
    assert (caught.value.bits_stored, caught.value.maximum) == (12, 63536)
    assert caught.value.instance_uid == instances[1].SOPInstanceUID


def test_an_overlay_in_unused_bits_is_dropped(as_series: AsSeries) -> None:
    array = ramp((3, 5, 7))
    instances = ct_series(array=array)
    for dataset in instances:
        dataset.add_new(0x60000100, "US", 16)
        dataset.add_new(0x60000102, "US", 12)
        dataset.PixelData = (np.frombuffer(dataset.PixelData, "<u2") | 0x1000).tobytes()
    np.testing.assert_array_equal(read_volume(as_series(instances)).array, array)


def test_the_size_in_a_stream_is_read_past_other_markers() -> None:
    head = (
        b"\xff\xd8\xff\xe0\x00\x04ab\xff\xff\xc3\x00\x0b\x0c" + b"\x00\x25\x00\x29\x01" + b"\0" * 9
    )
    size = codestream_size(head + b"\xff\xd9")
    assert (size.rows, size.columns, size.components, size.precision) == (37, 41, 1, 12)
    with pytest.raises(UnreadableCodestreamError):
        codestream_size(b"\xff\xd8\x00\x00" + b"\0" * 20 + b"\xff\xd9")


def test_a_decoder_that_crashes_costs_one_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = tmp_path / "crash.py"
    worker.write_text("import os, sys; sys.stdin.buffer.read(9); os.abort()")
    good = codec_pool._WORKER
    with CodecPool(1) as pool:
        monkeypatch.setattr(codec_pool, "_WORKER", worker)
        with pytest.raises(DecodeFailedError, match="stopped"):
            pool.decode(b"jls_", jpeg_ls(), 37 * 41 * 2)
        monkeypatch.setattr(codec_pool, "_WORKER", good)
        assert len(pool.decode(b"jls_", jpeg_ls(), 37 * 41 * 2)) == 37 * 41 * 2


def test_a_decoder_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = tmp_path / "hang.py"
    worker.write_text("import time; time.sleep(60)")
    monkeypatch.setattr(codec_pool, "_WORKER", worker)
    monkeypatch.setattr(codec_pool, "FRAME_TIMEOUT_S", 0.2)
    with CodecPool(1) as pool, pytest.raises(DecodeFailedError, match=r"more than 0\.2 s"):
        pool.decode(b"jls_", b"stream", 1)


def test_no_decoder_process_outlives_its_pool() -> None:
    with CodecPool(2) as pool:
        pool.decode(b"jls_", jpeg_ls(), 37 * 41 * 2)
        (worker,) = pool._all
        assert worker._process.poll() is None
    assert worker._process.poll() is not None


def test_the_decoder_process_imports_nothing_of_ours() -> None:
    source = Path(codec_pool._WORKER).read_text("utf-8")
    assert "dicom_io" not in source.split('"""', 2)[2]
    assert Path(sys.executable).exists()
