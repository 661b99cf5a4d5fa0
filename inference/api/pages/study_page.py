"""The study page's content: which series and result are shown, and everything beside them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

from inference.api.access import Identity
from inference.api.deps import ApiContext
from inference.api.errors import ApiError
from inference.api.overview import (
    WORDS,
    StudyOverview,
    overview_of,
    segment_colors,
    volume_text,
)
from inference.api.pages.cards import model_card
from inference.api.pages.change_rows import change_rows
from inference.api.pages.review_card import review_card
from inference.api.pages.review_words import Language
from inference.api.routes.changes import comparisons_of
from inference.api.routes.results import file_name
from inference.api.routes.views import series_files, view_data
from inference.domain.release import LateResult
from inference.domain.result import Result, ResultState
from inference.domain.study import Series
from inference.domain.study_state import StudyState
from inference.storage import late_results as late_store
from inference.storage import priors
from inference.storage import results as result_store
from inference.storage import studies as study_store

UNITS = {"[hnsf'U]": "HU", "1": "", "": ""}
"""UCUM codes as people write them."""

DOWNLOADS = (
    ("seg", "SEG", "DICOM Segmentation, for the PACS viewer"),
    ("sr", "SR", "DICOM Structured Report with the measurements"),
    ("gsps", "GSPS", "DICOM Presentation State with the outlines"),
    ("sc", "SC", "Secondary capture with the overlay burned in"),
    ("rtstruct", "RTSTRUCT", "DICOM Structure Set"),
    ("pdf", "PDF", "Report as DICOM Encapsulated PDF"),
    ("ko", "KO", "DICOM Key Object Selection"),
    ("pmap", "PMAP", "DICOM Parametric Map of the probability"),
    ("change", "CHANGE", "DICOM Structured Report of the change since an earlier study"),
    ("state", "WHY", "DICOM report of why there is no result"),
    ("rejection", "NOTE", "Rejection note (IHE IOCM) that takes this result back"),
    ("labels", "NIfTI", "Label map on the series' own grid"),
    ("sheet", "PNG", "Contact sheet with the overlay"),
    ("result", "JSON", "All figures of this result"),
)
_NEEDS_WORDS = (
    StudyState.FAILED,
    StudyState.REFUSED,
    StudyState.SUPERSEDED,
    StudyState.NOT_APPLICABLE,
)
_WITHOUT_REASON = {
    StudyState.SUPERSEDED: "Later images of the study came; this result was made without them.",
}
SHORTEST_STAGE_S = 0.005
"""Stages below it would be written 0.00 s."""

_BAR_WIDTH = 1000


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A series that may be shown, with the result that lies on it."""

    series: Series
    result: Result | None

    @property
    def title(self) -> str:
        """Name the series for a person."""
        name = self.series.description or self.series.body_part or "series"
        return f"{self.series.modality} {name} ({self.series.n_instances})".strip()


def study_page(
    context: ApiContext,
    identity: Identity,
    study_uid: str,
    *,
    wanted_series: str | None,
    wanted_result: int | None,
    language: Language = "en",
) -> dict[str, Any]:
    """Return what the template of the study page shows.

    Raises
    ------
    NotFoundError
    """
    with context.database.read() as connection:
        overview = overview_of(connection, study_store.get_study(connection, study_uid))
        series = study_store.list_series(connection, study_uid)
        instances = study_store.list_instances(connection, study_uid, images_only=True)
        everything = result_store.list_results(
            connection, study_uid=study_uid, current_only=False, limit=50
        )
        late = late_store.list_tasks(connection, study_uid=study_uid)
    image_uids = {instance.series_uid for instance in instances}
    choices = choices_of(overview, [one for one in series if one.series_uid in image_uids])
    shown = _shown(choices, wanted_series, wanted_result)
    view, no_view_reason = _view(context, study_uid, shown)
    result = shown.result if shown else None
    spec = context.models.get(result.model) if result else None
    review = review_card(context, identity, result, language) if result else None
    if view is not None and shown is not None:
        view["series_title"] = shown.title
        view["prior"] = _prior(context, result)
        view["review"] = review["page"] if review and view["labels_url"] else None
    return {
        "study": _study_fields(overview, identity),
        "is_open": overview.standing.is_pending,
        "stamp": stamp_of(overview),
        "is_research": spec is not None
        and spec.status == "research"
        and result is not None
        and result.outcome in {ResultState.FINDING, ResultState.NO_FINDING},
        "notes": _late_notes(late) + _notes(overview, result),
        "series_choices": [
            {
                "series_uid": choice.series.series_uid,
                "result_id": choice.result.id if choice.result else None,
                "title": choice.title,
                "model": choice.result.model if choice.result else "",
                "is_shown": choice is shown,
            }
            for choice in choices
        ],
        "view": view,
        "no_view_reason": no_view_reason,
        "result": _result_fields(context, result) if result else None,
        "review": review,
        "comparisons": change_rows(comparisons_of(context, result.id)) if result else [],
        "timings": _timings(result) if result else None,
        "card": model_card(spec) if spec else None,
        "other_results": [
            _other_fields(one, context)
            for one in everything
            if result is None or one.id != result.id
        ],
        "facts": _facts(overview, series),
    }


