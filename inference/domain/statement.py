"""A conformance statement as sections of prose and tables; a page and a document show the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class StatementTable:
    """One table; every row has as many cells as there are columns."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, kw_only=True)
class Section:
    """One section; ``title_zh`` is its title in Chinese."""

    title: str
    title_zh: str
    text: str
    tables: tuple[StatementTable, ...] = ()


def markdown(title: str, sections: Sequence[Section]) -> str:
    """Write sections as a Markdown document."""
    lines = [f"# {title}", ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.text, ""]
        for table in section.tables:
            lines.append(f"| {' | '.join(table.columns)} |")
            lines.append(f"| {' | '.join('---' for _ in table.columns)} |")
            lines += [f"| {' | '.join(_cell(one) for one in row)} |" for row in table.rows]
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
