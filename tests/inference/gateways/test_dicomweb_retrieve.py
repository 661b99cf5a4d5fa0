"""WADO-RS over real HTTP: files, metadata, frames, bulk data and pictures."""

from __future__ import annotations

import io
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from dicomweb_client import DICOMwebClient
from PIL import Image
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from inference.bootstrap import Service
from tests.builders.dicomweb import (
    ANY_SYNTAX,
    binary_segmentation,
    parametric_map,
    parts_of,
    rgb_capture,
    segmentation_bits,
)
from tests.builders.instances import ct_dataset, instance_uid, part10, series_uid, study_uid
from tests.builders.service import running_service

RELATED = 'multipart/related; type="application/dicom"; boundary=XX'
OCTETS = 'multipart/related; type="application/octet-stream"'
PLAIN_DICOM = ("application/dicom", ExplicitVRLittleEndian)
MAP = np.linspace(-3.5, 9.25, 3 * 5 * 7, dtype=np.float32).reshape(3, 5, 7)
COLORS = np.random.default_rng(6).integers(0, 256, (5, 7, 3))
SYNTAXES = {
    11: ExplicitVRLittleEndian,
    12: ImplicitVRLittleEndian,
    13: ExplicitVRBigEndian,
    14: DeflatedExplicitVRLittleEndian,
    15: JPEGLSLossless,
    16: RLELossless,
    17: JPEG2000Lossless,
}
"""Study number to the syntax that its one CT slice is stored in."""


def stored_as(study: int, syntax: str) -> bytes:
    dataset = ct_dataset(study=study)
    if syntax == JPEG2000Lossless:
        pixels = np.frombuffer(dataset.PixelData, "<u2").reshape(5, 7)
        as_jpeg_2000(dataset, Image.fromarray(pixels))
    elif syntax in (JPEGLSLossless, RLELossless):
        dataset.compress(syntax, generate_instance_uid=False)
    elif syntax == ExplicitVRBigEndian:
        words = np.frombuffer(dataset.PixelData, "<u2").astype(">u2")
        dataset.PixelData = words.tobytes()
    dataset.file_meta.TransferSyntaxUID = syntax
    return part10(dataset)


def as_jpeg_2000(dataset: Dataset, picture: Image.Image) -> None:
    out = io.BytesIO()
    picture.save(out, "JPEG2000", irreversible=False, no_jp2=True, num_resolutions=1)
    dataset.PixelData = encapsulate([out.getvalue()])
    dataset["PixelData"].is_undefined_length = True
    dataset["PixelData"].VR = "OB"
    dataset.file_meta.TransferSyntaxUID = JPEG2000Lossless


def objects() -> list[bytes]:
    files = [stored_as(study, syntax) for study, syntax in SYNTAXES.items()]
    files += [part10(ct_dataset(study=20, slice_number=n)) for n in (1, 2, 3)]
    files.append(part10(binary_segmentation(study=20, n_frames=5, shape=(3, 7))))
    files.append(part10(parametric_map(study=20, values=MAP)))
    files.append(part10(rgb_capture(study=20, pixels=COLORS)))
    color = rgb_capture(study=21, pixels=COLORS)
    as_jpeg_2000(color, Image.fromarray(COLORS.astype(np.uint8)))
    color.PhotometricInterpretation = "YBR_RCT"
    files.append(part10(color))
    rle_color = rgb_capture(study=22, pixels=COLORS)
    rle_color.compress(RLELossless, generate_instance_uid=False)
    files.append(part10(rle_color))
    return files


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with running_service(tmp_path_factory.mktemp("wado")) as running:
        body = b"".join(
            b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + one + b"\r\n" for one in objects()
        )
        answer = httpx.post(
            f"{running.http_url}/dicom-web/studies",
            content=body + b"--XX--\r\n",
            headers={"Content-Type": RELATED},
            timeout=30,
        )
        assert answer.status_code == 200, answer.text
        yield running


@pytest.fixture
def http(service: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"{service.http_url}/dicom-web", timeout=30) as client:
        yield client


@pytest.fixture
def web(service: Service) -> DICOMwebClient:
    return DICOMwebClient(url=f"{service.http_url}/dicom-web")


