"""Every kernel equals its reference: on the CPU, under the CUDA simulator, and on a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.cuda_kernels.cases import CHECKS


@pytest.mark.parametrize("name", CHECKS)
def test_the_cpu_kernel_equals_its_reference(name: str) -> None:
    CHECKS[name](lambda array: array, lambda array: array)


@pytest.fixture(scope="module")
def simulated() -> dict[str, str | None]:
    run = subprocess.run(
        [sys.executable, "-m", "tests.cuda_kernels.simulated"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "NUMBA_ENABLE_CUDASIM": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    outcome: dict[str, str | None] = json.loads(run.stdout)
    return outcome


@pytest.mark.parametrize("name", CHECKS)
def test_the_cuda_kernel_equals_its_reference_in_the_simulator(
    name: str, simulated: dict[str, str | None]
) -> None:
    assert simulated[name] is None, simulated[name]


@pytest.mark.gpu
@pytest.mark.parametrize("name", CHECKS)
def test_the_cuda_kernel_equals_its_reference_on_a_gpu(name: str) -> None:
    from numba import cuda

    def get(array: Any) -> Any:
        return np.asarray(array.copy_to_host())

    CHECKS[name](cuda.to_device, get)
