"""What a person's page does, without a browser: look, draw, decide."""

from __future__ import annotations

import base64
import gzip
import zlib
from typing import Any

import httpx
import numpy as np
from numpy.typing import NDArray


def shown_of(client: httpx.Client, result_id: int) -> dict[str, Any]:
    """What the page shows now: hashes of the result's file and of the overlay with the draft."""
    result = client.get(f"/v1/results/{result_id}").json()
    figures = next(file["sha256"] for file in result["files"] if file["kind"] == "result")
    draft = client.get(f"/v1/results/{result_id}/draft").json()
    return {
        "result_sha256": figures,
        "overlay_sha256": draft["overlay_sha256"],
        "view": {"plane": "axial", "index": 3, "center": 40, "width": 400},
        "page_version": "test",
    }


def decide(client: httpx.Client, result_id: int, **body: Any) -> httpx.Response:
    body = {"decision": "accept", "shown": shown_of(client, result_id)} | body
    return client.post(f"/v1/results/{result_id}/decision", json=body)


def labels_slice(
    client: httpx.Client, result_id: int, index: int, shape: tuple[int, int]
) -> NDArray[np.uint8]:
    """One axial slice of labels as the screen has it."""
    answer = client.get(f"/v1/views/results/{result_id}/labels/axial/{index}")
    return np.frombuffer(answer.content, np.uint8).reshape(shape).copy()


def draw(client: httpx.Client, result_id: int, slices: dict[int, NDArray[np.uint8]]) -> Any:
    """Keep slices as a draft."""
    packed = {
        str(index): base64.b64encode(zlib.compress(one.tobytes())).decode()
        for index, one in slices.items()
    }
    return client.put(f"/v1/results/{result_id}/draft", json={"slices": packed})


def unzipped(content: bytes) -> bytes:
    return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
