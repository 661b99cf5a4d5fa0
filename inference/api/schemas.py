"""What HTTP sends: one model per thing, with examples; no logic but the copying."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from inference.domain.job import Job, JobState
from inference.domain.result import Delivery, DeliveryState, Result, ResultState
from inference.domain.study import Series
from inference.domain.study_state import StudyState
from inference.pipeline.spec import ModelSpec
from inference.storage.states import Part

T = TypeVar("T")
UID_EXAMPLE = "1.2.826.0.1.3680043.8.498.1"
PriorityName = Literal["stat", "urgent", "routine"]


class _Out(BaseModel):
    model_config = ConfigDict(frozen=True, json_schema_serialization_defaults_required=True)


class ProblemOut(_Out):
    """A problem (RFC 9457); ``code`` is stable, see docs/errors.md."""

    type: str = Field(examples=["urn:clinfer:problem:not_found"])
    title: str = Field(examples=["There is no such thing"])
    status: int = Field(examples=[404])
    code: str = Field(examples=["not_found"])
    detail: str = Field(examples=[f"no study {UID_EXAMPLE}"])
    request_id: str = Field(examples=["5f0c9a1e22b84d10"])


class PageOut(_Out, Generic[T]):
    """A page of a list; ``next`` is the address of the next one, null on the last."""

    items: list[T]
    next: str | None = Field(default=None, examples=["/v1/studies?limit=50&offset=50"])


class SeriesOut(_Out):
    """One series of a study."""

    series_uid: str = Field(examples=[UID_EXAMPLE + ".2"])
    modality: str = Field(examples=["CT"])
    description: str = Field(examples=["Thorax 1.0 mm"])
    body_part: str = Field(examples=["CHEST"])
    n_instances: int = Field(examples=[99])

    @classmethod
    def of(cls, series: Series) -> SeriesOut:
        """Copy the domain's."""
        return cls(
            series_uid=series.series_uid,
            modality=series.modality,
            description=series.description,
            body_part=series.body_part,
            n_instances=series.n_instances,
        )


class SegmentOut(_Out):
    """One structure that was found; ``unit`` (UCUM) is that of mean and SD."""

    label: int = Field(examples=[1])
    name: str = Field(examples=["Left lung"])
    volume_ml: float = Field(examples=[2431.7])
    mean: float = Field(examples=[-812.4])
    sd: float = Field(examples=[97.2])
    unit: str = Field(examples=["[hnsf'U]"])
    long_axis_mm: float | None = Field(
        default=None, description="on the slice with the largest area", examples=[182.4]
    )
    short_axis_mm: float | None = Field(default=None, examples=[96.1])
    tracking_uid: str = Field(default="", examples=["2.25.317468530114862195"])


class FileOut(_Out):
    """One file of a result; ``url`` is where to fetch it."""

    kind: str = Field(examples=["seg"])
    media_type: str = Field(examples=["application/dicom"])
    size_bytes: int = Field(examples=[184_320])
    sha256: str = Field(
        examples=["9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"]
    )
    instance_uid: str = Field(examples=["2.25.317468530114862194"])
    url: str = Field(examples=["/v1/results/7/files/seg"])


class ResultOut(_Out):
    """What one model made of one series; ``outcome`` stays when ``state`` becomes superseded."""

    id: int = Field(examples=[7])
    study_uid: str = Field(examples=[UID_EXAMPLE])
    study_version: int = Field(examples=[1])
    series_uid: str = Field(examples=[UID_EXAMPLE + ".2"])
    model: str = Field(examples=["ct_lung_seg"])
    model_version: str = Field(examples=["1.0.0"])
    weights_sha256: str
    state: ResultState
    outcome: ResultState
    is_current: bool
    superseded_by: int | None
    reason_code: str = Field(examples=[""])
    reason: str = Field(examples=[""])
    segments: list[SegmentOut]
    timings_s: dict[str, float] = Field(examples=[{"read": 0.41, "network": 3.2, "total": 5.9}])
    stages_s: dict[str, float] = Field(
        description="seconds of receive, decode, resample, queue, network, merge, encode, deliver",
        examples=[{"receive": 3.1, "decode": 0.41, "queue": 10.2, "network": 3.2}],
    )
    peak_memory_mib: float | None = Field(examples=[812.5])
    engine: dict[str, Any]
    files: list[FileOut]
    created_at: datetime

    @classmethod
    def of(cls, result: Result) -> ResultOut:
        """Copy the domain's; the address of each file is added."""
        summary = result.summary
        return cls(
            id=result.id,
            study_uid=result.study_uid,
            study_version=result.study_version,
            series_uid=result.series_uid,
            model=result.model,
            model_version=result.model_version,
            weights_sha256=result.weights_sha256,
            state=result.state,
            outcome=result.outcome,
            is_current=result.is_current,
            superseded_by=result.superseded_by,
            reason_code=result.reason_code,
            reason=result.reason,
            segments=[SegmentOut.model_validate(one) for one in summary.get("segments", ())],
            timings_s=summary.get("timings_s", {}),
            stages_s=result.stages_s,
            peak_memory_mib=result.peak_memory_mib,
            engine=summary.get("engine", {}),
            files=[
                FileOut(
                    kind=file.kind,
                    media_type=file.media_type,
                    size_bytes=file.size_bytes,
                    sha256=file.sha256,
                    instance_uid=file.instance_uid,
                    url=f"/v1/results/{result.id}/files/{file.kind}",
                )
                for file in result.files
            ],
            created_at=result.created_at,
        )


