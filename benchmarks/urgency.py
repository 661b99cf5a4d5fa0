"""Ask how soon a STAT study starts under full routine load, and how many studies pass in an hour.

Routine studies keep the server full; STAT studies are sent one after another. Told are the time
from the server's receipt to the start of its computing and to its first window, and how many
batches of windows that is. Then routine studies alone, from DICOM folder to SEG on disk, with one
and with more in flight. Answers first: labels under load must be those of the study alone.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks.serving import (
    FULL_SHAPE,
    MODEL,
    RESULTS,
    Shape,
    percentiles,
    run_study,
    triton,
    write_lines,
    write_study,
)
from dicom_io.read import read_volume
from dicom_io.series import scan
from dicom_io.volume import Volume
from inference.domain.job import Priority
from inference.domain.ports import Prediction, Predictor


def main() -> None:
    """Measure, print one JSON line per case, and write the result file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=FULL_SHAPE[0])
    parser.add_argument("--matrix", type=int, default=FULL_SHAPE[1])
    parser.add_argument("--stat", type=int, default=100, help="STAT studies to send")
    parser.add_argument("--routine", type=int, default=3, help="routine studies in flight")
    parser.add_argument("--studies", type=int, default=12, help="studies of the throughput run")
    parser.add_argument("--write", type=Path, default=RESULTS / "urgency.json")
    options = parser.parse_args()
    shape = (options.slices, options.matrix, options.matrix)
    with tempfile.TemporaryDirectory() as folder, triton(Path(folder) / "triton") as server:
        scratch = Path(folder)
        lines = [
            stat_under_load(scratch, server, shape, options.stat, options.routine),
            *(
                throughput(scratch, server, shape, options.studies, in_flight)
                for in_flight in (1, 2, 3)
            ),
        ]
    write_lines(options.write, lines)


def stat_under_load(
    scratch: Path, server: Predictor, shape: Shape, n_stat: int, n_routine: int
) -> dict[str, object]:
    """Send STAT studies into a full routine queue.

    Raises
    ------
    ValueError
        Labels differ from those of the study alone.
    """
    volume = _volume(write_study(scratch / "loaded", shape, seed=7))
    alone = server.predict(MODEL, volume)
    found: list[Prediction] = []
    with _full_of_routine(server, volume, n_routine) as n_done:
        for _ in range(n_stat):
            found.append(server.predict(MODEL, volume, priority=Priority.STAT))
            _same(found[-1], alone)
        n_routine_done = n_done()
    server_s = [prediction.report["server"] for prediction in found]
    batch_s = alone.report["timings_s"]["network"] / alone.report["n_windows"]
    starts = [one["waited_s"] for one in server_s]
    return {
        "question": "STAT under full routine load: receipt to start, to first window, to answer",
        "start": percentiles(starts),
        "first_window": percentiles([one["first_window_s"] for one in server_s]),
        "answer": percentiles([one["total_s"] for one in server_s]),
        "answer_alone_s": alone.report["server"]["total_s"],
        "batch_s": round(batch_s, 4),
        "start_p99_in_batches": round(float(np.percentile(starts, 99)) / batch_s, 2),
        "routine_in_flight": n_routine,
        "routine_done_meanwhile": n_routine_done,
        "shape": list(shape),
    }


def throughput(
    scratch: Path, server: Predictor, shape: Shape, n_studies: int, in_flight: int
) -> dict[str, object]:
    """Run routine studies from DICOM to SEG with so many in flight.

    Raises
    ------
    ValueError
        Labels differ from those of the study alone.
    """
    study = write_study(scratch / f"flow-{in_flight}", shape, seed=9)
    expected = run_study(study, server, scratch / f"alone-{in_flight}").labels
    began = time.perf_counter()
    with ThreadPoolExecutor(in_flight) as pool:
        runs = [
            pool.submit(run_study, study, server, scratch / f"flow-{in_flight}-{number}")
            for number in range(n_studies)
        ]
        done = [run.result() for run in runs]
    wall_s = time.perf_counter() - began
    if any(one.labels != expected for one in done):
        raise ValueError("labels differ from those of the study alone")
    return {
        "question": "studies in an hour, DICOM folder to SEG on disk",
        "in_flight": in_flight,
        "studies_per_hour": round(3600 * n_studies / wall_s, 1),
        "study_s_median": round(statistics.median(one.wall_s for one in done), 3),
        "n": n_studies,
        "shape": list(shape),
    }


def _volume(study: Path) -> Volume:
    (series,) = scan(sorted(study.iterdir())).series
    return read_volume(series)


def _same(found: Prediction, expected: Prediction) -> None:
    if not np.array_equal(found.labels, expected.labels):
        raise ValueError("labels under load differ from those of the study alone")


@contextmanager
def _full_of_routine(server: Predictor, volume: Volume, n_routine: int) -> Iterator[_Counter]:
    """Keep routine studies in flight while inside; the counter says how many are done."""
    stop, counter = threading.Event(), _Counter()

    def keep_sending() -> None:
        while not stop.is_set():
            server.predict(MODEL, volume)
            counter.add()

    with ThreadPoolExecutor(n_routine) as pool:
        runs = [pool.submit(keep_sending) for _ in range(n_routine)]
        try:
            time.sleep(1.0)  # until they are there
            yield counter
        finally:
            stop.set()
            for run in runs:
                run.result()


class _Counter:
    """Counts from several threads; called, it says how many."""

    def __init__(self) -> None:
        self._lock, self._n = threading.Lock(), 0

    def add(self) -> None:
        with self._lock:
            self._n += 1

    def __call__(self) -> int:
        with self._lock:
            return self._n


if __name__ == "__main__":
    main()