def uids(study: int, series: int = 1) -> tuple[str, str, str]:
    return study_uid(study), series_uid(study, series), instance_uid(study, 1, series)


def path(study: int, series: int = 1) -> str:
    one, two, three = uids(study, series)
    return f"/studies/{one}/series/{two}/instances/{three}"


def plain_pixels(study: int) -> bytes:
    return bytes(ct_dataset(study=study).PixelData)


@pytest.mark.parametrize(("study", "syntax"), SYNTAXES.items())
def test_any_syntax_keeps_the_very_bytes(http: httpx.Client, study: int, syntax: str) -> None:
    answer = http.get(path(study), headers={"Accept": ANY_SYNTAX})
    assert answer.headers["content-type"].startswith('multipart/related; type="application/dicom"')
    (part,) = parts_of(answer)
    assert part.headers["content-type"] == f"application/dicom; transfer-syntax={syntax}"
    assert part.content == stored_as(study, syntax)


@pytest.mark.parametrize("study", SYNTAXES)
def test_the_default_is_explicit_little_endian_with_the_same_content(
    web: DICOMwebClient, http: httpx.Client, study: int
) -> None:
    (part,) = parts_of(http.get(path(study)))
    found = web.retrieve_instance(*uids(study), media_types=(PLAIN_DICOM,))
    assert part.dataset == found
    assert found.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert found.PixelData == plain_pixels(study)
    expected = ct_dataset(study=study)
    for element in expected:
        assert found[element.tag].value == element.value, element.keyword


@pytest.mark.parametrize("study", SYNTAXES)
def test_frames_are_plain_unless_any_syntax_is_asked(http: httpx.Client, study: int) -> None:
    (plain,) = parts_of(http.get(f"{path(study)}/frames/1", headers={"Accept": OCTETS}))
    assert plain.content == plain_pixels(study)
    assert plain.headers["content-type"] == (
        f"application/octet-stream; transfer-syntax={ExplicitVRLittleEndian}"
    )
    (kept,) = parts_of(
        http.get(f"{path(study)}/frames/1", headers={"Accept": f"{OCTETS}; transfer-syntax=*"})
    )
    if SYNTAXES[study].is_encapsulated:
        assert kept.headers["content-type"].endswith(f"transfer-syntax={SYNTAXES[study]}")
        assert kept.content != plain.content
    else:
        assert kept.content == plain.content


def test_a_stored_stream_is_given_under_its_own_type_and_no_other(http: httpx.Client) -> None:
    for study, media_type, other in (
        (15, "image/jls", "image/jp2"),
        (17, "image/jp2", "image/jpeg"),
        (16, "image/dicom-rle", "image/jls"),
    ):
        address = f"{path(study)}/frames/1"
        answer = http.get(address, headers={"Accept": f'multipart/related; type="{media_type}"'})
        (part,) = parts_of(answer)
        assert part.headers["content-type"] == f"{media_type}; transfer-syntax={SYNTAXES[study]}"
        refused = http.get(address, headers={"Accept": f'multipart/related; type="{other}"'})
        assert (refused.status_code, refused.json()["code"]) == (406, "not_acceptable")
    assert http.get(f"{path(11)}/frames/1", headers={"Accept": "image/jpeg"}).status_code == 406


def test_the_standard_client_gets_frames_in_its_own_default_way(web: DICOMwebClient) -> None:
    frames = web.retrieve_instance_frames(*uids(20, 7), frame_numbers=[2, 5])
    bits = segmentation_bits(study=20, n_frames=5, shape=(3, 7))
    for frame, number in zip(frames, (2, 5), strict=True):
        assert len(frame) == 3  # 21 bits begin at a byte of their own
        found = np.unpackbits(np.frombuffer(frame, np.uint8), bitorder="little")[:21]
        assert (found.reshape(3, 7) == bits[number - 1]).all()


def test_float_frames_of_a_parametric_map(web: DICOMwebClient) -> None:
    (frame,) = web.retrieve_instance_frames(*uids(20, 8), frame_numbers=[3])
    assert (np.frombuffer(frame, "<f4").reshape(5, 7) == MAP[2]).all()


