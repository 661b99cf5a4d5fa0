"""The service, with a profile for its PACS: every kind of object arrives in a real Orthanc."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest
from pydicom import dcmread

from tests.builders.orthanc import Orthanc, find_orthanc, running_orthanc
from tests.builders.service import finished_study, running_service, send_zip
from tests.builders.two_boxes import two_boxes_study
from tests.builders.validators import dcentvfy, dciodvfy, dcmpschk, pixelmed_sr

CLASSES = {
    "1.2.840.10008.5.1.4.1.1.66.4": "seg",
    "1.2.840.10008.5.1.4.1.1.88.34": "sr",
    "1.2.840.10008.5.1.4.1.1.11.1": "gsps",
    "1.2.840.10008.5.1.4.1.1.7": "sc",
    "1.2.840.10008.5.1.4.1.1.481.3": "rtstruct",
    "1.2.840.10008.5.1.4.1.1.104.1": "pdf",
    "1.2.840.10008.5.1.4.1.1.88.59": "ko",
}


@pytest.mark.slow
def test_every_kind_of_a_profile_arrives_valid_and_agrees_with_its_source(tmp_path: Path) -> None:
    if find_orthanc() is None:
        pytest.fail("Orthanc is missing: install the Debian packages orthanc orthanc-dicomweb")
    (tmp_path / "orthanc").mkdir()
    profile = tmp_path / "pacs.toml"
    profile.write_text(
        'encodings = ["seg", "sr", "gsps", "sc", "rtstruct", "pdf", "ko"]\n'
        'language = "zh"\nresearch = true\n'
    )
    study = two_boxes_study()
    with running_orthanc(tmp_path / "orthanc") as pacs:
        destination = {
            "name": "pacs",
            "kind": "stow",
            "url": pacs.dicomweb_url,
            "profile": profile,
        }
        with running_service(tmp_path, destinations=[destination]) as service:
            send_zip(service, study.zipped())
            assert finished_study(service, study.study_uid)["outcome"] == "finding"
            rows = arrived(pacs, at_least=len(CLASSES) + 2)
        paths = []
        for number, row in enumerate(rows):
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(
                pacs.retrieve(
                    row["StudyInstanceUID"], row["SeriesInstanceUID"], row["SOPInstanceUID"]
                )
            )
            paths.append(path)
    kinds = [CLASSES[dcmread(path).SOPClassUID] for path in paths]
    assert set(kinds) == set(CLASSES.values())
    assert kinds.count("sc") >= 2
    for kind, path in zip(kinds, paths, strict=True):
        assert (kind, dciodvfy(path)) == (kind, [])
        if kind == "sr":
            assert pixelmed_sr(path) == []
        if kind == "gsps":
            assert "仅供研究使用" in str(dcmread(path).GraphicAnnotationSequence)
            assert dcmpschk(in_ascii(path, tmp_path / "ascii.dcm")) == []
    sources = [tmp_path / f"source-{n}.dcm" for n in range(len(study.instances))]
    for path, content in zip(sources, study.files(), strict=True):
        path.write_bytes(content)
        assert dcmread(io.BytesIO(content)).StudyInstanceUID == study.study_uid
    assert dcentvfy([*paths, *sources]) == []


def in_ascii(path: Path, copy: Path) -> Path:
    """The same object with plain words: dcmpschk takes any other letter for an error."""
    state = dcmread(path)
    state.PatientName = "Plain"
    for annotation in state.GraphicAnnotationSequence:
        for text in annotation.get("TextObjectSequence") or []:
            text.UnformattedTextValue = "plain"
    state.save_as(copy)
    return copy


def arrived(pacs: Orthanc, *, at_least: int, timeout_s: float = 120) -> list[dict[str, str]]:
    """Wait until so many instances are there and no more come."""
    ends_s, before = time.monotonic() + timeout_s, -1
    while time.monotonic() < ends_s:
        rows = pacs.instances()
        if len(rows) >= at_least and len(rows) == before:
            return rows
        before = len(rows)
        time.sleep(2)
    raise AssertionError(f"only {before} instances arrived")
