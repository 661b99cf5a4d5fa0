"""A large segmentation and a study of many instances pass through; memory does not grow by them.

The service runs in a process of its own, so that only its memory is counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator

import httpx
import numpy as np
import psutil
import pytest
from pydicom.dataset import Dataset

from inference.domain.study import Channel, Sender
from inference.jobs.intake import Intake
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
from tests.builders.dicomweb import ANY_SYNTAX, binary_segmentation
from tests.builders.instances import ct_dataset, instance_uid, part10, series_uid, study_uid

MIB = 2**20
SERVER = """
import json, sys, threading
from pathlib import Path
from fastapi import FastAPI
from dicom_io.codec_pool import CodecPool
from inference.api.server import HttpServer, listening_socket
from inference.gateways.dicomweb_pixels import DicomwebPixels
from inference.gateways.dicomweb_retrieve import DicomwebRetrieve
from inference.gateways.dicomweb_store import DicomwebStore
from inference.storage.database import Database
from inference.storage.objects import ObjectStore
folder = Path(sys.argv[1])
database = Database.open(folder / "clinfer.sqlite3")
store = DicomwebStore(database, ObjectStore(folder, reserve_bytes=0), CodecPool(1))
app = FastAPI()
for end in (DicomwebRetrieve(store), DicomwebPixels(store)):
    app.include_router(end.router())
bound = listening_socket("127.0.0.1", 0)
server = HttpServer(app, bound, max_connections=16, stop_timeout_s=2)
bound.listen()
server.start()
print(json.dumps(bound.getsockname()), flush=True)
sys.stdin.read()
server.stop(5)
"""
N_FRAMES, SHAPE = 1600, (512, 512)  # 50 MiB of bits
N_SLICES = 40


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[psutil.Process, str]]:
    """The server's process and its DICOMweb root, over one segmentation and one CT series."""
    folder = tmp_path_factory.mktemp("memory")
    database = Database.open(folder / "clinfer.sqlite3")
    intake = Intake(database=database, objects=ObjectStore(folder, reserve_bytes=0))
    sender = Sender(channel=Channel.FOLDER)
    for dataset in large_objects():
        intake.receive([part10(dataset)], sender=sender)
    database.close()
    with subprocess.Popen(
        [sys.executable, "-c", SERVER, str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            host, port = json.loads(process.stdout.readline())
            yield psutil.Process(process.pid), f"http://{host}:{port}/dicom-web"
        finally:
            process.stdin.close()
            process.wait(20)


def large_objects() -> Iterator[Dataset]:
    mask = binary_segmentation(study=1, n_frames=1, shape=(8, 8))
    full = binary_segmentation(study=1, n_frames=N_FRAMES, shape=(1, 8))
    mask.PerFrameFunctionalGroupsSequence = full.PerFrameFunctionalGroupsSequence
    mask.NumberOfFrames, (mask.Rows, mask.Columns) = N_FRAMES, SHAPE
    mask.PixelData = np.arange(N_FRAMES * SHAPE[0] * SHAPE[1] // 8, dtype=np.uint8).tobytes()
    yield mask
    for number in range(1, N_SLICES + 1):
        yield ct_dataset(study=2, slice_number=number, shape=(1024, 512), fill=number)


@pytest.mark.parametrize(
    ("name", "least_mib"),
    [
        ("segmentation as stored", 50),
        ("segmentation, default syntax", 50),
        ("every frame", 50),
        ("its bulk data", 50),
        ("a series", 40),
        ("metadata", 0.1),
    ],
)
def test_what_is_sent_is_never_held(
    server: tuple[psutil.Process, str], name: str, least_mib: float
) -> None:
    process, root = server
    mask = f"{root}/studies/{study_uid(1)}/series/{series_uid(1, 7)}/instances/"
    mask += instance_uid(1, 1, 7)
    address, accept = {
        "segmentation as stored": (mask, ANY_SYNTAX),
        "segmentation, default syntax": (mask, "application/dicom"),
        "every frame": (f"{mask}/frames/" + ",".join(map(str, range(1, N_FRAMES + 1))), "*/*"),
        "its bulk data": (f"{mask}/bulkdata/7FE00010", "application/octet-stream"),
        "a series": (f"{root}/studies/{study_uid(2)}/series/{series_uid(2)}", "*/*"),
        "metadata": (f"{root}/studies/{study_uid(1)}/metadata", "*/*"),
    }[name]
    with httpx.Client(timeout=60) as client:
        client.get(f"{root}/studies/{study_uid(2)}/metadata")  # what is loaded once is loaded
        before = process.memory_info().rss
        peak, n_bytes = before, 0
        with client.stream("GET", address, headers={"Accept": accept}) as answer:
            assert answer.status_code == 200
            for piece in answer.iter_raw(256 * 1024):
                n_bytes += len(piece)
                peak = max(peak, process.memory_info().rss)
    assert n_bytes >= least_mib * MIB * 0.95
    grown_mib = (peak - before) / MIB
    assert grown_mib < 24, f"{grown_mib:.0f} MiB for {n_bytes / MIB:.0f} MiB sent"
