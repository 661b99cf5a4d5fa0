"""The result of a run as a Markdown table: docs/care/vectors.md is made by this."""

from __future__ import annotations

from collections.abc import Sequence

from inference.vectors.run import Verdict, summarise

HEAD = """# Acceptance vectors

`clinfer check vectors FILE` evaluates a file of published or independently computed answers with
the formulas that are installed. This page is written by `--markdown`; a test compares it with a new
run.

"Worst" is the vector that uses the largest part of its own tolerance. Where a vector names no
tolerance, numbers must agree to 1e-9 and words exactly.

"""


def markdown_table(verdicts: Sequence[Verdict]) -> str:
    """Return the page: one row per module, then one per kind of vector."""
    lines = ["| module | vectors | passed | worst error | part of its tolerance | vector |"]
    lines.append("| --- | ---: | ---: | ---: | ---: | --- |")
    for row in summarise(verdicts):
        worst = f"`{row.worst_id}`" if row.worst_share > 1e-3 else ""
        lines.append(
            f"| {row.module} | {row.n_vectors} | {row.n_passed}"
            f" | {_size(row.worst_error, row.worst_share)} | {_percent(row.worst_share)}"
            f" | {worst} |"
        )
    lines += ["", "| module | kind | vectors | passed |", "| --- | --- | ---: | ---: |"]
    kinds = sorted({(one.module, one.case) for one in verdicts})
    for module, kind in kinds:
        own = [one for one in verdicts if (one.module, one.case) == (module, kind)]
        passed = sum(not one.problem for one in own)
        lines.append(f"| {module} | {kind or '(unknown)'} | {len(own)} | {passed} |")
    return HEAD + "\n".join(lines) + "\n"


def _size(error: float, share: float) -> str:
    """Leave rounding noise of the machine out: it differs from one to the next."""
    return "0" if share <= 1e-3 else f"{error:.1e}"


def _percent(share: float) -> str:
    return "0 %" if share <= 1e-3 else f"{100 * share:.0f} %" if share < 1e6 else "-"
