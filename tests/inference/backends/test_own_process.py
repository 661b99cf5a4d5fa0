"""The predictor in a process of its own: the same labels and errors, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from dicom_io.volume import Volume
from inference.backends.local_torch import LocalPredictor
from inference.backends.own_process import ProcessPredictor
from inference.domain.errors import InferenceError, ModelSpecError, RefusedError
from inference.domain.ports import Predictor, PreparingPredictor, ProbabilityPredictor
from tests.inference.backends.conftest import TINY, noise_volume

SHAPE = (19, 33, 41)


@pytest.fixture(scope="module")
def predictor(tiny_repo: Path) -> Iterator[ProcessPredictor]:
    with ProcessPredictor(tiny_repo) as process:
        yield process


def _children(of: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(of).children() if "computing" in " ".join(one.cmdline())]


def test_labels_and_probabilities_are_those_of_this_process(
    predictor: ProcessPredictor, tiny_repo: Path
) -> None:
    as_port: Predictor = predictor
    assert isinstance(as_port, ProbabilityPredictor)
    assert isinstance(as_port, PreparingPredictor)
    as_port.prepare(TINY)
    local, volume = LocalPredictor(tiny_repo), noise_volume(SHAPE, np.int16)
    found, expected = as_port.predict(TINY, volume), local.predict(TINY, volume)
    np.testing.assert_array_equal(found.labels, expected.labels)
    assert found.labels.dtype == expected.labels.dtype
    assert found.labels.flags.writeable
    assert len(np.unique(found.labels)) > 1
    assert found.report["weights_sha256"] == expected.report["weights_sha256"]
    assert found.report.keys() == expected.report.keys()
    np.testing.assert_array_equal(
        as_port.probability(TINY, volume, 1), local.probability(TINY, volume, 1)
    )


def test_the_memory_of_both_processes_counts(predictor: ProcessPredictor) -> None:
    report = predictor.predict(TINY, noise_volume(SHAPE, np.int16)).report
    here_mib = psutil.Process().memory_info().rss / 2**20
    assert report["memory"]["predicted_mib"] > here_mib
    assert report["peak_memory_mib"] > here_mib


def test_an_error_comes_back_as_what_it_was_and_the_next_volume_is_served(
    predictor: ProcessPredictor,
) -> None:
    volume = noise_volume(SHAPE, np.int16)
    predictor.prepare("../ct_box_seg")  # said where it is to run, not here
    with pytest.raises(ModelSpecError, match="no such model") as caught:
        predictor.predict("../ct_box_seg", volume)
    assert caught.value.field == "(file)"
    stretched = Volume(array=volume.array, affine_lps=np.diag([90.0, 1.0, 1.0, 1.0]), modality="MR")
    with pytest.raises(RefusedError):
        predictor.predict(TINY, stretched)
    assert predictor.predict(TINY, volume).labels.shape == SHAPE


def test_a_process_that_is_killed_is_an_error_that_says_so(tiny_repo: Path) -> None:
    with ProcessPredictor(tiny_repo) as predictor:
        _children(os.getpid())[-1].kill()
        with pytest.raises(InferenceError, match="was killed, most often because memory ran out"):
            predictor.predict(TINY, noise_volume(SHAPE, np.int16))


def test_the_caller_gets_ready_once_while_the_process_has_the_volume(tiny_repo: Path) -> None:
    seen: list[Volume] = []
    volume = noise_volume(SHAPE, np.int16)
    with ProcessPredictor(tiny_repo, meanwhile=seen.append) as predictor:
        predictor.predict(TINY, volume)
        predictor.predict(TINY, volume)
    assert len(seen) == 1
    assert seen[0] is volume


def test_a_caller_that_fails_meanwhile_gets_no_answer_meant_for_another(tiny_repo: Path) -> None:
    def fail(volume: Volume) -> None:
        raise OSError("no space left")

    volume = noise_volume(SHAPE, np.int16)
    with ProcessPredictor(tiny_repo, meanwhile=fail) as predictor:
        with pytest.raises(OSError, match="no space left"):
            predictor.predict(TINY, volume)
        with pytest.raises(InferenceError, match="the process that computes"):
            predictor.predict(TINY, volume)


def test_closing_ends_the_process_whatever_it_does(tiny_repo: Path) -> None:
    before = set(_children(os.getpid()))
    predictor = ProcessPredictor(tiny_repo)
    started = set(_children(os.getpid())) - before
    assert len(started) == 1
    predictor.close()
    predictor.close()
    assert set(_children(os.getpid())) == before


HOLDER = """
import sys, time
from pathlib import Path
from inference.backends.own_process import ProcessPredictor
predictor = ProcessPredictor(Path(sys.argv[1]))
print(predictor._process.pid, flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_the_process_ends_with_its_caller_however_that_ends(
    tiny_repo: Path, repository: Path, how: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, tiny_repo],
        cwd=repository,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as caller:
        assert caller.stdout is not None
        process = psutil.Process(int(caller.stdout.readline()))
        caller.send_signal(how)
        caller.wait(60)
    psutil.wait_procs([process], timeout=60)
    assert not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
