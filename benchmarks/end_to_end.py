"""Time and memory from a DICOM folder to a SEG on disk, against the plain MONAI way.

One 300-slice 512 x 512 CT (0.75 x 0.75 x 1.0 mm, a built thorax), the same model folder, each in a
fresh process, kernel cache warm. The answer is checked first: Dice between the two, both in fp32.
Time is measured in turns, with nothing else running; memory in runs of its own, because reading the
maps of a process twenty times a second slows it. `clinfer run` writes more (SR, NIfTI, contact
sheet, geometry gate) and is timed with all of it.

`clinfer shipped` is the model as its `model.toml` says; `clinfer tuned` has the engine that
`clinfer models tune` chose on this machine: its labels agree with torch fp32's as the gate demands.

Models: the shipped lung model, and the network of MONAI's spleen bundle at 2, 14 and 104 classes
(`bundle_model.py`). At 104 classes each way may take three quarters of the machine's memory, and
how it ended is what is told.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path

import numpy as np
import psutil
import pydicom
import tomli_w

from benchmarks.bundle_model import bench_study, bundle_model
from benchmarks.timing import commit, machine, measure_command, time_command
from dicom_io.segmentation import read_segmentation
from inference.pipeline.engine_spec import Engine
from tests.builders.dicom import write_series

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results"
MODELS = ("ct_lung_seg", "bundle_like_2", "bundle_like_14", "bundle_like_104")
MEMORY_ONLY = "bundle_like_104"
"""Its head is random, so there is no answer to compare; what counts is whether it ends."""
FULL_SHAPE = (300, 512, 512)
SPACING_MM = (1.0, 0.75, 0.75)
REPEATS = 3
LEAST_DICE = 0.999
TUNED_ENGINES = (
    "torch-bf16",
    "torch-bf16-channels-last",
    "openvino-fp32",
    "openvino-bf16",
)
"""Those that a fresh process has ready at once, where their conversion is in the cache."""


def main() -> None:
    """Measure, print one JSON line per case, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=FULL_SHAPE[0])
    parser.add_argument("--matrix", type=int, default=FULL_SHAPE[1])
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--write", type=Path, default=RESULTS / "end_to_end.json")
    options = parser.parse_args()
    shape = (options.slices, options.matrix, options.matrix)
    lines: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        spacing = _same_extent(shape)
        array, _, affine_lps = bench_study(2026, shape, spacing)
        # MONAI's reader orders slices by InstanceNumber: here the numbers run along the axis.
        write_series(scratch / "study", array, affine_lps, modality="CT", file_order="forward")
        del array
        for model in options.models:
            found = compare(scratch, model, options.repeats)
            common = _common(shape, spacing, model, options.repeats)
            lines += [{**line, **common} for line in found]
            for line in found:
                sys.stdout.write(json.dumps({"model": model, **line}) + "\n")
                sys.stdout.flush()
            options.write.parent.mkdir(parents=True, exist_ok=True)
            options.write.write_text(json.dumps(lines, indent=2) + "\n")


def compare(scratch: Path, model: str, repeats: int) -> list[dict[str, object]]:
    """Return one entry a way of computing, the plain one first.

    Raises
    ------
    ValueError
        The two fp32 answers differ: a Dice below 0.999, so that no time is worth telling.
    """
    work = scratch / model
    work.mkdir()
    source = ROOT / "model_repo" / model
    if model.startswith("bundle_like_"):
        source = bundle_model(int(model.rsplit("_", 1)[1]))
    study = scratch / "study"
    fp32 = _repo_with_engine(work, source, "fp32", {"precision": "fp32"})
    if model == MEMORY_ONLY:
        bf16 = {"precision": "bf16", "channels_last": True}
        return _memory_only(
            work,
            {
                "monai fp32": _plain(study, source),
                "clinfer fp32": _clinfer(study, fp32),
                "clinfer bf16": _clinfer(study, _repo_with_engine(work, source, "bf16", bf16)),
            },
        )
    spec = tomllib.loads((source / "model.toml").read_text())
    shipped = Engine.model_validate(spec["engine"])
    tuned, choice = _tuned_repo(work, source, study)
    runs = {
        "monai fp32": _plain(study, source),
        "clinfer fp32": _clinfer(study, fp32),
        "clinfer shipped": _clinfer(
            study, _repo_with_engine(work, source, "shipped", spec["engine"])
        ),
        "clinfer tuned": _clinfer(study, tuned),
    }
    engines = {
        "monai fp32": "plain",
        "clinfer fp32": "torch-fp32",
        "clinfer shipped": shipped.label,
        "clinfer tuned": choice,
    }
    if shipped == Engine(precision="fp32"):  # the same run twice
        del runs["clinfer shipped"]
    # The first round fills the kernel and file caches; its answers are the ones compared, and in it
    # memory is measured.
    memory_mib = {
        name: measure_command(
            [*command, str(_out(work, name, 0))], log=work / "log"
        ).peak_memory_mib
        for name, command in runs.items()
    }
    dice = {name: _dice_against_plain(work, name) for name in runs}
    if min(dice["clinfer fp32"]) < LEAST_DICE:
        raise ValueError(f"the fp32 answers differ: Dice {dice['clinfer fp32']}")
    wall_s: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(1, repeats + 1):
        for name, command in runs.items():
            out = _out(work, name, number)
            wall_s[name].append(time_command([*command, str(out)], log=work / "log"))
            shutil.rmtree(out)
    plain_s = statistics.median(wall_s["monai fp32"])
    return [
        {
            "case": name,
            "engine": engines[name],
            "wall_s_median": round(statistics.median(found), 2),
            "wall_s_p95": round(float(np.percentile(found, 95)), 2),
            "peak_memory_mib": round(memory_mib[name]),
            "times_faster": round(plain_s / statistics.median(found), 2),
            "memory_share": round(memory_mib[name] / memory_mib["monai fp32"], 3),
            "dice_against_plain_lowest": round(min(dice[name]), 5),
        }
        for name, found in wall_s.items()
    ]


