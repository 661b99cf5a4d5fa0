"""Beats, intervals and quality of a stream: right, and the same for any chunking and restart."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import wfdb
import wfdb.processing

from dicom_io.wfdb_read import read_wfdb
from inference.domain.errors import RefusedError
from inference.signals.beats import Beat
from inference.signals.detector import BeatDetector
from inference.signals.intervals import corrected_qt_ms
from inference.signals.lead_stream import LeadStream
from inference.signals.quality import QualityWindow
from inference.signals.state import StreamStateError
from tests.builders.signals import PR_S, QRS_S, QT_S, ecg, regular_beats_s

RATE_HZ = 250.0
Results = tuple[list[Beat], list[QualityWindow]]


def run(lead: np.ndarray, cuts: np.ndarray, *, restart: bool = False) -> Results:
    stream = LeadStream(RATE_HZ)
    beats: list[Beat] = []
    windows: list[QualityWindow] = []
    for first, last in pairwise([0, *cuts.tolist(), len(lead)]):
        if restart:
            stored = stream.save()
            stream = LeadStream(RATE_HZ)
            stream.load(stored)
        found = stream.push(lead[first:last])
        beats += found.beats
        windows += found.windows
    found = stream.end()
    return beats + list(found.beats), windows + list(found.windows)


@pytest.fixture(scope="module")
def troubled_lead() -> np.ndarray:
    """A minute with uneven beats, noise, gaps long and short, and an early gap while learning."""
    rng = np.random.default_rng(8)
    beats = np.cumsum(rng.uniform(0.45, 1.1, 70))
    lead = ecg(beats_s=beats[beats < 59].tolist(), duration_s=60.0, noise_mv=0.05)
    lead[800:830] = np.nan
    lead[5000] = np.nan
    lead[7000:10100] = np.nan
    return lead


@pytest.fixture(scope="module")
def whole(troubled_lead: np.ndarray) -> Results:
    return run(troubled_lead, np.array([], int))


@pytest.mark.parametrize("n_cuts", [1, 30, 1000])
def test_any_chunking_gives_the_same_results(
    troubled_lead: np.ndarray, whole: Results, n_cuts: int
) -> None:
    cuts = np.sort(np.random.default_rng(n_cuts).integers(0, len(troubled_lead), n_cuts))
    assert repr(run(troubled_lead, cuts)) == repr(whole)  # repr: NaN and every bit of a float
    assert len(whole[0]) > 40


def test_single_samples_give_the_same_results(troubled_lead: np.ndarray, whole: Results) -> None:
    assert repr(run(troubled_lead, np.arange(1, len(troubled_lead)))) == repr(whole)


def test_a_restart_anywhere_gives_the_same_results(
    troubled_lead: np.ndarray, whole: Results
) -> None:
    cuts = np.sort(np.random.default_rng(2).integers(0, len(troubled_lead), 50))
    assert repr(run(troubled_lead, cuts, restart=True)) == repr(whole)


def test_a_damaged_or_foreign_state_is_refused() -> None:
    stream = LeadStream(RATE_HZ)
    stored = bytearray(stream.save())
    stored[200] ^= 1
    with pytest.raises(StreamStateError) as caught:
        stream.load(bytes(stored))
    assert caught.value.field == "sha256"
    with pytest.raises(RefusedError, match="360 Hz"):
        stream.load(LeadStream(360.0).save())


def test_waves_of_a_built_lead_are_measured() -> None:
    at = regular_beats_s(60.0)
    beats, windows = run(ecg(beats_s=at, duration_s=60.0), np.array([], int))
    assert len(beats) == len(at)
    assert np.abs(np.array([beat.time_s for beat in beats]) - at).max() <= 0.012  # 3 samples
    assert {window.grade for window in windows} == {"good"}

    def usual(name: str) -> float:
        return float(np.median([v for beat in beats if (v := getattr(beat, name)) is not None]))

    assert usual("rr_ms") == pytest.approx(800, abs=4)
    assert usual("amplitude_mv") == pytest.approx(1.2, abs=0.1)
    # The tangent foot of a raised cosine lies 0.18 of its half length inside its end.
    assert usual("qrs_ms") == pytest.approx(QRS_S * 1000, abs=16)
    assert usual("pr_ms") == pytest.approx(PR_S * 1000 - 9, abs=20)
    assert usual("qt_ms") == pytest.approx(QT_S * 1000 - 16, abs=20)


def test_no_interval_is_taken_over_a_gap() -> None:
    lead = ecg(beats_s=regular_beats_s(40.0), duration_s=40.0)
    lead[5000:5500] = np.nan
    beats, _ = run(lead, np.array([], int))
    after = next(beat for beat in beats if beat.sample >= 5500)
    assert after.rr_ms is None
    assert all(beat.rr_ms is None or beat.rr_ms < 900 for beat in beats)


def test_nothing_is_found_in_noise_below_the_lowest_complex() -> None:
    noise = np.random.default_rng(4).normal(0, 0.01, 60 * 250)
    assert run(noise, np.array([], int))[0] == []


@pytest.mark.parametrize("rate_hz", [99.0, 5001.0])
def test_a_rate_outside_is_refused(rate_hz: float) -> None:
    with pytest.raises(RefusedError, match="sampling rate"):
        BeatDetector(rate_hz)


@pytest.mark.parametrize("rate_per_min", [28, 60, 150, 210])
def test_slow_and_fast_hearts_are_counted(rate_per_min: int) -> None:
    at = np.arange(1.0, 59.0, 60 / rate_per_min)
    lead = np.random.default_rng(3).normal(0, 0.01, 60 * 250)
    t = np.arange(len(lead)) / RATE_HZ
    for beat in at:
        lead += np.interp(t, (beat - 0.04, beat - 0.02, beat, beat + 0.025, beat + 0.05),
                          (0.0, -0.15, 1.2, -0.35, 0.0))  # fmt: skip
    beats, _ = run(lead, np.array([], int))
    assert len(beats) == len(at)


def test_corrected_qt_by_hand() -> None:
    # QT 400 ms at 75/min (RR 0.8 s): 400/0.894427, 400/0.928318, 400 + 154*0.2, 400 + 1.75*15.
    found = corrected_qt_ms(400.0, 0.8)
    expected = {"bazett": 447.21, "fridericia": 430.89, "framingham": 430.8, "hodges": 426.25}
    assert found == pytest.approx(expected, abs=0.01)
    with pytest.raises(RefusedError, match="RR"):
        corrected_qt_ms(400.0, 0.2)


def test_reference_beats_of_record_100_are_all_found(shared_data: Path) -> None:
    record = shared_data / "signals" / "mitdb" / "100"
    lead = read_wfdb(record, accept_defaults=True).channel("MLII")
    marks = wfdb.rdann(str(record), "atr")
    reference = marks.sample[np.isin(marks.symbol, list("NLRBAaJSVrFejnE/fQ?"))]
    detector = BeatDetector(lead.sampling_rate_hz)
    found = np.array([b.sample for b in detector.push(lead.samples) + detector.end()])
    matched = wfdb.processing.compare_annotations(reference, found, 54)  # 150 ms
    assert matched.sensitivity >= 0.999
    assert matched.positive_predictivity >= 0.999


def test_a_low_complex_is_marked_where_the_other_leads_have_it(shared_data: Path) -> None:
    """Marks of lead II once sat on P waves: its complex is low and split by an old infarction."""
    record = read_wfdb(shared_data / "signals" / "ptbdb" / "s0010_re", accept_defaults=True)
    marks = []
    for name in ("ii", "v2"):
        detector = BeatDetector(1000.0)
        found = detector.push(record.channel(name).samples) + detector.end()
        marks.append(np.array([beat.sample for beat in found]))
    assert len(marks[0]) == len(marks[1]) == 52
    assert np.abs(marks[0] - marks[1]).max() <= 60


@pytest.mark.parametrize(("record", "published"), [("104", 2229), ("121", 1863)])
def test_beat_counts_of_records_without_reference_marks(
    shared_data: Path, record: str, published: int
) -> None:
    """The counts are those of the MIT-BIH directory; 104 is paced, with bursts of muscle noise."""
    recording = read_wfdb(shared_data / "signals" / "mitdb" / record, accept_defaults=True)
    detector = BeatDetector(360.0)
    found = detector.push(recording.channels[0].samples) + detector.end()
    assert len(found) == pytest.approx(published, rel=0.005)
