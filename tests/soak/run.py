"""`make soak`: 1000 cycles of load, infer and unload against the real server; ends by itself.

Memory is what the server itself holds when no model is loaded: the proportional set size of its
process tree and its shared memory. It must not grow with the number of cycles.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from inference.backends.processes import memory_bytes
from inference.backends.triton import TritonPredictor
from inference.backends.triton_launch import TritonServerOptions
from inference.backends.triton_record import ServerRecord
from inference.backends.triton_server import TritonServer
from tests.inference.backends.conftest import TINY, noise_volume, tiny_table, write_model

WARM_UP_CYCLES = 10
"""Left out: allocators and thread pools reach their size in the first ones."""

MAX_GROWTH_BYTES = 100_000_000
SHAPE = (19, 33, 41)


@dataclass(frozen=True, kw_only=True)
class Soaked:
    """Memory of the server after each cycle, in bytes, nothing loaded."""

    after_cycle: tuple[int, ...]

    @property
    def growth_bytes(self) -> int:
        """Most that a cycle after the warm-up ended above the first of them."""
        counted = self.after_cycle[WARM_UP_CYCLES:]
        return max(counted) - counted[0]


def soak(n_cycles: int, folder: Path, progress: Callable[[int, int], None]) -> Soaked:
    """Run the cycles; ``progress`` is told each cycle's number and the memory after it.

    Raises
    ------
    AssertionError
        A cycle's labels differ from the first one's, or a process or its shared memory stayed.
    """
    repo = folder / "model_repo"
    write_model(repo, tiny_table(TINY))
    volume = noise_volume(SHAPE, np.int16)
    after: list[int] = []
    options = TritonServerOptions(model_repo=repo, models=(TINY,), data_dir=folder / "data")
    with TritonServer(options) as server:
        record = ServerRecord.read(server.log_file.with_name("server.json"))
        assert record is not None, "a running server has a note"
        client = TritonPredictor(
            server.address, model_repo=repo, secret=server.secret, shared_memory=True
        )
        expected = client.predict(TINY, volume).labels.copy()
        server.models.unload(TINY)
        for cycle in range(n_cycles):
            server.models.load(TINY)
            found = client.predict(TINY, volume).labels
            np.testing.assert_array_equal(found, expected)
            server.models.unload(TINY)
            assert len(record.processes()) == 1, "the server alone"
            assert record.regions() == (), "no model, no shared memory"
            after.append(sum(memory_bytes(pid) for pid in record.processes()))
            progress(cycle + 1, after[-1])
        client.close()
        assert server.n_restarts == 0
    return Soaked(after_cycle=tuple(after))


def main() -> int:
    """Soak, print, and say whether memory grew."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1000)
    n_cycles = parser.parse_args().cycles
    if n_cycles <= WARM_UP_CYCLES:
        parser.error(f"--cycles: {n_cycles} must be above {WARM_UP_CYCLES}, which are left out")
    began = time.monotonic()

    def progress(cycle: int, n_bytes: int) -> None:
        spent_s = time.monotonic() - began
        left_min = spent_s / cycle * (n_cycles - cycle) / 60
        sys.stdout.write(
            f"\rcycle {cycle} of {n_cycles}: {n_bytes / 1e6:.1f} MB, {left_min:.0f} min left  "
        )
        sys.stdout.flush()

    with tempfile.TemporaryDirectory() as folder:
        soaked = soak(n_cycles, Path(folder), progress)
    growth = soaked.growth_bytes
    verdict = "within" if growth < MAX_GROWTH_BYTES else "MORE THAN"
    sys.stdout.write(
        f"\ngrowth over {n_cycles - WARM_UP_CYCLES} cycles: {growth / 1e6:.1f} MB,"
        f" {verdict} {MAX_GROWTH_BYTES / 1e6:.0f} MB\n"
    )
    return 0 if growth < MAX_GROWTH_BYTES else 1


if __name__ == "__main__":
    sys.exit(main())
