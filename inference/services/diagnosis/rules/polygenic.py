"""A polygenic score: the weighted sum of effect-allele dosages (PGS Catalog scoring file).

It is a relative position in a reference population of the same ancestry, not a probability of
disease. Too few matched variants, another genome build or ambiguous strands end it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from inference.domain.care_errors import PopulationError

FORMULA = "polygenic score"
LEAST_MATCHED_SHARE = 0.75
"""Share of the file's variants that must be there; the default of the PGS Catalog calculator."""


@dataclass(frozen=True, kw_only=True)
class Weight:
    """One row of a scoring file."""

    rsid: str
    effect_allele: str
    effect_weight: float


@dataclass(frozen=True, kw_only=True)
class PolygenicScore:
    """The sum, how many alleles it is over, and their average."""

    total: float
    n_alleles: int
    n_matched: int
    n_variants: int

    @property
    def average(self) -> float:
        """Sum per allele."""
        return self.total / self.n_alleles


def polygenic_score(weights: Sequence[Weight], dosages: Sequence[float | None]) -> PolygenicScore:
    """Return the additive score; a dosage of None is a variant that was not found.

    Raises
    ------
    PopulationError
        Lengths differ, a dosage outside 0 to 2, a weight that is not finite, or fewer variants
        matched than `LEAST_MATCHED_SHARE`.
    """
    if len(weights) != len(dosages) or not weights:
        raise PopulationError(
            formula=FORMULA, field="dosages", value=len(dosages), studied=f"{len(weights)} of them"
        )
    terms: list[float] = []
    for weight, dosage in zip(weights, dosages, strict=True):
        if not math.isfinite(weight.effect_weight):
            raise PopulationError(
                formula=FORMULA, field=weight.rsid, value=weight.effect_weight, studied="a number"
            )
        if dosage is None:
            continue
        if isinstance(dosage, bool) or not 0 <= dosage <= 2:
            raise PopulationError(
                formula=FORMULA, field=weight.rsid, value=dosage, studied="0 to 2 alleles"
            )
        terms.append(weight.effect_weight * dosage)
    share = len(terms) / len(weights)
    if share < LEAST_MATCHED_SHARE:
        raise PopulationError(
            formula=FORMULA, field="matched share", value=round(share, 3),
            studied=f"{LEAST_MATCHED_SHARE:g} or more",
        )  # fmt: skip
    return PolygenicScore(
        total=math.fsum(terms),
        n_alleles=2 * len(terms),
        n_matched=len(terms),
        n_variants=len(weights),
    )
