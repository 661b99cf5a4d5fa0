"""The reading list's words: tasks, their reads, readers, queues, and refusals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from inference.domain.errors import ClinferError
from inference.domain.job import Priority


class ReadingRefusedError(ClinferError):
    """Somebody may not do this to a reading task; ``reason`` is a word that programs can act on."""

    code = "reading_refused"

    def __init__(self, reason: str, problem: str, *, task_id: int = 0) -> None:
        self.reason, self.problem, self.task_id = reason, problem, task_id
        super().__init__(f"{reason}: {problem}")


class ReadRole(StrEnum):
    """Which of a task's readings; the first two do not know of each other until both are signed."""

    FIRST = "first"
    SECOND = "second"
    ARBITER = "arbiter"


class Conclusion(StrEnum):
    """What a reader signs, in one word; the report says the rest."""

    NO_FINDING = "no_finding"
    FINDING = "finding"
    CRITICAL = "critical"
    REPORTED_ELSEWHERE = "elsewhere"
    """Signed in another system, which told us over UPS; never one of two that are compared."""


@dataclass(frozen=True, kw_only=True)
class Credential:
    """A licence to read for one jurisdiction, to the end of a day."""

    jurisdiction: str
    valid_until: datetime


@dataclass(frozen=True, kw_only=True)
class Reader:
    """What a reader can take; languages are BCP 47 tags."""

    name: str
    subspecialties: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()
    credentials: tuple[Credential, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Queue:
    """Where studies of a kind go, who may read them, and how soon.

    Attributes
    ----------
    modality, body_part : which studies come here; "" takes any. The first queue that fits wins
    subspecialty, language, jurisdiction : what the reader must have; "" asks for nothing
    stat_s, urgent_s, routine_s : from the last image received to the deadline
    claim_s : a claim that is not renewed for so long is void
    deputies, escalation_s : who is called when the deadline has passed, one after each such time
    """

    name: str
    position: int = 0
    modality: str = ""
    body_part: str = ""
    subspecialty: str = ""
    language: str = ""
    jurisdiction: str = ""
    needs_second: bool = False
    stat_s: int = 3600
    urgent_s: int = 4 * 3600
    routine_s: int = 24 * 3600
    claim_s: int = 1800
    escalation_s: int = 900
    deputies: tuple[str, ...] = ()

    def deadline_s(self, priority: Priority) -> int:
        """Seconds to the deadline of a priority."""
        return {
            Priority.STAT: self.stat_s,
            Priority.URGENT: self.urgent_s,
            Priority.ROUTINE: self.routine_s,
        }[priority]


DEFAULT_QUEUE = Queue(name="general", position=2**31 - 1)
"""Takes what no queue of the site takes; its times are the site's to set, not a standard's."""


@dataclass(frozen=True, kw_only=True)
class Read:
    """One reading of a task: free, held until ``claim_until``, or signed."""

    id: int
    task_id: int
    role: ReadRole
    workitem_uid: str
    reader: str
    claimed_at: datetime | None
    claim_until: datetime | None
    signed_at: datetime | None
    conclusion: str
    finding_codes: tuple[str, ...]
    report: str = field(repr=False)

    @property
    def is_free(self) -> bool:
        """Nobody holds it."""
        return self.reader == ""

    @property
    def is_held(self) -> bool:
        """Somebody is reading."""
        return self.reader != "" and self.signed_at is None


@dataclass(frozen=True, kw_only=True)
class Task:
    """A study that a person must read, with all its reads; see `Queue` for what it took over."""

    id: int
    study_uid: str
    queue: str
    priority: Priority
    subspecialty: str
    language: str
    jurisdiction: str
    needs_second: bool
    claim_s: int
    escalation_s: int
    deputies: tuple[str, ...]
    created_at: datetime
    deadline_at: datetime
    escalation_level: int
    next_escalation_at: datetime | None
    promotion_undone_by: str
    promotion_undone_at: datetime | None
    promotion_undone_reason: str
    done_at: datetime | None
    reads: tuple[Read, ...] = ()

    @property
    def is_blinded(self) -> bool:
        """Two readings are wanted and not both are signed: neither may be seen by anybody else."""
        return self.needs_second and not all(
            one.signed_at for one in self.reads if one.role is not ReadRole.ARBITER
        )

    @property
    def escalated_to(self) -> tuple[str, ...]:
        """The deputies that were called so far."""
        return self.deputies[: self.escalation_level]

    def read_of(self, name: str) -> Read | None:
        """Return somebody's own reading, the last one where there are more."""
        own = [one for one in self.reads if one.reader == name]
        return own[-1] if own else None
