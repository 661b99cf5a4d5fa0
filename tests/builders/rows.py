"""Rows for store tests: instances that were received, drafts that were filed."""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta

from sqlalchemy import Connection

from inference.domain.job import Priority
from inference.domain.result import ResultDraft, ResultFile, ResultState
from inference.domain.study import Channel, Description, Instance, Sender
from inference.storage import jobs, studies
from inference.storage.results import FiledResult
from tests.builders.instances import CT_IMAGE, instance_uid, series_uid, study_uid

SENDER = Sender(channel=Channel.DIMSE, name="CT1", address="127.0.0.1")


def sha256_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def description(study: int = 1, **changes: str) -> Description:
    fields = {
        "patient_id": f"PATIENT-{study}",
        "patient_name": "Phantom^Built",
        "study_date": "20261122",
        "accession_number": "A1",
        "study_description": "built",
        "modality": "CT",
        "series_description": "thin",
        "body_part": "CHEST",
    }
    return Description(**(fields | changes))


def instance(
    at: datetime, *, study: int = 1, slice_number: int = 1, content: str = "a"
) -> Instance:
    digest = sha256_of(f"{study}/{slice_number}/{content}")
    return Instance(
        instance_uid=instance_uid(study, slice_number),
        series_uid=series_uid(study),
        study_uid=study_uid(study),
        sop_class_uid=CT_IMAGE,
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=digest,
        dataset_sha256=digest,
        original_sha256=digest,
        size_bytes=1000,
        is_image=True,
        received_at=at,
        sender=SENDER,
    )


def receive(
    connection: Connection,
    at: datetime,
    *,
    study: int = 1,
    slice_number: int = 1,
    wait_s: float = 0.0,
    priority: Priority = Priority.ROUTINE,
) -> int:
    """What intake does in its transaction; the job's id."""
    studies.add_instance(
        connection, instance(at, study=study, slice_number=slice_number), description(study)
    )
    return jobs.collect(
        connection,
        study_uid(study),
        now=at,
        run_after=at + timedelta(seconds=wait_s),
        priority=priority,
    )


def filed(
    key: str,
    *,
    series: str = "1.2.3",
    model: str = "ct_lung_seg",
    state: ResultState = ResultState.FINDING,
    kinds: tuple[str, ...] = (),
) -> FiledResult:
    return FiledResult(
        draft=ResultDraft(
            key=key,
            series_uid=series,
            model=model,
            model_version="1.0.0",
            weights_sha256="w",
            state=state,
            summary={"volume_ml": 1.5, "status": "released"},
        ),
        files=tuple(
            ResultFile(
                kind=kind,
                sha256=sha256_of(key + kind),
                size_bytes=10,
                media_type="application/dicom",
                sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4",
                instance_uid=f"2.25.{len(key)}{len(kind)}",
            )
            for kind in kinds
        ),
    )
