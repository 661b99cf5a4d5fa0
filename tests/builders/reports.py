"""Studies that were received and analysed, as far as other systems are told of them."""

from __future__ import annotations

from typing import Any

from inference.domain.job import JobState, RetryPolicy
from inference.domain.result import ResultDraft, ResultState
from inference.jobs.intake import Intake
from inference.storage import jobs, results
from inference.storage.results import FiledResult
from tests.builders.instances import ct_file, series_uid, study_uid
from tests.builders.rows import SENDER

LUNG = {"value": "39607008", "scheme": "SCT", "meaning": "Lung"}
LEFT = {"value": "7771000", "scheme": "SCT", "meaning": "Left"}
HEART = {"value": "80891009", "scheme": "SCT", "meaning": "Heart"}
SEGMENTS = (
    {
        "label": 1, "name": "Left lung", "type": LUNG, "modifier": LEFT,
        "volume_ml": 1234.5, "mean": -780.25, "sd": 90.5, "unit": "[hnsf'U]",
    },
    {
        "label": 3, "name": "Heart", "type": HEART,
        "volume_ml": 0.0125, "mean": 40.0, "sd": 11.0, "unit": "[hnsf'U]",
    },
)  # fmt: skip


def received(intake: Intake, study: int = 1, **attributes: Any) -> str:
    """Receive one image of a study; returns the study's UID."""
    given = {"IssuerOfPatientID": "HOSP"} | attributes
    intake.receive([ct_file(study=study, **given)], sender=SENDER)
    intake.close_study(study_uid(study))
    return study_uid(study)


def analysed(
    intake: Intake,
    study: int = 1,
    *,
    segments: tuple[dict[str, Any], ...] = SEGMENTS,
    state: ResultState = ResultState.FINDING,
    reason: str = "",
    key: str = "",
    **attributes: Any,
) -> int:
    """Receive a study and store a result of it; returns the result's id."""
    received(intake, study, **attributes)
    return store_result(
        intake, study, segments=segments, state=state, reason=reason, key=key or f"key-{study}"
    )


def store_result(
    intake: Intake,
    study: int,
    *,
    key: str,
    segments: tuple[dict[str, Any], ...] = SEGMENTS,
    state: ResultState = ResultState.FINDING,
    reason: str = "",
) -> int:
    """What a worker does with the study's job that is due."""
    database = intake.database
    with database.write() as connection:
        now = database.now(connection)
        job = jobs.claim(connection, now=now, owner="worker", policy=RetryPolicy())
        assert job is not None
        assert job.study_uid == study_uid(study)
        jobs.finish(connection, job.id, owner="worker", now=now, state=JobState.DONE)
        draft = ResultDraft(
            key=key,
            series_uid=series_uid(study),
            model="ct_thorax_seg",
            model_version="1.2.0",
            weights_sha256="ab" * 32,
            state=state,
            reason=reason,
            summary={
                "segments": list(segments),
                "status": "research",
                "software_version": "0.1.0",
            },
        )
        stored = results.store(connection, job, filed=[FiledResult(draft=draft, files=())], now=now)
    return stored.new[0]
