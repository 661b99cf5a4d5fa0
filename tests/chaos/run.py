"""Kill the real service at random points while studies are sent; then count what was kept.

``python -m tests.chaos.run --kills 50 --studies 20``: prints one JSON line; exit code 0 when no
acknowledged instance was lost and every study has exactly one current result made from all its
slices. Half of the kills hit the main process alone, half the whole process tree; they fall into
the start, into receiving, and into the work on results. Senders are held back so that at least
60 of 100 kills lie between the first and the last acknowledgement.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from pathlib import Path

from tests.chaos.checker import Findings, check, work_left
from tests.chaos.inputs import write_model, write_studies
from tests.chaos.senders import Senders
from tests.chaos.service import DOORS_OPEN, READY, ServiceProcess

START_TIMEOUT_S = 120.0
DRAIN_TIMEOUT_S = 240.0
SENDING_PART = 0.75
"""Of the kills, while instances may still be sent."""

KILLS_BETWEEN_PART = 0.6
"""Of the kills, that must lie between the first and the last acknowledgement."""


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--studies", type=int, default=20)
    parser.add_argument("--slices", type=int, default=12)
    parser.add_argument("--seed", type=int, default=20261122)
    parser.add_argument("--backend", choices=("triton", "local"), default="triton")
    parser.add_argument("--keep", action="store_true", help="keep the working folder")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    folder = Path(tempfile.mkdtemp(prefix="clinfer-chaos-"))
    try:
        report = run(folder, options)
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    sys.stdout.write(json.dumps(report) + "\n")
    return 1 if report["problems"] else 0


def run(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Send, kill, drain, stop, check."""
    service = ServiceProcess(folder, backend=options.backend)
    try:
        return _run(folder, options, service)
    finally:
        service.end()


def _run(folder: Path, options: argparse.Namespace, service: ServiceProcess) -> dict[str, object]:
    began = time.monotonic()
    chance = random.Random(options.seed)  # noqa: S311 - no secret
    write_model(folder / "model_repo")
    slices = write_studies(folder / "sent", n_studies=options.studies, n_slices=options.slices)
    chance.shuffle(slices)
    senders = Senders(slices, port=service.dicom_port)
    senders.start()
    problems: list[str] = []
    kill_times: list[float] = []
    hits_main = [number % 2 == 0 for number in range(options.kills)]
    chance.shuffle(hits_main)
    last_sending_kill = max(1, math.ceil(SENDING_PART * options.kills))
    for number, is_main in enumerate(hits_main):
        senders.allow(math.ceil(len(slices) * min(1.0, (number + 1) / last_sending_kill)))
        service.start()
        _wait_for_a_random_point(service, chance, must_open=number == 0)
        kill_times.append(time.monotonic())
        if is_main:
            service.kill_main()
        else:
            service.kill_tree()
        _say(f"kill {number + 1} of {options.kills}: {len(senders.acknowledged)} acknowledged")
    senders.allow(len(slices))
    service.start()
    problems += _drain(service, senders)
    servers = service.inference_servers()
    code = service.stop()
    senders.stop()
    if code != 0:
        problems.append(f"the service ended with {code}")
    if left := service.inference_servers():
        problems.append(f"inference servers are left: {left}")
    if options.backend == "triton" and not servers:
        problems.append("no Triton was running at the end")
    findings = check(service.data, service.database, [one.slice for one in senders.acknowledged])
    n_between = _kills_between(kill_times, senders)
    if n_between < KILLS_BETWEEN_PART * options.kills:
        problems.append(f"only {n_between} kills between first and last acknowledgement")
    if senders.refused:
        problems.append(f"refused: {senders.refused[:3]}")
    return _report(options, service, senders, findings, problems, n_between, began)


def _wait_for_a_random_point(
    service: ServiceProcess, chance: random.Random, *, must_open: bool
) -> None:
    """Somewhere in the start (15 of 100), in receiving (45) or in the work on results (40)."""
    where = chance.random()
    if where < 0.15 and not must_open:
        typical_s = statistics.median(service.starts_s) if service.starts_s else 3.0
        time.sleep(chance.uniform(0.0, typical_s))
    elif where < 0.60:
        service.wait_for(DOORS_OPEN, START_TIMEOUT_S)
        time.sleep(chance.uniform(0.0, 1.5))
    else:
        service.wait_for(READY, START_TIMEOUT_S)
        time.sleep(chance.uniform(0.0, 2.0))


def _drain(service: ServiceProcess, senders: Senders) -> list[str]:
    """Wait until everything was sent and no job is left."""
    if not service.wait_for(READY, START_TIMEOUT_S):
        return ["the service did not start again; see service.log (--keep)"]
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while time.monotonic() < deadline:
        if senders.is_done and work_left(service.database) == 0:
            return []
        time.sleep(0.2)
    return [
        f"not done {DRAIN_TIMEOUT_S:.0f} s after the last kill:"
        f" all sent {senders.is_done}, {work_left(service.database)} jobs left"
    ]


def _kills_between(kill_times: list[float], senders: Senders) -> int:
    times = [one.at for one in senders.acknowledged]
    if not times:
        return 0
    return sum(min(times) < moment < max(times) for moment in kill_times)


def _report(
    options: argparse.Namespace,
    service: ServiceProcess,
    senders: Senders,
    findings: Findings,
    problems: list[str],
    n_between: int,
    began: float,
) -> dict[str, object]:
    starts = sorted(service.starts_s)
    return {
        "kills": options.kills,
        "kills_between_first_and_last_acknowledgement": n_between,
        "studies": options.studies,
        "attempts": senders.n_attempts,
        **findings.figures,
        "start_to_open_doors_s": {
            "median": round(statistics.median(starts), 2) if starts else None,
            "p95": round(starts[int(0.95 * (len(starts) - 1))], 2) if starts else None,
        },
        "seed": options.seed,
        "seconds": round(time.monotonic() - began, 1),
        "problems": problems + findings.problems,
    }


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