def choices_of(overview: StudyOverview, series: list[Series]) -> list[Choice]:
    """Pair image series with current results: those with a finding first, then by size."""
    choices: list[Choice] = []
    for one in series:
        on_it = [result for result in overview.results if result.series_uid == one.series_uid]
        choices += [Choice(series=one, result=result) for result in on_it] or [
            Choice(series=one, result=None)
        ]
    rank = {ResultState.FINDING: 0, ResultState.NO_FINDING: 1, ResultState.REFUSED: 2}
    return sorted(
        choices,
        key=lambda choice: (
            rank.get(choice.result.outcome, 3) if choice.result else 4,
            -choice.series.n_instances,
            choice.series.series_uid,
        ),
    )


def stamp_of(overview: StudyOverview) -> str:
    """Return a text that changes whenever the page would look different."""
    job = overview.job
    parts = [
        overview.state.value,
        str(overview.study.n_instances),
        f"{job.state} {job.step}" if job else "",
        *(str(result.id) for result in overview.results),
    ]
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:16]


def _shown(choices: list[Choice], series_uid: str | None, result_id: int | None) -> Choice | None:
    for choice in choices:
        is_series = series_uid is None or choice.series.series_uid == series_uid
        is_result = result_id is None or (
            choice.result is not None and choice.result.id == result_id
        )
        if is_series and is_result:
            return choice
    return choices[0] if choices else None


def _view(
    context: ApiContext, study_uid: str, shown: Choice | None
) -> tuple[dict[str, Any] | None, str]:
    if shown is None:
        return None, "The study has no images to show yet."
    try:
        files = series_files(context, study_uid, shown.series.series_uid)
        return view_data(context, files, shown.result), ""
    except ApiError as error:
        return None, f"The slices cannot be drawn: {error.detail}"


def _prior(context: ApiContext, result: Result | None) -> dict[str, str] | None:
    """Return where the newest earlier result of the patient and model can be fetched from."""
    if result is None:
        return None
    with context.database.read() as connection:
        found = priors.priors_of(connection, result.id)
    if not found:
        return None
    date = found[0].study_date
    return {
        "url": f"/v1/views/results/{found[0].result_id}",
        "title": f"{date[:4]}-{date[4:6]}-{date[6:8]}",
    }


def _study_fields(overview: StudyOverview, identity: Identity) -> dict[str, Any]:
    study = overview.study
    return {
        "study_uid": study.study_uid,
        "title": study_title(overview),
        "patient_name": person_name(study.patient_name) if identity.sees_patient_names else "",
        "state": overview.state.value,
        "state_word": WORDS[overview.state],
    }


def study_title(overview: StudyOverview) -> str:
    """Name a study: description, else modalities, and its date."""
    study = overview.study
    name = study.description or f"{' '.join(study.modalities) or 'Unknown'} study"
    date = study.study_date
    return f"{name} · {date[:4]}-{date[4:6]}-{date[6:8]}" if len(date) == 8 else name


def person_name(value: str) -> str:
    """Write a DICOM person name as people read it: family name, then the rest."""
    parts = [part for part in value.split("=")[0].split("^") if part]
    return f"{parts[0]}, {' '.join(parts[1:])}" if len(parts) > 1 else "".join(parts)


def _late_notes(late: tuple[LateResult, ...]) -> list[dict[str, str]]:
    """Say which results nobody has seen who signed the report."""
    return [
        {
            "kind": "problem",
            "head": "Late result.",
            "text": f"Result {task.result_id} came after the report was signed by"
            f" {task.signed_by} ({task.signed_at:%Y-%m-%d %H:%M} UTC); a reader has to acknowledge"
            " it.",
        }
        for task in late
    ]


