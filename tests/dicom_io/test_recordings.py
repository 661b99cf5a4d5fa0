"""Recordings of every kind: what goes in comes out in its unit; what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import edfio
import numpy as np
import pydicom
import pytest

from dicom_io.recording import SignalLimits
from dicom_io.signal_errors import (
    CalibrationError,
    SampleCountError,
    SamplingRateError,
    SignalClockError,
    SignalFieldError,
    SignalFormatError,
    SignalLimitError,
    SignalNameError,
    SignalUnitError,
)
from dicom_io.signal_read import read_recording
from tests.builders.signals import (
    ecg,
    regular_beats_s,
    write_aecg,
    write_dicom,
    write_edf,
    write_wfdb,
)

LEAD = ecg(beats_s=regular_beats_s(8.0), duration_s=8.0, rate_hz=500.0)
LEADS = {"I": LEAD, "II": -0.5 * LEAD}
SCHEMA = """sampling_rate_hz = 125.0
[time]
column = "t"
unit = "ms"
[[channel]]
column = "ecg"
name = "II"
unit = "uV"
"""


@pytest.mark.parametrize("form", ["16", "24", "32", "80", "212"])
def test_wfdb_formats_come_back_in_millivolts(tmp_path: Path, form: str) -> None:
    leads = LEADS if form != "80" else {name: 0.5 * lead for name, lead in LEADS.items()}
    header = write_wfdb(tmp_path, leads, rate_hz=500.0, form=form)
    recording = read_recording(header)
    for name, lead in leads.items():
        channel = recording.channel(name)
        assert (channel.unit, channel.sampling_rate_hz) == ("mV", 500.0)
        np.testing.assert_allclose(channel.samples, lead, atol=0.0051)  # gain 100: half a step


def test_wfdb_missing_samples_are_marked(tmp_path: Path) -> None:
    lead = LEAD.copy()
    lead[100:200] = np.nan
    channel = read_recording(write_wfdb(tmp_path, {"I": lead})).channel("I")
    assert np.flatnonzero(channel.is_missing).tolist() == list(range(100, 200))
    assert np.isnan(channel.samples[100:200]).all()


def test_segments_are_joined_and_their_gap_is_missing(tmp_path: Path) -> None:
    write_wfdb(tmp_path, {"I": LEAD[:1000], "II": LEAD[:1000]}, record="one")
    write_wfdb(tmp_path, {"II": LEAD[1000:1500]}, record="two")
    header = tmp_path / "all.hea"
    header.write_text("all/3 2 250 1900\none 1000\n~ 400\ntwo 500\n")
    recording = read_recording(header)
    one, two = recording.channels
    assert (one.name, two.name, len(one.samples), len(two.samples)) == ("I", "II", 1900, 1900)
    assert one.is_missing.sum() == 900
    assert np.flatnonzero(two.is_missing).tolist() == list(range(1000, 1400))
    np.testing.assert_allclose(two.samples[1400:], LEAD[1000:1500], atol=0.0051)


def test_dicom_waveform(tmp_path: Path) -> None:
    lead = LEAD.copy()
    lead[7] = np.nan
    recording = read_recording(write_dicom(tmp_path / "ecg.dcm", {"I": lead, "II": LEAD}))
    assert recording.kind == "DICOM 12-lead ECG"
    assert recording.started_at is not None
    assert recording.started_at.isoformat() == "2026-01-02T03:04:05+01:00"
    channel = recording.channel("I")
    assert channel.unit == "uV"
    assert np.flatnonzero(channel.is_missing).tolist() == [7]
    np.testing.assert_allclose(recording.channel("II").samples, LEAD * 1000, atol=0.51)


@pytest.mark.parametrize(
    ("keyword", "value", "kind"),
    [
        ("ChannelSensitivity", "0", CalibrationError),
        ("ChannelSensitivity", None, CalibrationError),
        ("ChannelBaseline", None, CalibrationError),
        ("ChannelSensitivityUnitsSequence", None, SignalUnitError),
        ("ChannelSampleSkew", "3", SignalFieldError),
    ],
)
def test_dicom_channels_that_cannot_be_trusted(
    tmp_path: Path, keyword: str, value: str | None, kind: type[SignalFieldError]
) -> None:
    path = write_dicom(tmp_path / "ecg.dcm", {"I": LEAD})
    dataset = pydicom.dcmread(path)
    definition = dataset.WaveformSequence[0].ChannelDefinitionSequence[0]
    if value is None:
        delattr(definition, keyword)
    else:
        setattr(definition, keyword, value)
    dataset.save_as(path)
    with pytest.raises(kind) as caught:
        read_recording(path)
    assert caught.value.channel == "I"


def test_edf(tmp_path: Path) -> None:
    path = write_edf(tmp_path / "a.edf", LEADS)
    channel = read_recording(path).channel("II")
    assert (channel.unit, channel.sampling_rate_hz) == ("mV", 250.0)
    np.testing.assert_allclose(channel.samples, LEADS["II"], atol=2e-4)  # 10 mV in 65535 steps
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(SampleCountError) as caught:
        read_recording(path)
    assert caught.value.expected - caught.value.found == 1


def test_aecg_and_its_entities(tmp_path: Path) -> None:
    path = write_aecg(tmp_path / "a.xml", LEADS)
    recording = read_recording(path)
    channel = recording.channel("II")
    assert (channel.unit, channel.sampling_rate_hz) == ("uV", 500.0)
    np.testing.assert_allclose(channel.samples, LEADS["II"] * 1000, atol=2.51)
    bomb = "<!DOCTYPE x [<!ENTITY a 'b'>]>"
    path.write_text(path.read_text().replace("<AnnotatedECG", bomb + "<AnnotatedECG"))
    with pytest.raises(SignalFormatError, match="XML"):
        read_recording(path)


def csv(tmp_path: Path, times_ms: list[float], schema: str = SCHEMA) -> tuple[Path, Path]:
    data, declared = tmp_path / "a.csv", tmp_path / "a.toml"
    rows = "".join(f"{time},{number}\n" for number, time in enumerate(times_ms))
    data.write_text("t, ecg\n" + rows)
    declared.write_text(schema)
    return data, declared


def test_csv_gap_is_marked(tmp_path: Path) -> None:
    data, schema = csv(tmp_path, [0, 8, 16, 40, 48])
    channel = read_recording(data, schema=schema).channels[0]
    np.testing.assert_array_equal(channel.samples, [0, 1, 2, np.nan, np.nan, 3, 4])


@pytest.mark.parametrize("times", [[0, 8, 8, 16], [0, 8, 4, 16], [0, 8, 12, 20], [0, 8, 4e6, 4e6]])
def test_csv_clock_steps_are_refused(tmp_path: Path, times: list[float]) -> None:
    data, schema = csv(tmp_path, times)
    with pytest.raises(SignalClockError) as caught:
        read_recording(data, schema=schema)
    assert caught.value.index == 2


@pytest.mark.parametrize(
    ("old", "new", "field"),
    [
        ("125.0", "0", "sampling rate"),
        ('"uV"', '"microns"', "unit"),
        ('"uV"', '"MV"', "unit"),
        ('column = "ecg"', 'column = "pleth"', "column"),
        ('unit = "ms"', 'unit = "h"', "time.unit"),
    ],
)
def test_csv_schema_is_checked(tmp_path: Path, old: str, new: str, field: str) -> None:
    data, schema = csv(tmp_path, [0, 8, 16], SCHEMA.replace(old, new))
    with pytest.raises(SignalFieldError) as caught:
        read_recording(data, schema=schema)
    assert caught.value.field == field


def test_limits_and_names(tmp_path: Path) -> None:
    header = write_wfdb(tmp_path, LEADS)
    with pytest.raises(SignalLimitError) as caught:
        read_recording(header, limits=SignalLimits(max_samples=100))
    assert caught.value.limit == "max_samples"
    header.write_text(header.read_text().replace(" II\n", " I\n"))
    with pytest.raises(SignalNameError):
        read_recording(header)
    with pytest.raises(SignalFormatError):
        read_recording(tmp_path / "nothing")
    with pytest.raises(SamplingRateError):
        read_recording(write_aecg(tmp_path / "b.xml", LEADS, rate_hz=1e7))


def test_real_records(shared_data: Path) -> None:
    signals = shared_data / "signals"
    record = read_recording(signals / "ptbdb" / "s0010_re", accept_wfdb_defaults=True)
    assert [len(record.channels), record.channels[0].sampling_rate_hz] == [15, 1000.0]
    assert "accepted on request" in record.notes[0]


def edf_with_pauses(path: Path, starts_s: list[int]) -> Path:
    """Write EDF+D whose 1 s records begin at these seconds (one digit each)."""
    lead = LEAD[: 250 * len(starts_s)]
    signal = edfio.EdfSignal(
        lead, 250, label="II", physical_dimension="mV", physical_range=(-5.0, 5.0)
    )
    edf = edfio.Edf([signal], annotations=[edfio.EdfAnnotation(0, None, "x")])
    edf.update_data_record_duration(1)
    content = bytearray(edf.to_bytes().replace(b"EDF+C", b"EDF+D", 1))
    for number, start in reversed(list(enumerate(starts_s))):
        at = content.index(b"+%d\x14\x14" % number)
        content[at : at + 2] = b"+%d" % start
    path.write_bytes(content)
    return path


def test_edf_plus_d_pauses_are_missing(tmp_path: Path) -> None:
    channel = read_recording(edf_with_pauses(tmp_path / "d.edf", [0, 1, 4, 5])).channel("II")
    assert np.flatnonzero(channel.is_missing).tolist() == list(range(500, 1000))
    np.testing.assert_allclose(channel.samples[1000:1500], LEAD[500:1000], atol=2e-4)


def test_edf_plus_d_that_goes_back_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SignalClockError) as caught:
        read_recording(edf_with_pauses(tmp_path / "d.edf", [0, 3, 2, 5]))
    assert caught.value.index == 2


def test_rounded_time_stamps_must_agree_with_even_rows(tmp_path: Path) -> None:
    declared = SCHEMA.replace('unit = "ms"', 'unit = "ms"\nrounded_to = 10')
    data, schema = csv(tmp_path, [0, 10, 20, 20, 30], declared)
    assert not read_recording(data, schema=schema).channels[0].is_missing.any()
    data, schema = csv(tmp_path, [0, 10, 20, 40, 50], declared)
    with pytest.raises(SignalClockError) as caught:
        read_recording(data, schema=schema)
    assert caught.value.index == 3
