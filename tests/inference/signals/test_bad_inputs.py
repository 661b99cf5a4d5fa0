"""Area signal_file of the bad inputs: each id has its built case here and its expected outcome.

``422`` is a named refusal (`dicom_io.signal_errors`; over HTTP these are 422), ``held`` a stream
that takes nothing more until it is bound anew, ``abstain`` a result without intervals and why.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from dicom_io.recording import Recording, make_channel
from dicom_io.signal_errors import (
    CalibrationError,
    ChecksumError,
    SamplingRateError,
    SignalPathError,
)
from dicom_io.wfdb_read import DEFAULTS_NOTE, read_wfdb
from inference.signals.analyse import analyse
from inference.signals.lead_stream import LeadStream
from inference.signals.packets import Binding, Packet, PacketGate, StreamHeldError
from inference.signals.report import result_json
from tests.builders.signals import ecg, regular_beats_s, write_wfdb

COVERED = {"sig-001", "sig-002", "sig-003", "sig-004", "sig-007", "sig-008", "sig-009"}
RATE_HZ = 250.0
LEAD = ecg(beats_s=regular_beats_s(30.0), duration_s=30.0)


def header(tmp_path: Path, old: str, new: str) -> Path:
    path = write_wfdb(tmp_path, {"II": LEAD})
    text = path.read_text()
    changed = re.sub(old, new, text, count=1)
    assert changed != text
    path.write_text(changed)
    return path


def test_every_case_of_the_area_is_covered(repository: Path) -> None:
    reference = repository.parent / "shared" / "reference" / "bad_inputs.json"
    if not reference.is_file():
        pytest.skip("the reference list is not beside the checkout; the built cases below stand")
    inputs = json.loads(reference.read_text())["inputs"]
    assert {case["id"] for case in inputs if case["area"] == "signal_file"} == COVERED


@pytest.mark.parametrize("rate", ["0", "-100", "nan", "inf", "1e9", ""])
def test_sig_001_sampling_rate(tmp_path: Path, rate: str) -> None:
    with pytest.raises(SamplingRateError) as caught:
        read_wfdb(header(tmp_path, r"rec 1 250 \d+", f"rec 1 {rate}"))
    assert caught.value.field == "sampling rate"


def test_sig_002_checksum(tmp_path: Path) -> None:
    path = write_wfdb(tmp_path, {"II": LEAD})
    parts = path.read_text().splitlines()
    words = parts[1].split()
    words[6] = "12345"
    path.write_text("\n".join([parts[0], " ".join(words), ""]))
    with pytest.raises(ChecksumError) as caught:
        read_wfdb(path)
    assert (caught.value.channel, caught.value.expected) == ("II", 12345)


@pytest.mark.parametrize(
    ("gain", "field"),
    [("0(0)/mV", "gain"), ("nan(0)/mV", "gain"), ("-5(0)/mV", "gain"), ("100(0)", "unit"),
     ("100/mV", "baseline")],
)  # fmt: skip
def test_sig_003_no_calibration_is_assumed(tmp_path: Path, gain: str, field: str) -> None:
    with pytest.raises(CalibrationError) as caught:
        read_wfdb(header(tmp_path, r"100\.0\(0\)/mV", gain))
    assert caught.value.field == field


def test_sig_003_the_formats_own_defaults_only_on_request_and_never_for_the_gain(
    tmp_path: Path,
) -> None:
    path = header(tmp_path, r"100\.0\(0\)/mV", "100")
    recording = read_wfdb(path, accept_defaults=True)
    assert recording.notes == (DEFAULTS_NOTE,)
    np.testing.assert_allclose(recording.channels[0].samples, LEAD, atol=0.0051)
    path.write_text(path.read_text().replace(" 100 ", " 0 "))
    with pytest.raises(CalibrationError):
        read_wfdb(path, accept_defaults=True)


@pytest.mark.parametrize("name", ["../x.dat", "/etc/passwd", "http://a.b/x.dat", "a/b.dat", "-"])
def test_sig_004_file_names_stay_in_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(SignalPathError) as caught:
        read_wfdb(header(tmp_path, r"rec\.dat", name))
    assert caught.value.value == name


def one_lead(samples: np.ndarray) -> Recording:
    channel = make_channel(
        name="II", unit="mV", sampling_rate_hz=RATE_HZ, samples=samples, rails=(-5.0, 5.0)
    )
    return Recording(record="built", kind="built", channels=(channel,), source_sha256="")


T = np.arange(len(LEAD)) / RATE_HZ


@pytest.mark.parametrize(
    ("samples", "word"),
    [
        (np.full(len(LEAD), np.nan), "missing"),
        (np.full(len(LEAD), 0.3), "flat_line"),
        (np.full(len(LEAD), 5.0), "lead_off"),
        (np.clip(LEAD * 40, -5, 5), "saturated"),
        (0.5 * np.sin(2 * np.pi * 50 * T), "mains"),
        (-LEAD, "polarity"),
    ],
    ids=["nan", "flat", "rail", "saturated", "50 Hz", "inverted"],
)
def test_sig_007_a_result_abstains_and_says_why(samples: np.ndarray, word: str) -> None:
    result = analyse(one_lead(samples))
    content = result_json(result)
    assert content["status"] == "abstained"
    assert word in " ".join(content["reasons"])
    assert content["intervals"] is None


def limb_leads(one: np.ndarray, two: np.ndarray) -> dict[str, np.ndarray]:
    return {"I": one, "II": two, "III": two - one, "aVR": -(one + two) / 2}


@pytest.mark.parametrize("swap", ["arms", "two and one"])
def test_sig_007_swapped_leads(swap: str) -> None:
    leads = limb_leads(0.6 * LEAD, LEAD)
    if swap == "arms":  # I turns over, II and III change places, and aVR and aVL too
        leads = limb_leads(-0.6 * LEAD, 0.4 * LEAD)
        leads["aVR"] = 0.8 * LEAD
    else:
        leads["I"], leads["II"] = leads["II"], leads["I"]
    channels = tuple(
        make_channel(name=name, unit="mV", sampling_rate_hz=RATE_HZ, samples=samples)
        for name, samples in leads.items()
    )
    result = analyse(Recording(record="b", kind="b", channels=channels, source_sha256=""))
    assert (result.status, result.reasons[0][:5]) == ("abstained", "leads")


def test_a_clean_lead_and_clean_limb_leads_do_not_abstain() -> None:
    assert analyse(one_lead(LEAD)).status == "done"
    channels = tuple(
        make_channel(name=name, unit="mV", sampling_rate_hz=RATE_HZ, samples=samples)
        for name, samples in limb_leads(0.6 * LEAD, LEAD).items()
    )
    recording = Recording(record="b", kind="b", channels=channels, source_sha256="")
    assert analyse(recording).status == "done"


BINDING = Binding(device_id="monitor-7", unit="mV", sampling_rate_hz=RATE_HZ)


def packet(start: int, n: int = 250, **changed: object) -> Packet:
    fields = {
        "device_id": "monitor-7", "unit": "mV", "sampling_rate_hz": RATE_HZ,
        "started_s": 100.0 + start / RATE_HZ, "samples": LEAD[start : start + n],
    }  # fmt: skip
    return Packet(**{**fields, **changed})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "changed"),
    [
        ("started_s", {"started_s": 99.0}),
        ("started_s", {"started_s": 100.0 + 3600}),
        ("sampling_rate_hz", {"sampling_rate_hz": 125.0}),
        ("unit", {"unit": "kPa"}),
        ("unit", {"unit": "ms"}),
        ("device_id", {"device_id": "monitor-8"}),
    ],
)
def test_sig_008_and_009_the_stream_is_held_until_it_is_bound_anew(
    field: str, changed: dict[str, object]
) -> None:
    gate = PacketGate(BINDING)
    gate.take(packet(0))
    with pytest.raises(StreamHeldError) as caught:
        gate.take(packet(250, **changed))
    assert caught.value.field == field
    with pytest.raises(StreamHeldError):
        gate.take(packet(250))  # a right packet does not release it
    gate.bind(BINDING)
    assert len(gate.take(packet(500))) == 250


def test_sig_008_a_gap_is_missing_and_nothing_is_carried_over_it() -> None:
    gate, stream = PacketGate(BINDING), LeadStream(RATE_HZ)
    late = packet(2500, started_s=100.0 + 2500 / RATE_HZ + 30)
    taken = [gate.take(packet(start)) for start in range(0, 2500, 250)] + [gate.take(late)]
    assert np.isnan(taken[-1]).sum() == 30 * 250
    taken += [gate.take(packet(2750 + k, started_s=141.0 + k / RATE_HZ)) for k in (0, 250, 500)]
    results = [stream.push(samples) for samples in taken]
    results.append(stream.end())
    beats = [beat for part in results for beat in part.beats]
    assert all(beat.rr_ms is None or beat.rr_ms < 900 for beat in beats)
    states = [window.states for part in results for window in part.windows]
    assert ("missing", "lead_off") in states


def test_sig_008_a_repeated_packet_is_counted_and_gives_nothing() -> None:
    gate = PacketGate(BINDING)
    assert len(gate.take(packet(0))) == 250
    assert len(gate.take(packet(0))) == 0
    assert gate.n_repeated == 1
    assert len(gate.take(packet(250))) == 250