@pytest.mark.parametrize(
    ("suffix", "status"),
    [
        ("/frames/6", 404),
        ("/frames/0", 400),
        ("/frames/1,2,x", 404),
        ("/frames/1,99", 404),
        ("/bulkdata/00100010.0.00100020", 404),
        ("/bulkdata/zz", 404),
        ("/bulkdata/00720000", 404),
        ("/frames/1?quality=5", 400),
    ],
)
def test_what_is_not_there_is_said(http: httpx.Client, suffix: str, status: int) -> None:
    answer = http.get(path(20, 7) + suffix)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"


def test_bulk_data_leads_back_to_where_the_request_came(
    service: Service, web: DICOMwebClient, http: httpx.Client
) -> None:
    metadata = web.retrieve_instance_metadata(*uids(20, 8))
    uri = metadata["7FE00008"]["BulkDataURI"]
    assert uri == f"{service.http_url}/dicom-web{path(20, 8)}/bulkdata/7FE00008"
    assert web.retrieve_bulkdata(uri)[0] == MAP.tobytes()
    port = service.http_url.rpartition(":")[2]
    other = http.get(f"{path(20, 8)}/metadata", headers={"Host": f"localhost:{port}"})
    assert other.json()[0]["7FE00008"]["BulkDataURI"].startswith(f"http://localhost:{port}/")
    single = http.get(
        f"{path(15)}/bulkdata/7FE00010", headers={"Accept": "application/octet-stream"}
    )
    assert single.content == plain_pixels(15)


@pytest.mark.parametrize("study", SYNTAXES)
def test_metadata_says_everything_but_pixels(web: DICOMwebClient, study: int) -> None:
    metadata = web.retrieve_instance_metadata(*uids(study))
    expected = ct_dataset(study=study)
    del expected.PixelData
    theirs = expected.to_json_dict()
    ours = {tag: value for tag, value in metadata.items() if tag != "7FE00010"}
    assert ours.keys() == theirs.keys()
    again = Dataset.from_json(ours)
    for element in expected:
        assert again[element.tag].value == element.value, element.keyword


def test_a_whole_study_in_its_three_forms(web: DICOMwebClient, http: httpx.Client) -> None:
    files = web.retrieve_study(study_uid(20))
    assert len(files) == 6
    assert len(web.retrieve_study_metadata(study_uid(20))) == 6
    assert len(list(web.iter_series(study_uid(20), series_uid(20)))) == 3
    one = http.get(path(20), headers={"Accept": "application/dicom"})
    assert one.headers["content-type"] == (
        f"application/dicom; transfer-syntax={ExplicitVRLittleEndian}"
    )
    assert dcmread(io.BytesIO(one.content)).SOPInstanceUID == instance_uid(20, 1)
    several = http.get(f"/studies/{study_uid(20)}", headers={"Accept": "application/dicom"})
    assert several.status_code == 406


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        ("image/jp2;q=2, */*;transfer-syntax=evil", 400),
        ("*/*;transfer-syntax=evil", 406),
        (
            'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.80',
            406,
        ),
        ('multipart/related; type="application/dicom+xml"', 406),
        ('multipart/related; type="application/dicom', 400),
        ("no media type", 400),
        ("application/zip", 406),
        ("*/*", 200),
        ("application/dicom;q=0.1, multipart/related;type=application/dicom;q=0.5", 200),
        ('multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1', 200),
    ],
)
def test_what_is_accepted_decides(http: httpx.Client, accept: str, status: int) -> None:
    answer = http.get(path(12), headers={"Accept": accept})
    assert answer.status_code == status
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"


def test_colour_that_is_not_decoded_is_refused_with_the_way_to_get_it(http: httpx.Client) -> None:
    refused = http.get(path(21, 6))
    assert refused.status_code == 406
    assert "transfer-syntax=*" in refused.json()["detail"]
    assert http.get(path(21, 6), headers={"Accept": ANY_SYNTAX}).status_code == 200
    assert http.get(f"{path(21, 6)}/rendered").status_code == 406


