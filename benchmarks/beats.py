"""How well and how fast beats are found, beside wfdb XQRS and neurokit2.

Matching is the standard one (`wfdb.processing.compare_annotations`, 150 ms). The answer comes
first: where ours is below XQRS or a neurokit2 method, or below 99.5 %, the benchmark ends with exit
code 1 after its lines. One JSON line per record and method. `make bench-beats RECORDS=folder`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import wfdb
import wfdb.processing
from numpy.typing import NDArray

from dicom_io.wfdb_read import read_wfdb
from inference.signals.analyse import choose_lead
from inference.signals.detector import BeatDetector
from inference.version import SOFTWARE_VERSION

BEAT_SYMBOLS = tuple("NLRBAaJSVrFejnE/fQ?")
WINDOW_S = 0.15
REQUIRED = 0.995
NEUROKIT_METHODS = ("neurokit", "pantompkins1985", "kalidas2017", "martinez2004", "rodrigues2021")
Lead = NDArray[np.float64]
Method = Callable[[Lead, float], NDArray[np.int64]]


def ours(lead_mv: Lead, rate_hz: float) -> NDArray[np.int64]:
    """Find beats with the streaming detector."""
    detector = BeatDetector(rate_hz)
    found = detector.push(lead_mv) + detector.end()
    return np.array([beat.sample for beat in found], np.int64)


def xqrs(lead_mv: Lead, rate_hz: float) -> NDArray[np.int64]:
    """Find beats with wfdb's XQRS."""
    detector = wfdb.processing.XQRS(sig=lead_mv, fs=rate_hz)
    detector.detect(verbose=False)
    return np.asarray(detector.qrs_inds, np.int64)


def neurokit(method: str) -> Method:
    """Return neurokit2's method of this name; needs `pip install clinfer[bench]`."""
    import neurokit2

    def find(lead_mv: Lead, rate_hz: float) -> NDArray[np.int64]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own deprecations are not the question
            _, found = neurokit2.ecg_peaks(lead_mv, sampling_rate=rate_hz, method=method)
        return np.asarray(found["ECG_R_Peaks"]).astype(np.int64)

    return find


def measure(
    method: Method, lead_mv: Lead, rate_hz: float, reference: NDArray[np.int64], repeats: int
) -> dict[str, float]:
    """Return sensitivity, positive predictivity and the median time of ``repeats`` runs."""
    found = method(lead_mv, rate_hz)  # the first run also warms up
    matched = wfdb.processing.compare_annotations(reference, found, round(WINDOW_S * rate_hz))
    seconds = []
    for _ in range(repeats):
        begin = time.perf_counter()
        method(lead_mv, rate_hz)
        seconds.append(time.perf_counter() - begin)
    return {
        "sensitivity": float(matched.sensitivity),
        "positive_predictivity": float(matched.positive_predictivity),
        "median_s": statistics.median(seconds),
    }


def run(records: list[Path], *, repeats: int, with_neurokit: bool) -> bool:
    """Measure every record; return whether ours is right and nowhere behind."""
    others: dict[str, Method] = {"xqrs": xqrs}
    if with_neurokit:
        others |= {f"neurokit2 {name}": neurokit(name) for name in NEUROKIT_METHODS}
    is_right = True
    for record in records:
        lead = choose_lead(read_wfdb(record, accept_defaults=True))
        rate_hz = lead.sampling_rate_hz
        marks = wfdb.rdann(str(record.with_suffix("")), "atr")
        reference = marks.sample[np.isin(marks.symbol, BEAT_SYMBOLS)]
        mine = measure(ours, lead.samples, rate_hz, reference, repeats)
        is_right &= min(mine["sensitivity"], mine["positive_predictivity"]) >= REQUIRED
        _say(record, lead.name, len(reference), "clinfer", mine, mine)
        for name, method in others.items():
            other = measure(method, lead.samples, rate_hz, reference, max(1, repeats // 5))
            is_right &= _f1(mine) >= _f1(other)
            _say(record, lead.name, len(reference), name, other, mine)
    return is_right


def _f1(figures: dict[str, float]) -> float:
    total = figures["sensitivity"] + figures["positive_predictivity"]
    return 2 * figures["sensitivity"] * figures["positive_predictivity"] / total if total else 0.0


def _say(
    record: Path,
    lead: str,
    beats: int,
    method: str,
    figures: dict[str, float],
    mine: dict[str, float],
) -> None:
    line = {"case": record.stem, "lead": lead, "beats": beats, "method": method, **figures}
    line["times_ours"] = figures["median_s"] / mine["median_s"]
    line["clinfer"], line["wfdb"] = SOFTWARE_VERSION, wfdb.__version__
    print(json.dumps(line), flush=True)


def main() -> int:
    """Run on every record of a folder that has reference beats (.atr)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder of WFDB records with .atr files")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--without-neurokit2", action="store_true")
    options = parser.parse_args()
    records = [path.with_suffix(".hea") for path in sorted(options.folder.glob("*.atr"))]
    if not records:
        print(f"no .atr file in {options.folder}", file=sys.stderr)
        return 2
    with_neurokit = not options.without_neurokit2
    is_right = run(records, repeats=options.repeats, with_neurokit=with_neurokit)
    return 0 if is_right else 1


if __name__ == "__main__":
    sys.exit(main())