def _notes(overview: StudyOverview, result: Result | None) -> list[dict[str, str]]:
    """Say what the state means, and every part that did not decide it: nothing is left unsaid."""
    job, state = overview.job, overview.state
    notes: list[dict[str, str]] = []
    if state is StudyState.WAITING:
        text = "More images may come; the study is analysed once it is quiet."
        if job is not None and job.reason:
            text = f"The last try failed and will be repeated: {job.reason}"
        notes.append({"kind": "info", "head": "Waiting.", "text": text})
    elif state is StudyState.RUNNING and job is not None:
        notes.append({"kind": "info", "head": "Running.", "text": job.step or "starting"})
    decided = overview.standing.parts[0]
    for part in overview.standing.parts:
        if part.state not in _NEEDS_WORDS:
            continue
        kind = "problem" if part.state is StudyState.FAILED else "reason"
        text = part.reason or _WITHOUT_REASON.get(part.state, "")
        name = f" {part.model}." if part.model and part is not decided else ""
        notes.append({"kind": kind, "head": f"{WORDS[part.state]}.{name}", "text": text})
    if overview.standing.is_pending and state not in (StudyState.WAITING, StudyState.RUNNING):
        notes.append({"kind": "info", "head": "", "text": "A new analysis is on its way."})
    return notes


def _result_fields(context: ApiContext, result: Result) -> dict[str, Any]:
    colors = segment_colors(result, context.models)
    segments = result.summary.get("segments", [])
    spec = context.models.get(result.model)
    units = {UNITS.get(segment["unit"], segment["unit"]) for segment in segments}
    return {
        "title": spec.title if spec else result.model,
        "outcome": result.outcome.value,
        "reason": result.reason,
        "unit": units.pop() if len(units) == 1 else "",
        "segments": [
            {
                "label": segment["label"],
                "name": segment["name"],
                "color": colors[segment["label"]],
                "volume": volume_text(segment["volume_ml"]),
                "mean": _figure(segment["mean"], segment["sd"]),
                "sd": _figure(segment["sd"], segment["sd"]),
            }
            for segment in segments
        ],
        "downloads": [
            {
                "url": f"/v1/results/{result.id}/files/{file.kind}",
                "name": file_name(result, file.kind),
                "word": word,
                "title": title,
                "size": size_text(file.size_bytes),
            }
            for base, word, title in DOWNLOADS
            for file in sorted(result.files, key=lambda file: file.kind)
            if file.kind.split("-")[0].split("_")[0] == base
        ],
        "made": f"Result {result.id}, made {result.created_at:%Y-%m-%d %H:%M} UTC"
        + (
            f" from version {result.study_version} of the study" if result.study_version > 1 else ""
        ),
    }


def _other_fields(result: Result, context: ApiContext) -> dict[str, str]:
    spec = context.models.get(result.model)
    title = spec.title if spec else result.model or "whole study"
    return {
        "state": result.state.value,
        "state_word": WORDS[result.state.value],
        "title": f"{title}, {result.created_at:%Y-%m-%d %H:%M} UTC",
        "reason": result.reason,
    }


def _timings(result: Result) -> dict[str, Any] | None:
    seconds = {name: value for name, value in result.stages_s.items() if value >= SHORTEST_STAGE_S}
    total = sum(seconds.values())
    if not total > 0:
        return None
    stages: list[dict[str, Any]] = []
    x = 0.0
    for name, value in seconds.items():
        width = value / total * _BAR_WIDTH
        stages.append(
            {"name": name, "seconds": f"{value:.2f}", "x": f"{x:.2f}", "w": f"{width:.2f}"}
        )
        x += width
    engine = result.summary.get("engine", {})
    words = [
        str(engine[key]) for key in ("backend", "engine", "precision", "device") if key in engine
    ]
    peak = result.peak_memory_mib
    words += [f"peak memory {peak:.0f} MiB"] if peak is not None else []
    return {"total": f"{total:.2f}", "stages": stages, "engine": " · ".join(words)}


def _facts(overview: StudyOverview, series: tuple[Series, ...]) -> list[tuple[str, str]]:
    study = overview.study
    images = str(study.n_instances)
    if study.expected_instances is not None:
        images += f" of {study.expected_instances}"
    return [
        ("Modalities", ", ".join(study.modalities) or "unknown"),
        ("Series", str(len(series))),
        ("Images", images),
        ("Received", f"{study.first_received_at:%Y-%m-%d %H:%M:%S} UTC"),
        ("Version", str(study.version)),
    ]


def _figure(value: float, sd: float) -> str:
    """Write a mean or its SD: whole numbers where the SD is 2 or more; with a real minus sign."""
    text = f"{value:.0f}" if sd >= 2 or abs(value) >= 100 else f"{value:.2f}"
    return text.replace("-", "−")


def size_text(n_bytes: int) -> str:
    """Write a file size for a person."""
    if n_bytes >= 2**20:
        return f"{n_bytes / 2**20:.1f} MB"
    return f"{max(1, round(n_bytes / 2**10))} kB"
