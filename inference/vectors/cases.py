"""What an evaluator of vectors is, and how its answer is compared with the expected one."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from inference.vectors.document import Printed, Suite, Vector

Answer = Mapping[str, Any]
QUOTED = frozenset({"published_text"})
"""Fields that quote the publication and are not computed."""

EXACT = 1e-9
"""Allowed difference where a vector names no tolerance."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One kind of vector: which inputs it has and what computes its answer.

    Attributes
    ----------
    needs, may : input fields that are there, and that may be there; any other is unknown
    about : searched in the vector's id, where the inputs alone do not say which formula is meant
    variant : of the computation, where the vectors give each its own tolerance
    is_rounded : without a tolerance, half a unit of the last printed digit is allowed
    spelling : field to a function that brings two ways of writing the same thing together
    """

    name: str
    needs: frozenset[str]
    answer: Callable[[Vector, Suite], Answer]
    may: frozenset[str] = frozenset()
    about: str = ""
    variant: str = ""
    is_rounded: bool = False
    spelling: Mapping[str, Callable[[str], str]] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def fits(self, vector: Vector) -> bool:
        """Whether the vector has the inputs, and the name, of this kind."""
        return self.needs <= set(vector.inputs) and bool(re.search(self.about, vector.id, re.I))


def fields(names: str) -> frozenset[str]:
    """Return the names in a text, as a set."""
    return frozenset(names.split())


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One field of one vector, compared.

    Attributes
    ----------
    error : absolute difference of numbers, 0 for equal words, infinite where not comparable
    allowed : the tolerance; ``is_passed`` decides
    """

    field: str
    expected: Any
    found: Any
    error: float
    allowed: float
    is_passed: bool


def compare(case: Case, vector: Vector, found: Answer) -> list[Difference]:
    """Compare every expected field; one that was not computed is a difference of its own."""
    differences: list[Difference] = []
    for name, expected in vector.expected.items():
        if name in QUOTED:
            continue
        if name not in found:
            differences.append(_miss(name, expected, "(no such field is computed)"))
        else:
            differences += _compare(case, vector, name, expected, found[name])
    return differences


def _compare(case: Case, vector: Vector, name: str, expected: Any, found: Any) -> list[Difference]:
    if isinstance(expected, dict):
        if not isinstance(found, Mapping):
            return [_miss(name, expected, found)]
        parts: list[Difference] = []
        for key, value in expected.items():
            label = f"{name}.{key}"
            if key in found:
                parts += _compare(case, vector, label, value, found[key])
            else:
                parts.append(_miss(label, value, "(no such field is computed)"))
        return parts
    if isinstance(expected, list):
        is_list = isinstance(found, Sequence) and not isinstance(found, str)
        if not is_list or len(found) != len(expected):
            return [_miss(name, expected, found)]
        return [
            one
            for i, (want, have) in enumerate(zip(expected, found, strict=True))
            for one in _compare(case, vector, f"{name}[{i}]", want, have)
        ]
    if isinstance(expected, str):
        spell = case.spelling.get(name.split("[")[0].split(".")[-1], _plain_text)
        is_same = isinstance(found, str) and spell(found) == spell(expected)
        return [_verdict(name, expected, found, 0.0 if is_same else math.inf, 0.0)]
    if isinstance(expected, bool) or expected is None:
        return [_verdict(name, expected, found, 0.0 if found is expected else math.inf, 0.0)]
    if isinstance(found, bool) or not isinstance(found, int | float):
        return [_miss(name, expected, found)]
    error = abs(float(found) - float(expected))
    error = error if math.isfinite(error) else math.inf
    return [_verdict(name, expected, found, error, _allowed(case, vector, expected))]


def _allowed(case: Case, vector: Vector, expected: float) -> float:
    tolerance = vector.tolerance(case.variant)
    if tolerance is not None:
        # A value that lies on the tolerance's very edge is inside, whatever binary makes of it.
        return tolerance.allowed(float(expected)) * (1 + 1e-9) + 1e-15
    if case.is_rounded and isinstance(expected, Printed):
        return expected.half_last_digit * (1 + 1e-9)
    return EXACT


def _plain_text(text: str) -> str:
    return " ".join(text.casefold().split())


def _verdict(name: str, expected: Any, found: Any, error: float, allowed: float) -> Difference:
    return Difference(
        field=name,
        expected=expected,
        found=found,
        error=error,
        allowed=allowed,
        is_passed=error <= allowed,
    )


def _miss(name: str, expected: Any, found: Any) -> Difference:
    return _verdict(name, expected, found, math.inf, 0.0)
