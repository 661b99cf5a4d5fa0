"""The one state that a study has, the same on the page, in the PACS and in the API."""

from __future__ import annotations

from enum import StrEnum


class StudyState(StrEnum):
    """What a reader must know of a study before opening it.

    A study without any of these does not exist: an absent result must never pass for a normal one.
    """

    NOT_APPLICABLE = "not_applicable"
    """No model is for this kind of study; nobody but the reader looked at it."""

    WAITING = "waiting"
    RUNNING = "running"
    NO_FINDING = "no_finding"
    FINDING = "finding"
    REFUSED = "refused"
    """The input is not one that a result may be made from; the reason says why."""

    FAILED = "failed"
    SUPERSEDED = "superseded"
    """Later instances of the study, or a recall, made the result out of date."""
