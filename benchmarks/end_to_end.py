"""Time and memory from a DICOM folder to a SEG on disk, against the plain MONAI way.

One 300-slice 512 x 512 CT (0.75 x 0.75 x 1.0 mm, a built thorax), the same model folder, each in a
fresh process, kernel cache warm. The answer is checked first: Dice between the two, both in fp32.
`clinfer run` writes more (SR, NIfTI, contact sheet, geometry gate) and is timed with all of it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import tomllib
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pydicom
import tomli_w

from benchmarks.timing import Measured, commit, machine, measure_command
from dicom_io.segmentation import read_segmentation
from tests.builders.dicom import write_series
from training.phantoms import thorax_phantom

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
MODEL = "ct_lung_seg"
FULL_SHAPE = (300, 512, 512)
SPACING_MM = (1.0, 0.75, 0.75)
REPEATS = 3


def main() -> None:
    """Measure, print one JSON line per case, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=FULL_SHAPE[0])
    parser.add_argument("--matrix", type=int, default=FULL_SHAPE[1])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--write", type=Path, default=RESULTS / "end_to_end.json")
    options = parser.parse_args()
    shape = (options.slices, options.matrix, options.matrix)
    with tempfile.TemporaryDirectory() as scratch:
        lines = compare(Path(scratch), shape, options.repeats)
    for line in lines:
        sys.stdout.write(json.dumps(line) + "\n")
    options.write.parent.mkdir(parents=True, exist_ok=True)
    options.write.write_text(json.dumps(lines, indent=2) + "\n")


def compare(scratch: Path, shape: tuple[int, int, int], repeats: int) -> list[dict[str, object]]:
    """Return one entry a way of computing, the plain one first.

    Raises
    ------
    ValueError
        The two fp32 answers differ: a Dice below 0.999, so that no time is worth telling.
    """
    spacing = tuple(
        mm * full / n for mm, full, n in zip(SPACING_MM, FULL_SHAPE, shape, strict=True)
    )
    array, _, affine_lps = thorax_phantom(seed=2026, shape=shape, spacing_mm=spacing)
    study = scratch / "study"
    # MONAI's reader orders slices by InstanceNumber: files whose numbers run along the axis.
    write_series(study, array, affine_lps, modality="CT", file_order="forward")
    runs = {
        "monai fp32": _plain(study),
        "clinfer fp32": _clinfer(study, _repo_with_precision(scratch, "fp32")),
        "clinfer bf16": _clinfer(study, _repo_with_precision(scratch, "bf16")),
    }
    measured: dict[str, list[Measured]] = {name: [] for name in runs}
    # The first round fills the kernel and file caches, and its answers are the ones compared.
    for round_number in range(repeats + 1):
        for name, command in runs.items():
            out = scratch / f"{name.replace(' ', '-')}-{round_number}"
            figures = measure_command([*command, str(out)], log=scratch / "log")
            if round_number:
                measured[name].append(figures)
        if round_number == 0:
            dice = {name: _dice_against_plain(scratch, name) for name in runs}
            if min(dice["clinfer fp32"]) < 0.999:
                raise ValueError(f"the fp32 answers differ: Dice {dice['clinfer fp32']}")

    plain_s = statistics.median(run.wall_s for run in measured["monai fp32"])
    plain_mib = statistics.median(run.peak_memory_mib for run in measured["monai fp32"])
    common = {
        "question": "DICOM folder to SEG on disk, fresh process",
        "shape": list(shape),
        "spacing_mm": [round(mm, 4) for mm in spacing],
        "model": MODEL,
        "repeats": repeats,
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "monai", "numba", "highdicom")},
        "commit": commit(),
    }
    return [
        {
            "case": name,
            "wall_s_median": round(statistics.median(r.wall_s for r in found), 2),
            "wall_s_p95": round(float(np.percentile([r.wall_s for r in found], 95)), 2),
            "peak_memory_mib": round(statistics.median(r.peak_memory_mib for r in found)),
            "times_faster": round(plain_s / statistics.median(r.wall_s for r in found), 2),
            "memory_share": round(
                statistics.median(r.peak_memory_mib for r in found) / plain_mib, 3
            ),
            "dice_against_plain": [round(value, 5) for value in dice[name]],
            **common,
        }
        for name, found in measured.items()
    ]


def _plain(study: Path) -> list[str]:
    return [
        sys.executable,
        "-m",
        "benchmarks.monai_plain",
        str(study),
        str(ROOT / "model_repo" / MODEL),
    ]


def _clinfer(study: Path, model_repo: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "inference", "run", str(study)),
        *("--model", MODEL, "--model-repo", str(model_repo), "-o"),
    ]


def _repo_with_precision(scratch: Path, precision: str) -> Path:
    """Return a repository with the model as shipped but for its engine's precision."""
    repo = scratch / f"repo-{precision}"
    folder = repo / MODEL
    (folder / "1").mkdir(parents=True)
    source = ROOT / "model_repo" / MODEL
    spec = tomllib.loads((source / "model.toml").read_text())
    spec["engine"] = {"precision": precision, "channels_last": precision == "bf16"}
    (folder / "model.toml").write_text(tomli_w.dumps(spec))
    (folder / "config.pbtxt").write_bytes((source / "config.pbtxt").read_bytes())
    weights = spec["weights"]["file"]
    (folder / weights).write_bytes((source / weights).read_bytes())
    return repo


def _dice_against_plain(scratch: Path, name: str) -> list[float]:
    """Return the Dice of each segment, frame by frame at the same place in the patient."""
    plain = _Frames(scratch / "monai-fp32-0" / "seg.dcm")
    ours = _Frames(_seg_path(scratch / f"{name.replace(' ', '-')}-0"))
    both: dict[int, int] = defaultdict(int)
    sizes: dict[int, int] = defaultdict(int)
    for place in plain.by_place.keys() | ours.by_place.keys():
        one, other = plain.mask(place), ours.mask(place)
        both[place[0]] += int((one & other).sum())
        sizes[place[0]] += int(one.sum()) + int(other.sum())
    return [2 * both[segment] / sizes[segment] for segment in sorted(sizes)]


class _Frames:
    """A SEG's frames by segment number and place (millimetres, to a hundredth)."""

    def __init__(self, path: Path) -> None:
        self._masks = read_segmentation(pydicom.dcmread(path))
        self.by_place = {
            (frame.segment_number, *frame.affine_lps[:3, 3].round(2)): frame
            for frame in self._masks.frames
        }

    def mask(self, place: tuple[int, float, float, float]) -> np.ndarray:
        """Return the mask at a place; an empty one where the SEG has no frame."""
        frame = self.by_place.get(place)
        if frame is None:
            return np.zeros(self._masks.shape, bool)
        return self._masks.mask(frame, place[0])


def _seg_path(out: Path) -> Path:
    return next(path for path in out.rglob("seg.dcm"))


if __name__ == "__main__":
    main()
