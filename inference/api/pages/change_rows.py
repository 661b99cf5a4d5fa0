"""Changes since earlier results, as rows of the study page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from inference.domain.change import Comparison, Judgement, QuantityChange, SegmentChange


def change_rows(comparisons: Sequence[Comparison]) -> list[dict[str, Any]]:
    """Return what the template shows of each prior, the latest first."""
    return [
        {
            "study_uid": one.prior.study_uid,
            "date": _date(one.prior.study_date),
            "reason": one.reason,
            "rows": [_row(change) for change in one.changes],
        }
        for one in comparisons
    ]


def _row(change: SegmentChange) -> dict[str, str]:
    figures = [one for one in (change.volume_ml, change.long_axis_mm) if one is not None]
    judged = [one for one in figures if one.judgement is not Judgement.LIMITS_UNKNOWN]
    beyond = [one for one in judged if one.judgement is Judgement.BEYOND_LIMITS]
    strongest = next(iter(beyond or judged or figures), None)
    return {
        "name": change.name,
        "match": change.match.value,
        "volume": _figure(change.volume_ml),
        "axis": _figure(change.long_axis_mm),
        "judgement": strongest.judgement.value if strongest else "",
    }


def _figure(change: QuantityChange | None) -> str:
    """Write both values, the difference and its percent of the earlier one."""
    if change is None:
        return "–"
    percent = "" if change.percent is None else f", {change.percent:+.1f} %"
    text = f"{change.earlier:.1f} → {change.later:.1f} ({change.difference:+.1f}{percent})"
    return text.replace("-", "−")


def _date(date: str) -> str:
    return f"{date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == len("20260101") else date
