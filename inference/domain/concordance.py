"""How often people agree with a model, and when that changes: by model, scanner and site.

Drift is a binomial control chart. The latest `RECENT` decisions of a group are held against all
before them: an alarm is raised where so many overrides, or more, would come with a probability
below `ALARM_PROBABILITY` if nothing had changed. Fewer decisions than the two minimum counts give
no alarm, and say so.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from inference.domain.review import Decision, Review

RECENT = 30
"""Decisions that are held against those before them."""
MIN_RECENT = 20
MIN_BASELINE = 50
"""Fewer decisions than these say nothing; the group has no alarm, and no all-clear either."""
ALARM_PROBABILITY = 0.00135
"""One side of three standard deviations, as on Shewhart's charts (Shewhart 1931)."""

Grouping = Literal["model", "scanner", "site"]
GROUPINGS: tuple[Grouping, ...] = ("model", "scanner", "site")


@dataclass(frozen=True, kw_only=True)
class Concordance:
    """Decisions of one group.

    Attributes
    ----------
    n_accepted : as shown; n_corrected, n_rejected : overrides
    mean_dice : of each correction's most changed segment; None where nothing was corrected
    mean_changed_ml : of corrections
    drift : "alarm", "steady", or "too_few" decisions to say
    probability : of so many recent overrides if nothing had changed; None where too few
    """

    name: str
    n_accepted: int
    n_corrected: int
    n_rejected: int
    mean_dice: float | None
    mean_changed_ml: float | None
    baseline_rate: float | None
    recent_rate: float | None
    drift: Literal["alarm", "steady", "too_few"]
    probability: float | None

    @property
    def n(self) -> int:
        """All decisions."""
        return self.n_accepted + self.n_corrected + self.n_rejected

    @property
    def override_rate(self) -> float:
        """Share of decisions that corrected or rejected, in [0, 1]."""
        return (self.n_corrected + self.n_rejected) / self.n


def concordance(reviews: Sequence[Review], by: Grouping) -> tuple[Concordance, ...]:
    """Return the figures of each group, the largest group first.

    Parameters
    ----------
    reviews : in any order
    """
    key_of: dict[Grouping, Callable[[Review], str]] = {
        "model": lambda one: f"{one.model} {one.model_version}",
        "scanner": lambda one: (
            f"{one.scanner.manufacturer} {one.scanner.model}".strip() or "unknown"
        ),
        "site": lambda one: one.scanner.site or "unknown",
    }
    groups: dict[str, list[Review]] = {}
    for one in sorted(reviews, key=lambda one: one.id):
        groups.setdefault(key_of[by](one), []).append(one)
    found = [_figures(name, members) for name, members in groups.items()]
    return tuple(sorted(found, key=lambda one: (-one.n, one.name)))


def binomial_tail(k: int, n: int, p: float) -> float:
    """Probability of k or more successes in n trials of probability p."""
    return math.fsum(math.comb(n, i) * p**i * (1 - p) ** (n - i) for i in range(k, n + 1))


def _figures(name: str, members: Sequence[Review]) -> Concordance:
    overridden = [one.decision is not Decision.ACCEPT for one in members]
    corrected = [one for one in members if one.decision is Decision.CORRECT]
    dices = [one.lowest_dice for one in corrected if one.lowest_dice is not None]
    amounts = [one.changed_ml for one in corrected if one.changed_ml is not None]
    recent, baseline = overridden[-RECENT:], overridden[:-RECENT]
    probability = baseline_rate = recent_rate = None
    drift: Literal["alarm", "steady", "too_few"] = "too_few"
    if len(recent) >= MIN_RECENT and len(baseline) >= MIN_BASELINE:
        # Half a success and half a failure more: a baseline without overrides is not "never".
        baseline_rate = (sum(baseline) + 0.5) / (len(baseline) + 1)
        recent_rate = sum(recent) / len(recent)
        probability = binomial_tail(sum(recent), len(recent), baseline_rate)
        drift = "alarm" if probability < ALARM_PROBABILITY else "steady"
    return Concordance(
        name=name,
        n_accepted=sum(one.decision is Decision.ACCEPT for one in members),
        n_corrected=len(corrected),
        n_rejected=sum(one.decision is Decision.REJECT for one in members),
        mean_dice=_mean(dices),
        mean_changed_ml=_mean(amounts),
        baseline_rate=baseline_rate,
        recent_rate=recent_rate,
        drift=drift,
        probability=probability,
    )


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
