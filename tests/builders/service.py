"""A running service around a fake engine, and a model folder that names its labels."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from inference.api.health import Check
from inference.backends.fake import FakePredictor
from inference.bootstrap import Service
from inference.pipeline.spec import SPEC_FILE, parse_spec, write_spec
from inference.settings import Settings, load_settings

SCT = {"scheme": "SCT"}
LEFT_COLOR = (255, 200, 0)
RIGHT_COLOR = (0, 160, 255)


class FakeEngine(FakePredictor):
    """Labels by threshold; what `Engine` asks for besides is always well."""

    is_ready = True

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def checks(self) -> tuple[Check, ...]:
        return (
            Check(name="triton", is_ready=self.is_ready),
            Check(name="model ct_two_boxes", is_ready=self.is_ready),
        )


def two_boxes_table() -> dict[str, Any]:
    """A `model.toml` whose two labels are told apart by attenuation."""
    category = {"value": "123037004", "meaning": "Anatomical Structure", **SCT}
    tissue = {"value": "85756007", "meaning": "Tissue", **SCT}
    return {
        "name": "ct_two_boxes",
        "version": "1.2.0",
        "title": "Two boxes on CT",
        "status": "research",
        "intended_use": "Shows where two boxes lie in a built phantom.",
        "limitations": ["Knows nothing but boxes."],
        "scope": {
            "modalities": ["CT"],
            "min_slices": 3,
            "slice_spacing_mm": [0.5, 10.0],
            "in_plane_spacing_mm": [0.2, 5.0],
            "min_extent_mm": [5.0, 5.0, 5.0],
        },
        "preprocessing": {
            "spacing_mm": [2.0, 1.5, 1.5],
            "intensity": {"kind": "clip_scale", "lower": -200.0, "upper": 200.0},
        },
        "window": {"roi_size": [16, 16, 16], "overlap": 0.5},
        "network": {"class": "unet", "args": {"channels": [4, 8], "strides": [2]}},
        "weights": {"sha256": "0" * 64},
        "labels": [
            {
                "value": 1,
                "name": "Left box",
                "category": category,
                "type": tissue,
                "color_rgb": list(LEFT_COLOR),
            },
            {
                "value": 2,
                "name": "Right box",
                "category": category,
                "type": tissue,
                "color_rgb": list(RIGHT_COLOR),
            },
        ],
        "training": {"data": "Built boxes", "cases": [], "unseen_cases": []},
        "metrics": {
            "seed": {"dice": 0.5},
            "unseen": {
                "n_cases": 36,
                "mean": {
                    "labels": {
                        "Left box": {"dice": 0.991, "dice_lowest": 0.93, "hd95_mm": 1.44},
                        "Right box": {"dice": 0.987, "dice_lowest": 0.91, "hd95_mm": 2.06},
                    }
                },
            },
        },
    }


def write_two_boxes_model(repo: Path) -> Path:
    """Write the model folder; it has no weights, because the engine is a fake one."""
    folder = repo / "ct_two_boxes"
    folder.mkdir(parents=True)
    (folder / SPEC_FILE).write_text(write_spec(parse_spec(two_boxes_table())))
    return repo


def service_settings(folder: Path, **options: Any) -> Settings:
    """Settings on free ports, with a short quiet period."""
    return load_settings(
        {
            "data_dir": folder / "data",
            "model_repo": folder / "model_repo",
            "http_port": 0,
            "dicom_port": 0,
            "quiet_period_s": 0.3,
            "min_free_disk_mib": 16,
            "stop_timeout_s": 10,
        }
        | options
    )


@contextmanager
def running_service(
    folder: Path, engine: FakeEngine | None = None, **options: Any
) -> Iterator[Service]:
    """The whole service but for the network; two boxes are told apart at 200 and 500 HU."""
    if not (folder / "model_repo").is_dir():
        write_two_boxes_model(folder / "model_repo")
    service = Service(
        service_settings(folder, **options), engine=engine or FakeEngine((200.0, 500.0))
    )
    service.start()
    try:
        yield service
    finally:
        service.stop()


def send_zip(service: Service, content: bytes, **query: Any) -> dict[str, Any]:
    """Upload a zip; returns the answer's body."""
    answer = httpx.post(
        f"{service.http_url}/v1/studies",
        content=content,
        headers={"Content-Type": "application/zip"},
        params=query,
        timeout=60,
    )
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def finished_study(
    service: Service, study_uid: str, *, timeout_s: float = 60, key: str = ""
) -> dict[str, Any]:
    """Wait until the study is analysed; returns it."""
    headers = {"X-API-Key": key} if key else {}
    ends_s = time.monotonic() + timeout_s
    while time.monotonic() < ends_s:
        answer = httpx.get(
            f"{service.http_url}/v1/studies/{study_uid}", headers=headers, timeout=60
        )
        body: dict[str, Any] = answer.json()
        if answer.status_code == 200 and not body["is_pending"]:
            return body
        time.sleep(0.05)
    raise AssertionError(f"study {study_uid} is not finished: {body}")
