"""Run a suite of vectors and say, module by module, how far each answer is from its source."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from inference.domain.errors import RefusedError
from inference.vectors import (
    disease_risk,
    genomics,
    health,
    infusion,
    medication,
    surgical,
    telemedicine,
    triage,
    vitals,
)
from inference.vectors.cases import Case, Difference, compare
from inference.vectors.document import Suite, Vector

MODULES: Mapping[str, tuple[Case, ...]] = MappingProxyType(
    {
        "disease_risk": disease_risk.CASES,
        "genomics": genomics.CASES,
        "health": health.CASES,
        "infusion": infusion.CASES,
        "medication": medication.CASES,
        "surgical": surgical.CASES,
        "telemedicine": telemedicine.CASES,
        "triage": triage.CASES,
        "vitals": vitals.CASES,
    }
)


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One vector's result.

    Attributes
    ----------
    problem : "" where it passed; else the first field that differs, or what is unknown
    error : largest absolute difference of a number; ``share`` : largest part of its tolerance used
    """

    id: str
    module: str
    case: str
    problem: str
    error: float
    share: float


@dataclass(frozen=True, kw_only=True)
class ModuleResult:
    """Counts and the worst vector of one module; errors are absolute, in the vector's own unit."""

    module: str
    n_vectors: int
    n_passed: int
    worst_error: float
    worst_share: float
    worst_id: str


def run_suite(suite: Suite) -> tuple[Verdict, ...]:
    """Evaluate every vector; a refusal of a formula is that vector's miss."""
    return tuple(_run_one(vector, suite) for vector in suite.vectors)


def summarise(verdicts: Sequence[Verdict]) -> tuple[ModuleResult, ...]:
    """Return one row per module, by name."""
    rows = []
    for module in sorted({one.module for one in verdicts}):
        own = [one for one in verdicts if one.module == module]
        worst = max(own, key=lambda one: one.share)
        rows.append(
            ModuleResult(
                module=module,
                n_vectors=len(own),
                n_passed=sum(not one.problem for one in own),
                worst_error=worst.error,
                worst_share=worst.share,
                worst_id=worst.id if worst.share > 0 else "",
            )
        )
    return tuple(rows)


def _run_one(vector: Vector, suite: Suite) -> Verdict:
    cases = MODULES.get(vector.module)
    if cases is None:
        return _failed(vector, "", f"unknown module {vector.module!r}")
    case = next((one for one in cases if one.fits(vector)), None)
    if case is None:
        asked = ", ".join(sorted(vector.inputs)) or "none"
        return _failed(vector, "", f"no formula of {vector.module} takes these fields: {asked}")
    unknown = sorted(set(vector.inputs) - case.needs - case.may)
    if unknown:
        return _failed(vector, case.name, f"unknown input field {', '.join(unknown)}")
    try:
        found = case.answer(vector, suite)
        differences = compare(case, vector, found)
    except RefusedError as error:
        return _failed(vector, case.name, f"refused: {error}")
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        return _failed(vector, case.name, f"its inputs are not understood: {error!r}")
    if not differences:
        return _failed(vector, case.name, "it expects nothing that is computed")
    return _verdict(vector, case, differences)


def _verdict(vector: Vector, case: Case, differences: Sequence[Difference]) -> Verdict:
    missed = [one for one in differences if not one.is_passed]
    problem = ""
    if missed:
        first = missed[0]
        problem = f"{first.field}: expected {first.expected!r}, found {first.found!r}"
        if math.isfinite(first.error):
            problem += f" (difference {first.error:.3g}, allowed {first.allowed:.3g})"
    return Verdict(
        id=vector.id,
        module=vector.module,
        case=case.name,
        problem=problem,
        error=max(one.error for one in differences),
        share=max(one.error / one.allowed if one.allowed else one.error for one in differences),
    )


def _failed(vector: Vector, case: str, problem: str) -> Verdict:
    return Verdict(
        id=vector.id,
        module=vector.module,
        case=case,
        problem=problem,
        error=math.inf,
        share=math.inf,
    )
