"""RADPEER (2016): codes of a second reading; the four-point scale before it is obsolete."""

from __future__ import annotations

from types import MappingProxyType

from inference.domain.care_errors import PopulationError

SOURCE = "Goldberg-Stein S et al. J Am Coll Radiol 2017;14:1080-1086; ACR RADPEER questions"
LEVELS = MappingProxyType(
    {
        "1": "concur",
        "2": "discrepancy, not ordinarily expected",
        "3": "discrepancy, should be made most of the time",
    }
)
SIGNIFICANCE = MappingProxyType(
    {"a": "unlikely clinically significant", "b": "likely clinically significant"}
)
REVIEW_FIRST = ("2b", "3a", "3b")
"""Codes that go to internal review before they are submitted."""


def explain(code: str) -> str:
    """Return a code ("1", "2a", "3b") in words.

    Raises
    ------
    PopulationError
        No code of the 2016 scale; "4" belonged to the older one.
    """
    if code == "1":
        return LEVELS["1"]
    if len(code) == 2 and code[0] in ("2", "3") and code[1] in SIGNIFICANCE:
        return f"{LEVELS[code[0]]}; {SIGNIFICANCE[code[1]]}"
    raise PopulationError(
        formula="RADPEER 2016", field="code", value=code, studied="1, 2a, 2b, 3a, 3b"
    )


def needs_internal_review(code: str) -> bool:
    """Whether a code is reviewed before it is submitted.

    Raises
    ------
    PopulationError
    """
    explain(code)
    return code in REVIEW_FIRST
