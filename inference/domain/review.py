"""A person's decision about a result: accepted, corrected or rejected, on what they were shown.

Accepting is not reporting: a decision says that a person looked at this overlay and stands for it.
The diagnostic report stays preliminary until a person signs it elsewhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from inference.domain.errors import ClinferError


class Decision(StrEnum):
    """What a person decided about a result."""

    ACCEPT = "accept"
    CORRECT = "correct"
    REJECT = "reject"


class RejectReason(StrEnum):
    """Why a result is of no use; a rejection names one."""

    WRONG_STRUCTURE = "wrong_structure"
    WRONG_SIDE = "wrong_side"
    MISSED_STRUCTURE = "missed_structure"
    FALSE_FINDING = "false_finding"
    POOR_OUTLINE = "poor_outline"
    IMAGE_QUALITY = "image_quality"
    WRONG_SERIES = "wrong_series"
    WRONG_PATIENT = "wrong_patient"
    OTHER = "other"
    """A comment must say what."""


class Effort(StrEnum):
    """How much of the machine's labels a person changed; `effort_of` states the limits."""

    UNTOUCHED = "untouched"
    EDITED = "edited"
    REDRAWN = "redrawn"


class SplitRole(StrEnum):
    """What a patient's cases are for; a patient never changes the role."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


REDRAWN_BELOW_DICE = 0.6
"""Below this Dice of machine and person, most of what the machine drew did not help: the segment
counts as drawn anew. A convention of this project, between the 0.7 that Zijdenbos et al. (IEEE TMI
1994;13:716-724) call excellent agreement and plain failure; it sorts rows, it judges nobody."""


def effort_of(dice_by_label: Mapping[int, float]) -> Effort:
    """Say how much was changed, by the Dice of each segment that machine or person drew.

    Untouched: every Dice is 1. Redrawn: the lowest is below `REDRAWN_BELOW_DICE`. Else edited.
    """
    if all(dice == 1.0 for dice in dice_by_label.values()):
        return Effort.UNTOUCHED
    if min(dice_by_label.values()) < REDRAWN_BELOW_DICE:
        return Effort.REDRAWN
    return Effort.EDITED


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What stood on the screen when a person decided.

    Attributes
    ----------
    result_sha256 : of the result's own file (its figures), "" where it has none
    overlay_sha256 : of the label map that was drawn, "" where nothing was drawn
    view : JSON-ready: window, plane, slice, hidden segments, opacity, language
    page_version : version of the page's code
    """

    result_sha256: str
    overlay_sha256: str
    view: Mapping[str, Any]
    page_version: str


@dataclass(frozen=True, kw_only=True)
class Scanner:
    """Where the images come from, as their headers say; "" where they do not."""

    manufacturer: str = ""
    model: str = ""
    site: str = ""


@dataclass(frozen=True, kw_only=True)
class Review:
    """One stored decision; a result has at most one, and it never changes.

    ``lowest_dice`` is that of the segment changed most (1.0: nothing was changed), None for a
    rejection. ``new_result_id`` is the corrected result, where there is one.
    """

    id: int
    result_id: int
    study_uid: str
    model: str
    model_version: str
    decision: Decision
    reason_code: str
    comment: str
    person: str
    shown: Shown
    scanner: Scanner
    effort: Effort | None
    lowest_dice: float | None
    changed_ml: float | None
    new_result_id: int | None
    decided_at: datetime


class ReviewError(ClinferError):
    """Root of the errors of reviewing."""

    code = "review"


class AlreadyDecidedError(ReviewError):
    """Somebody was first; ``review`` says who, when and what."""

    code = "already_decided"

    def __init__(self, review: Review) -> None:
        self.review = review
        done = {"accept": "accepted", "correct": "corrected", "reject": "rejected"}
        super().__init__(
            f"result {review.result_id} was {done[review.decision.value]} by {review.person}"
            f" at {review.decided_at:%Y-%m-%d %H:%M:%S} UTC; open the study again to see it"
        )


class ShownOutdatedError(ReviewError):
    """What the person saw is not what is stored; nothing was decided."""

    code = "shown_outdated"

    def __init__(self, *, field: str, shown: str, stored: str) -> None:
        self.field, self.shown, self.stored = field, shown, stored
        super().__init__(
            f"{field}: the page showed {shown or 'nothing'}, stored is {stored or 'nothing'};"
            " open the study again and decide on what is there now"
        )


class NotReviewableError(ReviewError):
    """The result is not one that a person decides about."""

    code = "not_reviewable"

    def __init__(self, *, result_id: int, problem: str) -> None:
        self.result_id, self.problem = result_id, problem
        super().__init__(f"result {result_id}: {problem}")


class DecisionFieldError(ReviewError):
    """A field of the decision is missing or out of range."""

    code = "decision_field"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")
