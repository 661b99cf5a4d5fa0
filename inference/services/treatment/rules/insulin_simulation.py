"""Insulin: the caps of open closed-loop systems, for simulation only; no proposal is made of them.

They are here because they are the best published example of independent caps outside a model: the
smallest wins, and a missing one is zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType

from inference.domain.care_errors import PopulationError
from inference.domain.limits import Cap
from inference.domain.quantities import Quantity, check_number

IS_SIMULATION_ONLY = True
DEFAULT_MAX_IOB_IU = 0.0
"""Insulin on board that may be added where nobody set a limit: none."""
DAILY_SAFETY_MULTIPLIER = 3.0
CURRENT_SAFETY_MULTIPLIER = 4.0

AGE_GROUPS = ("child", "teen", "adult", "resistant", "pregnant")
HARD_LIMITS: MappingProxyType[str, tuple[float, ...]] = MappingProxyType(
    {
        "max_iob_ama": (3, 5, 7, 12, 25),
        "max_iob_smb": (7, 13, 22, 30, 70),
        "max_basal": (2, 5, 10, 12, 25),
    }
)
"""Compiled-in limits of AndroidAPS by `AGE_GROUPS`: IU, IU, IU/h."""
MAX_IOB_LOW_GLUCOSE_SUSPEND_IU = 0.0
MAX_CARBOHYDRATES_G = 400.0


@dataclass(frozen=True, kw_only=True)
class BasalProfile:
    """A pump profile in IU/h; the multipliers may be raised by their owner."""

    current_basal: float
    max_daily_basal: float
    max_basal: float
    daily_multiplier: float = DAILY_SAFETY_MULTIPLIER
    current_multiplier: float = CURRENT_SAFETY_MULTIPLIER


def basal_caps(profile: BasalProfile) -> tuple[Cap, ...]:
    """Return the three independent caps on a temporary basal rate.

    Raises
    ------
    QuantityError
    """
    return tuple(
        Cap(name=name, high=Quantity(value=value, unit="[iU]/h"))
        for name, value in (
            ("max basal", profile.max_basal),
            ("daily safety multiplier", profile.daily_multiplier * profile.max_daily_basal),
            ("current safety multiplier", profile.current_multiplier * profile.current_basal),
        )
    )


def simulated_basal(requested_iu_h: float, profile: BasalProfile) -> tuple[float, str]:
    """Return what the reference system would run, and the cap that bound it ("" for none).

    The reference lowers a request to the smallest cap and a negative one to zero. A proposal of
    this service refuses instead; this function reproduces the reference for comparison.

    Raises
    ------
    QuantityError
    """
    check_number("requested_iu_h", requested_iu_h, "[iU]/h")
    if requested_iu_h < 0:
        return 0.0, "not below zero"
    high, name = min((cap.high.value, cap.name) for cap in basal_caps(profile))
    return (high, name) if requested_iu_h > high else (requested_iu_h, "")


def round_basal(rate_iu_h: float, *, finest_step: float = 0.05) -> float:
    """Round to the steps of the reference pump: 0.05 below 10 IU/h, 0.1 from there on.

    Below 1 IU/h some pumps step by 0.025: say so in ``finest_step``. Halves go up.

    Raises
    ------
    PopulationError
        Negative or not finite.
    """
    if not math.isfinite(rate_iu_h) or rate_iu_h < 0:
        raise PopulationError(
            formula="basal steps", field="rate_iu_h", value=rate_iu_h, studied="0 or more"
        )
    step = finest_step if rate_iu_h < 1 else 0.05 if rate_iu_h < 10 else 0.1
    scale = round(1 / step)
    return math.floor(rate_iu_h * scale + 0.5) / scale
