"""Danger-zone vital signs of the Emergency Severity Index, as published; not a triage scale.

ESI itself is licensed (practice only, algorithm unchanged, no technology in place of judgement):
this service does not offer it. The table is here so that a site with a licence can be checked
against it. Values *above* the limit, or SpO2 below it, mean "consider".
"""

from __future__ import annotations

from types import MappingProxyType

from inference.domain.care_errors import PopulationError, ReadingError

SOURCE = "AHRQ Emergency Severity Index implementation handbook, chapter 6, figure 6-1"
IS_OFFERED = False
SPO2_BELOW_PERCENT = 92
LIMITS: MappingProxyType[str, tuple[float, int, int]] = MappingProxyType(
    {"<3m": (3, 180, 50), "3m-3y": (36, 160, 40), "3-8y": (96, 140, 30), ">8y": (1440, 100, 20)}
)
"""Age band: below so many months, heart rate per minute, breaths per minute."""


def danger_signs(age_months: float, *, hr: float, rr: float, spo2: float) -> tuple[str, ...]:
    """Return which of heart rate, breathing and SpO2 are in the danger zone.

    Raises
    ------
    PopulationError
        An age outside 0 to 120 years.
    ReadingError
        A value that cannot be.
    """
    for field, value, high in (("hr", hr, 350), ("rr", rr, 150), ("spo2", spo2, 100)):
        if isinstance(value, bool) or not 0 <= value <= high:
            raise ReadingError(field=field, kind="impossible", problem=f"{value!r}")
    for below_months, max_hr, max_rr in LIMITS.values():
        if 0 <= age_months < below_months:
            is_high = {"hr": hr > max_hr, "rr": rr > max_rr, "spo2": spo2 < SPO2_BELOW_PERCENT}
            return tuple(name for name, found in is_high.items() if found)
    raise PopulationError(
        formula="danger zone", field="age_months", value=age_months, studied="0 to 120 years"
    )
