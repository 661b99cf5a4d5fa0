"""How long until a reader sees the overlay of 104 segments, and how smoothly they scroll.

Builds a CT of 300 slices whose made model labels 104 boxes, runs the service without a network,
opens the study page in headless Chromium and reads the page's own marks. The overlay is checked to
show a box's colour where the box is before anything counts. The service has not held the study in
memory when the page is opened first (cold); the second opening finds it there (warm).
"""

from __future__ import annotations

import argparse
import io
import json
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from benchmarks.timing import commit, machine
from dicom_io.volume import Volume
from inference.backends.fake import FakePredictor
from inference.bootstrap import Service
from inference.domain.ports import Prediction
from inference.pipeline.spec import SPEC_FILE, parse_spec, write_spec
from tests.builders.large_ct import write_large_ct
from tests.builders.service import FakeEngine, finished_study, running_service, two_boxes_table

N_SEGMENTS = 104
N_SLICES_SHOWN = 30
"""The slice whose colours are checked: boxes are there at every size that is built."""
DRAWINGS = {
    "without WebGL": ("--disable-gpu", "--disable-webgl", "--disable-webgl2"),
    "with WebGL": ("--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"),
}
COMMON = ["--no-sandbox", "--disable-dev-shm-usage", "--no-first-run"]
OPENED_JS = """() => Object.fromEntries(
  ['page-script', 'first-overlay', 'all-labels'].map(
    (name) => [name, performance.getEntriesByName(name)[0]?.startTime ?? null]))"""
SCROLL_JS = """async (n) => {
  const stage = document.getElementById('stage');
  const slider = document.getElementById('slice');
  const drawn = () => Number(stage.dataset.drawn || 0);
  const frames = [];
  for (let k = 0; k < n; k++) {
    const before = stage.dataset.shown, began = performance.now();
    stage.dispatchEvent(new KeyboardEvent('keydown', { key: 'ArrowDown', bubbles: true }));
    while (stage.dataset.shown === before && performance.now() - began < 3000) {
      await new Promise((done) => requestAnimationFrame(done));
    }
    frames.push(performance.now() - began);
  }
  return frames;
}"""


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is built and how much of it is scrolled."""

    slices: int = 300
    size: int = 512
    n_scrolled: int = 120
    n_segments: int = N_SEGMENTS


class ManyBoxes(FakeEngine):
    """Labels boxes, each of its own place, whatever the volume shows."""

    def __init__(self, n_segments: int) -> None:
        super().__init__(())
        self._n_segments = n_segments

    def predict(self, model: str, volume: Volume, **options: Any) -> Prediction:
        """Return the boxes."""
        made = FakePredictor.predict(self, model, volume, **options)
        return Prediction(labels=boxes(volume.array.shape, self._n_segments), report=made.report)


def boxes(shape: tuple[int, ...], n_segments: int = N_SEGMENTS) -> NDArray[np.uint8]:
    """Return boxes in a 4 x 4 x 7 lattice: label 1 is the lowest, foremost, right-most."""
    labels = np.zeros(shape, np.uint8)
    steps = [size // count for size, count in zip(shape, (7, 4, 4), strict=True)]
    for number in range(n_segments):
        place = np.unravel_index(number, (7, 4, 4))
        box = tuple(
            slice(int(at) * step + step // 8, int(at) * step + step - step // 8)
            for at, step in zip(place, steps, strict=True)
        )
        labels[box] = number + 1
    return labels


def color(number: int) -> tuple[int, int, int]:
    """Return a colour that no other of the 104 has."""
    return 40 + 2 * number % 200, 255 - number * 2, (number * 53) % 256


def write_model(repo: Path, n_segments: int) -> None:
    """Write the model folder that names the boxes."""
    table = two_boxes_table()
    first = table["labels"][0]
    table["labels"] = [
        {**first, "value": k + 1, "name": f"Box {k + 1}", "color_rgb": list(color(k))}
        for k in range(n_segments)
    ]
    folder = repo / table["name"]
    folder.mkdir(parents=True)
    (folder / SPEC_FILE).write_text(write_spec(parse_spec(table)))


def main() -> None:
    """Build, open, scroll, and print one line for each way of drawing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", type=Path, help="also write the entries there, as JSON")
    parser.add_argument("--slices", type=int, default=300)
    parser.add_argument("--size", type=int, default=512)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        entries = run(Path(folder), Case(slices=options.slices, size=options.size))
    for entry in entries:
        sys.stdout.write(json.dumps(entry) + "\n")
    if options.write:
        options.write.write_text(json.dumps(entries))