def _out(work: Path, name: str, number: int) -> Path:
    return work / f"{name.replace(' ', '-')}-{number}"


def _tuned_repo(work: Path, source: Path, study: Path) -> tuple[Path, str]:
    """Return a repository with the model and this machine's choice for it, and the engine's name.

    Raises
    ------
    subprocess.CalledProcessError
        Tuning failed.
    """
    spec = tomllib.loads((source / "model.toml").read_text())
    repo = _repo_with_engine(work, source, "tuned", spec["engine"])
    command = [sys.executable, "-m", "inference", "models", "tune", source.name]
    for engine in TUNED_ENGINES:
        command += ["--engine", engine]
    command += ["--model-repo", str(repo), "--data", str(study)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=sys.stderr)
    (written,) = (repo / source.name).glob("engine.*.toml")
    engine = tomllib.loads(written.read_text())["engine"]
    return repo, Engine.model_validate(engine).label


def _memory_only(work: Path, runs: dict[str, list[str]]) -> list[dict[str, object]]:
    """Run each way once; tell time and memory, or how it failed."""
    lines: list[dict[str, object]] = []
    for name, command in runs.items():
        try:
            found = measure_command(
                [*command, str(work / name.replace(" ", "-"))],
                log=work / "log",
                limit_mib=0.75 * psutil.virtual_memory().total / 2**20,
            )
        except RuntimeError as error:
            end = str(error).splitlines()
            lines.append({"case": name, "ended": "failed", "how": f"{end[0]} {end[-1]}"[:300]})
        else:
            lines.append(
                {
                    "case": name,
                    "ended": "finished",
                    "wall_s_median": round(found.wall_s, 2),
                    "peak_memory_mib": round(found.peak_memory_mib),
                }
            )
    return lines


def _same_extent(shape: tuple[int, int, int]) -> tuple[float, float, float]:
    """Spacing at which another shape covers what the full one covers."""
    z, y, x = (mm * n / k for mm, n, k in zip(SPACING_MM, FULL_SHAPE, shape, strict=True))
    return (z, y, x)


def _common(
    shape: tuple[int, int, int], spacing_mm: tuple[float, float, float], model: str, repeats: int
) -> dict[str, object]:
    return {
        "question": "DICOM folder to SEG on disk, fresh process",
        "shape": list(shape),
        "spacing_mm": [round(mm, 4) for mm in spacing_mm],
        "model": model,
        "repeats": repeats,
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "monai", "numba", "highdicom")},
        "commit": commit(),
    }


def _plain(study: Path, model_folder: Path) -> list[str]:
    return [sys.executable, "-m", "benchmarks.monai_plain", str(study), str(model_folder)]


def _clinfer(study: Path, model_repo: Path) -> list[str]:
    (model,) = (path.name for path in model_repo.iterdir())
    return [
        *(sys.executable, "-m", "inference", "run", str(study)),
        *("--model", model, "--model-repo", str(model_repo), "-o"),
    ]


def _repo_with_engine(work: Path, source: Path, name: str, engine: dict[str, object]) -> Path:
    """Return a repository with the one model, as it is but for its engine."""
    repo = work / f"repo-{name}"
    folder = repo / source.name
    (folder / "1").mkdir(parents=True)
    spec = tomllib.loads((source / "model.toml").read_text())
    spec["engine"] = engine
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
