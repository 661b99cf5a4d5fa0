"""A unit of queued work: its states, priority and lease."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum, StrEnum


class Priority(IntEnum):
    """Lower runs first."""

    STAT = 0
    URGENT = 1
    ROUTINE = 2


class JobState(StrEnum):
    """States of a job.

    ::

        collecting ──► queued ──► leased ──► done
             ▲            ▲         ├──────► failed       refused input: final, with the reason
             │            └─────────┤                     an error worth another try, a lost lease
             │ another slice        ├──────► dead         out of tries; `requeue` starts it again
             └── (same row)         └──────► superseded   a later version of the study took over
    """

    COLLECTING = "collecting"
    QUEUED = "queued"
    LEASED = "leased"
    DONE = "done"
    FAILED = "failed"
    DEAD = "dead"
    SUPERSEDED = "superseded"

    @property
    def is_final(self) -> bool:
        """Nothing more happens by itself."""
        return self in FINAL_JOB_STATES

    @property
    def is_open(self) -> bool:
        """Waiting: another instance of the study joins this job."""
        return self in OPEN_JOB_STATES


OPEN_JOB_STATES = frozenset({JobState.COLLECTING, JobState.QUEUED})
FINAL_JOB_STATES = frozenset({JobState.DONE, JobState.FAILED, JobState.DEAD, JobState.SUPERSEDED})


@dataclass(frozen=True, kw_only=True)
class Job:
    """One row of the job table.

    Attributes
    ----------
    tries : attempts that ended in an error; ``losses`` : leases lost (process killed, stalled)
    progress : fraction in [0, 1] of the running attempt, with the step's name in ``step``
    reason_code, reason : why it failed, died, or waits for another try
    """

    id: int
    study_uid: str
    study_version: int
    input_hash: str
    model: str
    state: JobState
    priority: Priority
    run_after: datetime
    lease_owner: str | None
    lease_until: datetime | None
    tries: int
    losses: int
    progress: float
    step: str
    reason_code: str
    reason: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """When an attempt is worth another one.

    Attributes
    ----------
    max_tries : attempts that end in an error before the job is dead
    max_losses : leases lost, or backends found absent, before the job is dead. More than
        ``max_tries``: a killed service says little about the job it was running, a job that
        kills its service says the same thing every time
    lease_s : a worker that does not renew for so long has lost the job
    backoff_s, backoff_cap_s : wait before try 2; it doubles for each further one up to the cap
    outage_s : the same where the backend was not there
    """

    max_tries: int = 5
    max_losses: int = 10
    lease_s: float = 30.0
    backoff_s: float = 1.0
    backoff_cap_s: float = 60.0
    outage_s: float = 5.0

    def backoff(self, failures: int) -> float:
        """Seconds to wait after this many failures (1 or more)."""
        return float(min(self.backoff_cap_s, self.backoff_s * 2 ** (failures - 1)))

    def outage_wait(self, losses: int) -> float:
        """Seconds to wait for a backend that was not there for the ``losses``-th time."""
        return float(min(self.backoff_cap_s, self.outage_s * 2 ** (losses - 1)))