def run(
    folder: Path, case: Case, *, drawings: Sequence[str] = tuple(DRAWINGS)
) -> list[dict[str, Any]]:
    """Measure every way of opening the page."""
    write_model(folder / "model_repo", case.n_segments)
    study_uid = ""
    entries = []
    with running_service(folder, ManyBoxes(case.n_segments), quiet_period_s=1.0) as service:
        study_uid = send(service, folder / "slices", case)
        finished_study(service, study_uid, timeout_s=300)
    for name in drawings:
        # A fresh service holds nothing of the study in memory.
        with running_service(folder, ManyBoxes(case.n_segments)) as service:
            finished_study(service, study_uid)
            url = f"{service.http_url}/studies/{study_uid}"
            entries.append(measure(url, name, case))
    return entries


def send(service: Service, folder: Path, case: Case) -> str:
    """Send the study over HTTP; its UID."""
    import httpx

    from tests.builders.dicom import Identity

    who = Identity()
    paths = write_large_ct(folder, slices=case.slices, size=case.size, identity=who)
    for start in range(0, len(paths), 50):
        files = [
            ("file", (path.name, path.read_bytes(), "application/dicom"))
            for path in paths[start : start + 50]
        ]
        answer = httpx.post(f"{service.http_url}/v1/studies", files=files, timeout=120)
        answer.raise_for_status()
    shutil.rmtree(folder)
    return who.study_uid


def measure(url: str, name: str, case: Case) -> dict[str, Any]:
    """Open twice, check the picture, scroll, and read the memory of the page's process."""
    chromium = shutil.which("chromium")
    if chromium is None:
        raise FileNotFoundError("the Debian package chromium is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=[*COMMON, *DRAWINGS[name]]
        )
        context = browser.new_context(viewport={"width": 1400, "height": 950})
        page = context.new_page()
        page.goto("about:blank")
        cold = opened(page, url)
        check(page)
        frames = page.evaluate(SCROLL_JS, case.n_scrolled)
        scrolled = statistics.median(frames)
        memory = renderer_mib()
        warm = opened(page, url)
        has_webgl = page.evaluate(
            "() => Boolean(document.createElement('canvas').getContext('webgl2'))"
        )
        browser.close()
    frames.sort()
    return {
        "case": f"study page, {case.slices} slices, {case.n_segments} segments, {name}",
        "shape": [case.slices, case.size, case.size],
        "has_webgl": has_webgl,
        "cold_s": cold,
        "warm_s": warm,
        "frames_per_s": round(1000 / (sum(frames) / len(frames)), 1),
        "frame_ms_median": round(scrolled, 1),
        "frame_ms_p95": round(frames[int(len(frames) * 0.95)], 1),
        "page_memory_mib": round(memory),
        "machine": machine(),
        "commit": commit(),
    }


def opened(page: Page, url: str) -> dict[str, float]:
    """Open the page; seconds from the request to the first overlay and to all labels."""
    page.goto(url)
    page.wait_for_selector('#stage[data-labels="all"]', timeout=60_000)
    marks = page.evaluate(OPENED_JS)
    return {name: round(value / 1000, 3) for name, value in marks.items()}


def check(page: Page) -> None:
    """Refuse to time a page that paints a box in another's colour.

    Raises
    ------
    RuntimeError
    """
    page.fill("#center", "5000")
    page.fill("#width", "100")
    page.press("#width", "Tab")
    page.fill("#opacity", "100")
    page.click("[data-plane=axial]")
    page.fill("#slice", "0")
    page.wait_for_selector('#stage[data-shown="axial/0"]')
    middle = str(N_SLICES_SHOWN)
    page.fill("#slice", middle)
    page.wait_for_selector(f'#stage[data-shown="axial/{middle}"]')
    time.sleep(0.3)
    found = np.asarray(
        Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")
    ).reshape(-1, 3)
    seen = {tuple(int(part) for part in one) for one in np.unique(found, axis=0)}
    known = {color(k) for k in range(N_SEGMENTS)}
    if not seen & known:
        raise RuntimeError(f"no box has its colour on the page; {len(seen)} colours were seen")
    page.select_option("#preset", "1")
    page.fill("#opacity", "40")
    page.focus("#stage")


def renderer_mib() -> float:
    """Largest proportional memory of a renderer process below this one: the page's."""
    sizes = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "--type=renderer" in process.cmdline():
                sizes.append(process.memory_full_info().pss)
        except psutil.Error:
            continue
    return max(sizes, default=0) / 2**20


if __name__ == "__main__":
    main()
