"""What the reading list's routes send and take."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from inference.domain.reading import Conclusion, Queue, Read, Reader, ReadRole
from inference.domain.study_state import StudyState
from inference.services.telemedicine.listing import Row, Standing
from inference.services.telemedicine.rules import radpeer
from inference.storage.critical_results import CriticalResult, PeerReview

Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\\]+$")]
Word = Annotated[str, Field(max_length=64, pattern=r"^[^\x00-\x1f\\]*$")]
WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL keeps no NUL in a text."""

WITH_WORDS = r"^[^\x00]*[^\x00\s][^\x00]*$"
Text = Annotated[str, Field(max_length=20_000, pattern=WITHOUT_NUL)]
Reason = Annotated[str, Field(min_length=3, max_length=500, pattern=WITH_WORDS)]
Seconds = Annotated[int, Field(ge=60, le=30 * 86_400, description="seconds")]
PriorityWord = Literal["stat", "urgent", "routine"]


class Body(BaseModel):
    """A body whose every field is known."""

    model_config = ConfigDict(extra="forbid")


class SignIn(Body):
    """A signed reading."""

    conclusion: Literal["no_finding", "finding", "critical"]
    finding_codes: list[Name] = Field(
        default_factory=list, max_length=50, description="codes of what was found, scheme:value"
    )
    report: Text = ""


class ReasonIn(Body):
    """Why."""

    reason: Reason


class PriorityIn(Body):
    """A clinical priority."""

    priority: PriorityWord


class CriticalIn(Body):
    """A result that cannot wait."""

    text: Annotated[str, Field(min_length=3, max_length=2000, pattern=WITH_WORDS)]
    tell: list[Name] = Field(min_length=1, max_length=10, description="whom to tell, in order")
    acknowledge_s: Seconds = 3600


class PeerReviewIn(Body):
    """A RADPEER 2016 score of one reading."""

    score: Literal["1", "2a", "2b", "3a", "3b"]
    role: ReadRole = ReadRole.FIRST
    comment: Annotated[str, Field(max_length=2000, pattern=WITHOUT_NUL)] = ""


class QueueIn(Body):
    """A queue; see docs/worklist.md."""

    position: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    modality: Annotated[str, Field(max_length=16, pattern=r"^[A-Z0-9_ ]*$")] = ""
    body_part: Word = ""
    subspecialty: Word = ""
    language: Annotated[
        str, Field(max_length=35, pattern=r"^([A-Za-z]{2,8}(-[A-Za-z0-9]{1,8})*)?$")
    ] = ""
    jurisdiction: Word = ""
    needs_second: bool = False
    stat_s: Seconds = 3600
    urgent_s: Seconds = 4 * 3600
    routine_s: Seconds = 24 * 3600
    claim_s: Seconds = 1800
    escalation_s: Seconds = 900
    deputies: list[Name] = Field(default_factory=list, max_length=10)

    def queue(self, name: str) -> Queue:
        """Return it under a name."""
        return Queue(name=name, **(self.model_dump() | {"deputies": tuple(self.deputies)}))


class QueueOut(QueueIn):
    """A queue with its name."""

    name: str


class CredentialIn(Body):
    """A licence for one jurisdiction."""

    jurisdiction: Name
    valid_until: AwareDatetime


class ReaderIn(Body):
    """What a reader can take."""

    subspecialties: list[Name] = Field(default_factory=list, max_length=50)
    languages: list[Name] = Field(default_factory=list, max_length=50)
    credentials: list[CredentialIn] = Field(default_factory=list, max_length=50)


class ReaderOut(ReaderIn):
    """A reader with the name that is signed."""

    name: str

    @classmethod
    def of(cls, one: Reader) -> ReaderOut:
        """Return it as it is sent."""
        return cls(
            name=one.name,
            subspecialties=list(one.subspecialties),
            languages=list(one.languages),
            credentials=[
                CredentialIn(jurisdiction=own.jurisdiction, valid_until=own.valid_until)
                for own in one.credentials
            ],
        )


