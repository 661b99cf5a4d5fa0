"""A real Orthanc with DICOMweb on free ports of 127.0.0.1, in an empty folder, thrown away after.

`AISVC` may store, echo and query; any other calling AE title is refused.
"""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.parser import BytesParser
from pathlib import Path

import httpx

DICOMWEB_PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
CALLING_AET = "AISVC"


def find_orthanc() -> str | None:
    """The program, or None where it or its DICOMweb plug-in is not installed."""
    program = shutil.which("Orthanc") or shutil.which("Orthanc", path="/usr/sbin:/usr/local/sbin")
    return program if program and DICOMWEB_PLUGIN.exists() else None


@dataclass(frozen=True, kw_only=True)
class Orthanc:
    """A running server."""

    http_port: int
    dicom_port: int
    aet: str = "TESTPACS"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    def instances(self) -> list[dict[str, str]]:
        """Study, series and instance UID of everything stored."""
        found: list[str] = httpx.get(f"{self.url}/instances", trust_env=False).json()
        tags = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
        rows = []
        for one in found:
            answer = httpx.get(f"{self.url}/instances/{one}/simplified-tags", trust_env=False)
            rows.append({tag: answer.json()[tag] for tag in tags})
        return rows

    def retrieve(self, study_uid: str, series_uid: str, instance_uid: str) -> bytes:
        """The instance's file over WADO-RS, in the transfer syntax it was stored with."""
        answer = httpx.get(
            f"{self.dicomweb_url}/studies/{study_uid}/series/{series_uid}/instances/{instance_uid}",
            headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'},
            trust_env=False,
        )
        answer.raise_for_status()
        head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = BytesParser().parsebytes(head + answer.content).get_payload()
        payload = part.get_payload(decode=True)
        assert isinstance(payload, bytes)
        return payload


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Start it, wait until it answers, and stop it at the end."""
    program = find_orthanc()
    assert program is not None, "find_orthanc was asked before"
    server = Orthanc(http_port=_free_port(), dicom_port=_free_port())
    config = folder / "orthanc.json"
    config.write_text(json.dumps(_config(server, folder)))
    log = (folder / "orthanc.log").open("wb")
    with log, subprocess.Popen([program, str(config)], stdout=log, stderr=log) as process:
        try:
            _wait_until_ready(server, process)
            yield server
        finally:
            process.terminate()
            process.wait(20)


def _config(server: Orthanc, folder: Path) -> dict[str, object]:
    us = {
        "AET": CALLING_AET, "Host": "127.0.0.1", "Port": 1, "AllowEcho": True, "AllowFind": True,
        "AllowMove": True, "AllowGet": True, "AllowStore": True,
    }  # fmt: skip
    return {
        "Name": server.aet,
        "StorageDirectory": str(folder),
        "IndexDirectory": str(folder),
        "Plugins": [str(DICOMWEB_PLUGIN)],
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "HttpPort": server.http_port,
        "HttpThreadsCount": 8,
        "DefaultEncoding": "Utf8",
        "DicomPort": server.dicom_port,
        "DicomAet": server.aet,
        "DicomCheckCalledAet": True,
        "DicomCheckModalityHost": True,
        "DicomAlwaysAllowEcho": False,
        "DicomAlwaysAllowStore": False,
        "UnknownSopClassAccepted": True,
        "StableAge": 2,
        "OverwriteInstances": False,
        "DicomModalities": {"aisvc": us},
        "DicomWeb": {
            "Enable": True, "Root": "/dicom-web/", "EnableWado": True, "WadoRoot": "/wado",
            "Host": f"127.0.0.1:{server.http_port}", "Ssl": False, "StudiesMetadata": "Full",
            "SeriesMetadata": "Full",
        },
    }  # fmt: skip


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
        return port


def _wait_until_ready(server: Orthanc, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"{server.url}/system", trust_env=False).raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError("Orthanc did not start; see orthanc.log beside its configuration")
