"""Open a recording of any kind that is read here, by what the file is."""

from __future__ import annotations

from pathlib import Path

from dicom_io.aecg import read_aecg
from dicom_io.edf import read_edf
from dicom_io.recording import Recording, SignalLimits
from dicom_io.signal_csv import read_csv
from dicom_io.signal_errors import SignalFormatError
from dicom_io.waveform import read_waveform
from dicom_io.wfdb_read import read_wfdb


def read_recording(
    path: Path,
    *,
    schema: Path | None = None,
    group: int = 0,
    accept_wfdb_defaults: bool = False,
    limits: SignalLimits | None = None,
) -> Recording:
    """Read WFDB (.hea, or the record's name), DICOM, EDF(+), aECG (XML) or CSV with a schema.

    Parameters
    ----------
    path : Path
        The file, or a WFDB record's name without .hea.
    schema : Path, optional
        The TOML schema of a CSV file; without one a CSV file is refused.
    group : int
        Which multiplex group of a DICOM object, or which series of an aECG file.
    accept_wfdb_defaults : bool
        See `read_wfdb`.
    limits : SignalLimits, optional
        Bounds on size.

    Raises
    ------
    SignalError
        The file is of no kind that is read here, or cannot be trusted.
    """
    if path.suffix == ".hea" or (
        not path.is_file() and path.with_name(f"{path.name}.hea").exists()
    ):
        return read_wfdb(path, accept_defaults=accept_wfdb_defaults, limits=limits)
    if not path.is_file():
        raise SignalFormatError(record=path.name, problem="there is no such file or WFDB record")
    if schema is not None:
        return read_csv(path, schema, limits=limits)
    with path.open("rb") as file:
        head = file.read(132)
    if head[128:] == b"DICM":
        return read_waveform(path, group=group, limits=limits)
    if head[:8] == b"0       ":
        return read_edf(path, limits=limits)
    if head.lstrip(b"\xef\xbb\xbf \r\n\t").startswith(b"<"):
        return read_aecg(path, series=group, limits=limits)
    raise SignalFormatError(
        record=path.name,
        problem="read are WFDB (.hea), DICOM waveforms, EDF and EDF+, HL7 aECG, and CSV with a "
        "schema (--schema)",
    )