class ReadOut(BaseModel):
    """One reading that the asker may see."""

    role: str
    reader: str
    claim_until: datetime | None
    signed_at: datetime | None
    conclusion: Conclusion | None
    finding_codes: list[str]
    report: str

    @classmethod
    def of(cls, one: Read, *, is_blinded: bool) -> ReadOut:
        """Return it; while it is blinded, not whether it is the first or the second."""
        return cls(
            role="reading" if is_blinded else one.role.value,
            reader=one.reader,
            claim_until=one.claim_until,
            signed_at=one.signed_at,
            conclusion=Conclusion(one.conclusion) if one.conclusion else None,
            finding_codes=list(one.finding_codes),
            report=one.report,
        )


class PromotionOut(BaseModel):
    """Why a study stands higher than without AI, or who took that back."""

    lifted_by: int
    reason: str
    undone_by: str | None = None
    undone_at: datetime | None = None
    undone_reason: str | None = None


class ReadingOut(BaseModel):
    """One study on the reading list, as the asker may see it."""

    task_id: int
    study_uid: str
    place: int
    description: str
    modalities: list[str]
    patient_name: str | None
    patient_id: str | None
    queue: str
    priority: PriorityWord
    deadline_at: datetime
    seconds_left: float
    ai_state: StudyState
    promotion: PromotionOut
    standing: Standing
    holder: str
    note: str
    why_not: str
    escalated_to: list[str]
    readings: list[ReadOut]

    @classmethod
    def of(cls, row: Row, *, now: datetime, is_named: bool) -> ReadingOut:
        """Return a row as it is sent; identity only for somebody who showed who they are."""
        task, study = row.task, row.study
        return cls(
            task_id=task.id,
            study_uid=task.study_uid,
            place=row.place,
            description=study.description,
            modalities=list(study.modalities),
            patient_name=study.patient_name if is_named else None,
            patient_id=study.patient_id if is_named else None,
            queue=task.queue,
            priority=_PRIORITY_WORDS[task.priority],
            deadline_at=task.deadline_at,
            seconds_left=round((task.deadline_at - now).total_seconds(), 1),
            ai_state=row.ai_state,
            promotion=PromotionOut(
                lifted_by=row.lifted_by,
                reason=row.reason,
                undone_by=task.promotion_undone_by or None,
                undone_at=task.promotion_undone_at,
                undone_reason=task.promotion_undone_reason or None,
            ),
            standing=row.standing,
            holder=row.holder,
            note=row.note,
            why_not=row.why_not,
            escalated_to=list(task.escalated_to),
            readings=[
                ReadOut.of(one, is_blinded=task.is_blinded)
                for one in row.visible_reads
                if not one.is_free
            ],
        )


_PRIORITY_WORDS: tuple[PriorityWord, ...] = ("stat", "urgent", "routine")


class ReadingListOut(BaseModel):
    """The list in its order."""

    items: list[ReadingOut]


class CriticalOut(BaseModel):
    """A critical result with its timer."""

    id: int
    task_id: int
    text: str
    raised_by: str
    raised_at: datetime
    told: list[str]
    due_at: datetime | None
    acknowledged_by: str | None
    acknowledged_at: datetime | None

    @classmethod
    def of(cls, one: CriticalResult) -> CriticalOut:
        """Return it as it is sent."""
        return cls(
            id=one.id,
            task_id=one.task_id,
            text=one.text,
            raised_by=one.raised_by,
            raised_at=one.raised_at,
            told=list(one.told),
            due_at=one.due_at,
            acknowledged_by=one.acknowledged_by or None,
            acknowledged_at=one.acknowledged_at,
        )


class PeerReviewOut(BaseModel):
    """A score with its meaning."""

    id: int
    reviewer: str
    score: str
    meaning: str
    comment: str
    needs_internal_review: bool
    created_at: datetime

    @classmethod
    def of(cls, one: PeerReview) -> PeerReviewOut:
        """Return it as it is sent."""
        return cls(
            id=one.id,
            reviewer=one.reviewer,
            score=one.score,
            meaning=radpeer.explain(one.score),
            comment=one.comment,
            needs_internal_review=one.needs_internal_review,
            created_at=one.created_at,
        )