def test_colour_in_rle_is_made_plain_and_drawn(web: DICOMwebClient) -> None:
    found = web.retrieve_instance(*uids(22, 6), media_types=(PLAIN_DICOM,))
    assert (found.pixel_array == COLORS).all()
    drawn = web.retrieve_instance_rendered(*uids(22, 6), media_types=("image/png",))
    assert (np.asarray(Image.open(io.BytesIO(drawn))) == COLORS).all()


def test_a_picture_follows_window_and_viewport(http: httpx.Client) -> None:
    pixels = np.frombuffer(plain_pixels(20), "<u2").reshape(5, 7) - 1024.0
    drawn = http.get(
        f"{path(20)}/rendered",
        params={"window": "1000,2000,linear"},
        headers={"Accept": "image/png"},
    )
    grey = np.asarray(Image.open(io.BytesIO(drawn.content)))
    expected = np.clip((pixels - 999.5) / 1999 + 0.5, 0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(grey - expected).max() <= 0.5
    part = http.get(
        f"{path(20)}/frames/1/rendered",
        params={"viewport": "6,6,1,2,-3,3", "window": "1000,2000,linear"},
        headers={"Accept": "image/png"},
    )
    turned = np.asarray(Image.open(io.BytesIO(part.content)).resize((3, 3), Image.Resampling.BOX))
    assert turned.shape == (3, 3)
    assert Image.open(io.BytesIO(part.content)).size == (6, 6)
    assert (turned[0, 0] > turned[0, 2]) == (grey[2, 3] > grey[2, 1])


def test_pictures_of_masks_maps_and_middles(http: httpx.Client) -> None:
    bits = segmentation_bits(study=20, n_frames=5, shape=(3, 7))
    mask = http.get(f"{path(20, 7)}/frames/4/rendered", headers={"Accept": "image/png"})
    assert (np.asarray(Image.open(io.BytesIO(mask.content)).convert("L")) == bits[3] * 255).all()
    for address in (
        f"{path(20, 8)}/rendered",
        f"/studies/{study_uid(20)}/series/{series_uid(20)}/rendered",
    ):
        answer = http.get(address)
        assert answer.headers["content-type"] == "image/jpeg"
        assert Image.open(io.BytesIO(answer.content)).size == (7, 5)


@pytest.mark.parametrize("level", ["study", "series", "instance", "frame"])
def test_thumbnails_at_every_level(http: httpx.Client, level: str) -> None:
    series = f"/studies/{study_uid(20)}/series/{series_uid(20)}"
    address = {
        "study": f"/studies/{study_uid(20)}",
        "series": series,
        "instance": path(20),
        "frame": f"{path(20)}/frames/1",
    }[level]
    answer = http.get(f"{address}/thumbnail")
    assert answer.headers["content-type"] == "image/jpeg"
    assert max(Image.open(io.BytesIO(answer.content)).size) == 128


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("window=40", "window"),
        ("window=40,0", "window"),
        ("window=nan,1", "window"),
        ("window=40,400,cubic", "window"),
        ("viewport=0,5", "viewport"),
        ("viewport=99999,5", "viewport"),
        ("viewport=5,5,0,0,99,1", "viewport"),
        ("quality=0", "quality"),
        ("quality=80&quality=81", "quality"),
        ("colour=red", "colour"),
    ],
)
def test_a_picture_that_cannot_be_drawn_so_is_refused(
    http: httpx.Client, query: str, field: str
) -> None:
    answer = http.get(f"{path(20)}/rendered?{query}")
    assert answer.status_code == 400
    assert answer.json()["detail"].startswith(f"{field}: ")


def test_a_lost_file_is_told_before_anything_is_sent(tmp_path) -> None:
    with running_service(tmp_path) as service:
        body = b"--XX\r\nContent-Type: application/dicom\r\n\r\n" + part10(ct_dataset(study=1))
        httpx.post(
            f"{service.http_url}/dicom-web/studies",
            content=body + b"\r\n--XX--\r\n",
            headers={"Content-Type": RELATED},
        ).raise_for_status()
        for stored in (tmp_path / "data" / "objects").glob("*/*"):
            stored.unlink()
        answer = httpx.get(f"{service.http_url}/dicom-web{path(1)}")
    assert (answer.status_code, answer.json()["code"]) == (500, "object_damaged")
