"""Recall one version of a model: take back each result that it made, wherever a copy went."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

from inference.domain.release import Cause
from inference.jobs.release import ReleaseError, retract_result
from inference.storage import audit, recalls
from inference.storage.database import Database
from inference.storage.recalls import Affected

COLUMNS = (
    "patient_id",
    "issuer_of_patient_id",
    "patient_name",
    "accession_number",
    "study_date",
    "study_uid",
    "result_id",
    "outcome",
    "made_at",
    "destinations",
    "is_retracted",
)
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")
"""A cell that begins with one of them is run by a spreadsheet."""


class NothingToRecallError(ReleaseError):
    """The version of the model made no result here."""

    code = "nothing_to_recall"


def find_affected(database: Database, model: str, version: str) -> tuple[Affected, ...]:
    """Return what a recall would take back.

    Raises
    ------
    NothingToRecallError
        Names the versions that are known.
    """
    with database.read() as connection:
        found = recalls.affected(connection, model, version)
        known = recalls.versions_of(connection, model)
    if not found:
        said = f"versions here: {', '.join(known)}" if known else "the model made no result here"
        raise NothingToRecallError(
            field="MODEL@VERSION", problem=f"{model}@{version} made no result here; {said}"
        )
    return found


def recall(
    database: Database,
    model: str,
    version: str,
    *,
    reason: str,
    by: str,
    retracted: Callable[[Affected], None] = lambda one: None,
) -> int:
    """Take back every result of the version; return how many this call took back.

    Each result has a transaction of its own, so a recall that was interrupted goes on where it
    stopped when it is given again, and one that is complete changes nothing.

    Raises
    ------
    NothingToRecallError, ReleaseError
    """
    if not reason.strip():
        raise ReleaseError(field="reason", problem="is empty; say why the model is recalled")
    found = find_affected(database, model, version)
    n_taken_back = 0
    for one in found:
        if one.is_retracted:
            continue
        with database.write() as connection:
            n_taken_back += retract_result(
                connection,
                one.result_id,
                reason=f"recall of {model} {version}: {reason}",
                by=by,
                now=database.now(connection),
                cause=Cause.RECALLED,
            )
        retracted(one)
    if n_taken_back:
        with database.write() as connection:
            audit.append(
                connection,
                at=database.now(connection),
                actor=by,
                action="model.recalled",
                subject=f"{model}@{version}",
                detail={"results": n_taken_back, "reason": reason[:500]},
            )
    database.notify()
    return n_taken_back


def write_csv(path: Path, found: Sequence[Affected]) -> None:
    """Write the affected results, one a line, readable by its owner only; UTF-8 with BOM."""
    path.touch(mode=0o600)
    with path.open("w", newline="", encoding="utf-8-sig") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for one in found:
            table.writerow([_cell(text) for text in _row(one)])


def _row(one: Affected) -> list[str]:
    return [
        one.patient_id,
        one.issuer_of_patient_id,
        one.patient_name,
        one.accession_number,
        one.study_date,
        one.study_uid,
        str(one.result_id),
        one.outcome,
        one.created_at.isoformat(),
        " ".join(one.destinations),
        "yes" if one.is_retracted else "no",
    ]


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(FORMULA_STARTS) else text
