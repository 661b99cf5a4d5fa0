"""Built ECG with known waves, and WFDB, EDF, aECG, DICOM and CSV files of it."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import pydicom
import wfdb
from numpy.typing import NDArray
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

Float64 = NDArray[np.float64]
PR_S, QRS_S, QT_S = 0.16, 0.09, 0.38


def ecg(
    *, beats_s: list[float], duration_s: float, rate_hz: float = 250.0, noise_mv: float = 0.01
) -> Float64:
    """Build a lead in mV: P and T are raised cosines, QRS three straight strokes with sharp ends.

    P begins 0.16 s before QRS, which begins 0.04 s before the beat and lasts 0.09 s; T ends 0.38 s
    after QRS began.
    """
    t = np.arange(round(duration_s * rate_hz)) / rate_hz
    lead = np.random.default_rng(3).normal(0, noise_mv, len(t))

    def bump(start: float, end: float, height: float) -> None:
        inside = (t >= start) & (t < end)
        lead[inside] += height * 0.5 * (1 - np.cos(2 * np.pi * (t[inside] - start) / (end - start)))

    for beat in beats_s:
        onset = beat - 0.04
        corners = (onset, beat - 0.02, beat, beat + 0.025, onset + QRS_S)
        lead += np.interp(t, corners, (0.0, -0.15, 1.2, -0.35, 0.0), left=0.0, right=0.0)
        bump(onset - PR_S, onset - PR_S + 0.1, 0.18)
        bump(onset + QT_S - 0.18, onset + QT_S, 0.35)
    return lead


def regular_beats_s(duration_s: float, rr_s: float = 0.8) -> list[float]:
    """Return the times of beats rr_s apart, the first at 0.5 s."""
    return np.arange(0.5, duration_s - 0.5, rr_s).tolist()


def write_wfdb(
    folder: Path,
    leads: dict[str, Float64],
    *,
    record: str = "rec",
    rate_hz: float = 250.0,
    form: str = "16",
    units: str = "mV",
) -> Path:
    """Write one record; return its header."""
    n = len(leads)
    wfdb.wrsamp(
        record,
        fs=rate_hz,
        units=[units] * n,
        sig_name=list(leads),
        p_signal=np.column_stack(list(leads.values())),
        fmt=[form] * n,
        adc_gain=[100.0] * n,
        baseline=[0] * n,
        write_dir=str(folder),
    )
    return folder / f"{record}.hea"


def write_dicom(path: Path, leads: dict[str, Float64], rate_hz: float = 500.0) -> Path:
    """Write a 12-lead ECG object, 1 uV a step, -32768 as padding."""
    group = Dataset()
    group.WaveformOriginality = "ORIGINAL"
    group.NumberOfWaveformChannels = len(leads)
    group.SamplingFrequency = rate_hz
    stored = []
    definitions = []
    for name, lead in leads.items():
        source, unit, one = Dataset(), Dataset(), Dataset()
        source.CodeValue, source.CodingSchemeDesignator = "2:1", "MDC"
        source.CodeMeaning = f"Lead {name}"
        unit.CodeValue, unit.CodingSchemeDesignator, unit.CodeMeaning = "uV", "UCUM", "microvolt"
        one.ChannelSourceSequence = [source]
        one.ChannelSensitivity, one.ChannelSensitivityCorrectionFactor = "1", "1"
        one.ChannelBaseline = "0"
        one.ChannelSensitivityUnitsSequence = [unit]
        one.WaveformBitsStored = 16
        definitions.append(one)
        steps = np.rint(np.nan_to_num(lead, nan=-32.768) * 1000)
        stored.append(steps.astype("<i2"))
    group.NumberOfWaveformSamples = len(stored[0])
    group.ChannelDefinitionSequence = definitions
    group.WaveformBitsAllocated, group.WaveformSampleInterpretation = 16, "SS"
    group.add_new("WaveformPaddingValue", "OW", np.array([-32768], "<i2").tobytes())
    group.WaveformData = np.column_stack(stored).astype("<i2").tobytes()
    dataset = Dataset()
    dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.9.1.1", generate_uid()
    dataset.Modality = "ECG"
    dataset.AcquisitionDateTime = "20260102030405+0100"
    dataset.WaveformSequence = [group]
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    pydicom.dcmwrite(path, dataset, enforce_file_format=True)
    return path


def write_edf(path: Path, leads: dict[str, Float64], rate_hz: float = 250.0) -> Path:
    """Write an EDF file with 1 s records."""
    import edfio

    signals = [
        edfio.EdfSignal(
            lead, rate_hz, label=name, physical_dimension="mV", physical_range=(-5.0, 5.0)
        )
        for name, lead in leads.items()
    ]
    edf = edfio.Edf(signals, starttime=datetime.time(3, 4, 5), data_record_duration=1)
    edf.write(path)
    return path


def write_aecg(path: Path, leads: dict[str, Float64], rate_hz: float = 500.0) -> Path:
    """Write an aECG file, 5 uV a digit."""
    sequences = "".join(
        f"<component><sequence><code code='MDC_ECG_LEAD_{name}'/>"
        "<value xsi:type='SLIST_PQ'><origin value='0' unit='uV'/><scale value='5' unit='uV'/>"
        f"<digits>{' '.join(str(int(v)) for v in np.rint(lead * 200))}</digits></value>"
        "</sequence></component>"
        for name, lead in leads.items()
    )
    path.write_text(
        "<?xml version='1.0'?><AnnotatedECG xmlns='urn:hl7-org:v3' "
        "xmlns:xsi='http://www.w3.org/2001/XMLSchema-instance'><component><series><component>"
        "<sequenceSet><component><sequence><code code='TIME_ABSOLUTE'/><value "
        "xsi:type='GLIST_TS'><head value='20260102030405.000+0100'/><increment "
        f"value='{1 / rate_hz}' unit='s'/></value></sequence></component>{sequences}"
        "</sequenceSet></component></series></component></AnnotatedECG>"
    )
    return path