class JobOut(_Out):
    """A unit of queued work; ``progress`` is a fraction of the running attempt."""

    id: int = Field(examples=[12])
    study_uid: str = Field(examples=[UID_EXAMPLE])
    study_version: int = Field(examples=[1])
    model: str = Field(description="empty: every model that fits", examples=[""])
    state: JobState
    priority: PriorityName
    tries: int = Field(examples=[0])
    progress: float = Field(examples=[0.4])
    step: str = Field(examples=["CT: resample"])
    reason_code: str = Field(examples=[""])
    reason: str = Field(examples=[""])
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def of(cls, job: Job) -> JobOut:
        """Copy the domain's."""
        fields = {name: getattr(job, name) for name in cls.model_fields if name != "priority"}
        return cls(**fields, priority=job.priority.name.lower())


class PartOut(_Out):
    """One thing that a study's state is made of: a result, or a job that waits or runs."""

    state: StudyState
    result_id: int | None = Field(examples=[7])
    job_id: int | None = Field(examples=[None])
    series_uid: str = Field(examples=[UID_EXAMPLE + ".2"])
    model: str = Field(examples=["ct_lung_seg"])
    reason_code: str = Field(examples=[""])
    reason: str = Field(examples=[""])

    @classmethod
    def of(cls, part: Part) -> PartOut:
        """Copy the storage's."""
        return cls(**{name: getattr(part, name) for name in cls.model_fields})


class StudyOut(_Out):
    """A study; names are null where no key was shown (see docs/api.md)."""

    study_uid: str = Field(examples=[UID_EXAMPLE])
    description: str = Field(examples=["CT thorax"])
    study_date: str = Field(examples=["20260131"])
    patient_name: str | None
    patient_id: str | None
    accession_number: str | None
    modalities: list[str] = Field(examples=[["CT"]])
    n_series: int = Field(examples=[1])
    n_instances: int = Field(examples=[99])
    expected_instances: int | None = Field(examples=[99])
    version: int = Field(examples=[1])
    state: StudyState = Field(description="the one state, the same on every door")
    outcome: StudyState = Field(description="the same as state; kept for older programs")
    reason: str = Field(examples=[""])
    is_pending: bool = Field(description="whether an analysis waits or runs", examples=[False])
    parts: list[PartOut] = Field(description="what the state is made of, what decided it first")
    first_received_at: datetime
    last_received_at: datetime


class StudyDetailOut(StudyOut):
    """A study with its series, its newest job and its current results."""

    series: list[SeriesOut]
    job: JobOut | None
    results: list[ResultOut]


class DeliveryOut(_Out):
    """One file of a result on its way to one destination."""

    id: int = Field(examples=[3])
    result_id: int = Field(examples=[7])
    study_uid: str = Field(examples=[UID_EXAMPLE])
    kind: str = Field(examples=["seg"])
    instance_uid: str
    destination: str = Field(examples=["pacs"])
    state: DeliveryState
    tries: int
    next_at: datetime
    last_error: str
    created_at: datetime
    delivered_at: datetime | None

    @classmethod
    def of(cls, delivery: Delivery) -> DeliveryOut:
        """Copy the domain's."""
        return cls(**{name: getattr(delivery, name) for name in cls.model_fields})


class ModelOut(_Out):
    """A model that is served."""

    name: str = Field(examples=["ct_lung_seg"])
    version: str = Field(examples=["1.0.0"])
    title: str = Field(examples=["Left and right lung on CT"])
    status: Literal["research", "released"]
    intended_use: str
    modalities: list[str] = Field(examples=[["CT"]])
    labels: list[str] = Field(examples=[["Left lung", "Right lung"]])
    weights_sha256: str

    @classmethod
    def of(cls, spec: ModelSpec) -> ModelOut:
        """Copy the spec's."""
        return cls(
            name=spec.name,
            version=spec.version,
            title=spec.title,
            status=spec.status,
            intended_use=spec.intended_use,
            modalities=list(spec.scope.modalities),
            labels=[label.name for label in spec.labels],
            weights_sha256=spec.weights.sha256,
        )


class RefusedFileOut(_Out):
    """A file of an upload that was not taken."""

    name: str = Field(examples=["IM0007"])
    code: str = Field(examples=["damaged_file"])
    detail: str


class ReceivedStudyOut(_Out):
    """What an upload added to one study."""

    study_uid: str = Field(examples=[UID_EXAMPLE])
    n_new: int = Field(examples=[99])
    n_repeated: int = Field(examples=[0])
    job_id: int | None = Field(examples=[12])
    url: str = Field(examples=[f"/v1/studies/{UID_EXAMPLE}"])


class UploadOut(_Out):
    """What became of an upload; everything counted here is durably stored."""

    studies: list[ReceivedStudyOut]
    refused: list[RefusedFileOut] = Field(description="the first hundred")
    n_refused: int = Field(examples=[0])


class CheckOut(_Out):
    """One part of the service."""

    name: str = Field(examples=["database"])
    is_ready: bool
    detail: str = Field(examples=[""])


class ReadyOut(_Out):
    """Whether the service can take and analyse studies, and which part cannot."""

    is_ready: bool
    checks: list[CheckOut]
