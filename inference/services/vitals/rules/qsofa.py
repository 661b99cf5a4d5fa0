"""qSOFA (Sepsis-3): three bedside signs; limits are inclusive. Never a rule-out.

Its sensitivity for sepsis is low (about 60 %): a negative qSOFA says nothing.
"""

from __future__ import annotations

import math

from inference.domain.care_errors import ReadingError

FORMULA = "qSOFA"
SOURCE = "Singer M et al. JAMA 2016;315:801-810; Seymour CW et al. JAMA 2016;315:762-774"
RESPIRATORY_RATE_PER_MIN = 22
SYSTOLIC_MMHG = 100
POSITIVE_FROM = 2


def qsofa_points(rr: float | None, sbp: float | None, acvpu: str | None) -> int:
    """Return 0 to 3 points: breathing 22/min or more, systolic 100 mmHg or less, not alert.

    Raises
    ------
    ReadingError
        One of the three is missing or impossible.
    """
    for field, value, high in (("rr", rr, 100), ("sbp", sbp, 350)):
        if value is None:
            raise ReadingError(field=field, kind="missing", problem="qSOFA needs all three")
        if isinstance(value, bool) or not math.isfinite(value) or not 0 <= value <= high:
            raise ReadingError(field=field, kind="impossible", problem=f"{value!r}")
    if acvpu is None or acvpu not in tuple("ACVPU"):
        kind = "missing" if acvpu is None else "impossible"
        raise ReadingError(field="acvpu", kind=kind, problem=f"{acvpu!r}")
    breathing = rr is not None and rr >= RESPIRATORY_RATE_PER_MIN
    pressure = sbp is not None and sbp <= SYSTOLIC_MMHG
    return int(breathing) + int(pressure) + int(acvpu != "A")
