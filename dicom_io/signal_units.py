"""Units of signals as UCUM codes; a unit that is not on the list is refused, never guessed."""

from __future__ import annotations

from dicom_io.signal_errors import SignalUnitError

UCUM_BY_NAME = {
    "v": "V",
    "mv": "mV",
    "millivolt": "mV",
    "millivolts": "mV",
    "uv": "uV",
    "µv": "uV",
    "μv": "uV",
    "microvolt": "uV",
    "microvolts": "uV",
    "nv": "nV",
    "mmhg": "mm[Hg]",
    "mm[hg]": "mm[Hg]",
    "kpa": "kPa",
    "pa": "Pa",
    "cmh2o": "cm[H2O]",
    "cm[h2o]": "cm[H2O]",
    "bpm": "/min",
    "/min": "/min",
    "{beats}/min": "/min",
    "ms": "ms",
    "s": "s",
    "%": "%",
    "degc": "Cel",
    "cel": "Cel",
    "ohm": "Ohm",
    "l/min": "L/min",
    "l/s": "L/s",
    "ml": "mL",
    "nu": "{normalised}",
    "{normalised}": "{normalised}",
    "1": "1",
}
"""Names as files write them, in small letters; NU is WFDB's word for normalised units."""

_OTHER_BY_CASE = frozenset({"MV", "NV", "Nv", "PA", "Ms", "MS", "S", "Mmhg"})
"""Spellings that mean something else in capitals: MV is megavolt, S siemens."""

MILLIVOLTS = {"V": 1e3, "mV": 1.0, "uV": 1e-3, "nV": 1e-6}
"""How many millivolts one of these is."""


def ucum_unit(name: str, *, record: str, channel: str) -> str:
    """Return the UCUM code of a unit as a file writes it.

    Raises
    ------
    SignalUnitError
        The unit is absent, or not on the list; "MV" is megavolt, not millivolt.
    """
    text = name.strip()
    code = UCUM_BY_NAME.get(text.casefold())
    if code is None or text in _OTHER_BY_CASE:
        raise SignalUnitError(
            record=record,
            channel=channel,
            field="unit",
            value=text,
            allowed=", ".join(sorted(set(UCUM_BY_NAME.values()))),
            do="write the unit that the samples are in",
        )
    return code
