"""A study as a person asks for it: one word for its state, and one line for each result."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Connection

from inference.domain.job import Job, JobState, Priority
from inference.domain.result import Result, ResultState
from inference.domain.study import Study
from inference.domain.study_state import StudyState
from inference.pipeline.spec import ModelSpec
from inference.storage import jobs as job_store
from inference.storage import results as result_store
from inference.storage import studies as study_store
from inference.storage.states import Standing, standing_of, standings_of

WORDS = {
    "waiting": "Waiting",
    "running": "Running",
    "finding": "Finding",
    "no_finding": "No finding",
    "refused": "Refused",
    "not_applicable": "Not applicable",
    "failed": "Failed",
    "superseded": "Superseded",
}
"""States in words; with a symbol beside them on the page, so never by colour alone."""

FALLBACK_COLORS = ("#e6c229", "#5bc0eb", "#9bc53d", "#f25f5c", "#b388eb", "#f7a072", "#4ecdc4")
_SERIES_PREFIX = re.compile(r"^series [0-9.]+: ")


@dataclass(frozen=True, kw_only=True)
class StudyOverview:
    """A study with its state, its newest job and its current results."""

    study: Study
    standing: Standing
    job: Job | None
    results: tuple[Result, ...]

    @property
    def state(self) -> StudyState:
        """The one state of the study (`inference.storage.states`)."""
        return self.standing.state

    @property
    def reason(self) -> str:
        """Why the state is what it is, where that needs a reason."""
        if self.state in {StudyState.FINDING, StudyState.NO_FINDING, StudyState.RUNNING}:
            return ""
        return self.standing.reason


@dataclass(frozen=True, kw_only=True)
class SummaryLine:
    """One line of a study's row: a segment with its colour, or a reason."""

    kind: Literal["segment", "reason"]
    text: str
    color: str = ""


def overview_of(connection: Connection, study: Study) -> StudyOverview:
    """Look up a study's state, newest job and current results."""
    return _overview(connection, study, standing_of(connection, study.study_uid))


def list_overviews(
    connection: Connection, *, state: StudyState | None, limit: int, offset: int
) -> tuple[list[StudyOverview], bool]:
    """Return a page of studies, newest first, and whether there are more."""
    found = study_store.list_studies(connection, limit=limit + 1, offset=offset, state=state)
    standings = standings_of(connection, [study.study_uid for study in found[:limit]])
    page = [_overview(connection, study, standings[study.study_uid]) for study in found[:limit]]
    return page, len(found) > limit


def _overview(connection: Connection, study: Study, standing: Standing) -> StudyOverview:
    found = job_store.list_jobs(connection, study_uid=study.study_uid, limit=1)
    results = result_store.list_results(connection, study_uid=study.study_uid, limit=200)
    return StudyOverview(
        study=study, standing=standing, job=found[0] if found else None, results=results
    )


def summary_lines(
    overview: StudyOverview, models: Mapping[str, ModelSpec], *, most: int = 4
) -> list[SummaryLine]:
    """Return what a row says of the results."""
    lines: list[SummaryLine] = []
    for result in overview.results:
        if result.outcome is ResultState.FINDING:
            colors = segment_colors(result, models)
            lines += [
                SummaryLine(
                    kind="segment",
                    text=f"{segment['name']} {volume_text(segment['volume_ml'])} ml",
                    color=colors[segment["label"]],
                )
                for segment in result.summary.get("segments", ())
            ]
        elif result.outcome is ResultState.NO_FINDING:
            lines.append(SummaryLine(kind="reason", text="none of the structures was found"))
        elif result.reason:
            lines.append(SummaryLine(kind="reason", text=short(result.reason)))
    if not lines and overview.reason:
        lines.append(SummaryLine(kind="reason", text=short(overview.reason)))
    if len(lines) > most:
        rest = SummaryLine(kind="reason", text=f"and {len(lines) - most + 1} more")
        lines = [*lines[: most - 1], rest]
    return lines


def segment_colors(result: Result, models: Mapping[str, ModelSpec]) -> dict[int, str]:
    """Return a colour for each segment of a result: the model's, where it is still served."""
    colors = {
        segment["label"]: FALLBACK_COLORS[index % len(FALLBACK_COLORS)]
        for index, segment in enumerate(result.summary.get("segments", ()))
    }
    spec = models.get(result.model)
    if spec is not None:
        colors |= {label.value: hex_color(label.color_rgb) for label in spec.labels}
    return colors


def hex_color(rgb: tuple[int, int, int]) -> str:
    """Return a colour as CSS and SVG write it."""
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def volume_text(volume_ml: float) -> str:
    """Return millilitres with as many digits as mean something."""
    if volume_ml >= 100:
        return f"{volume_ml:.0f}"
    return f"{volume_ml:.1f}" if volume_ml >= 10 else f"{volume_ml:.2f}"


def short(text: str, limit: int = 240) -> str:
    """Cut a reason for a row: without the series' UID in front, and not too long."""
    text = _SERIES_PREFIX.sub("", text)
    return text if len(text) <= limit else text[: limit - 1].rstrip() + "…"


def priority_word(job: Job | None) -> str:
    """Return "stat" or "urgent" while it matters; routine needs no word."""
    if job is None or job.state is JobState.DONE or job.priority is Priority.ROUTINE:
        return ""
    return job.priority.name.lower()


def summary_of(result: Result) -> dict[str, Any]:
    """Return a result's figures without what only files its own folder."""
    return {
        name: value for name, value in result.summary.items() if name not in {"files", "study_uid"}
    }
