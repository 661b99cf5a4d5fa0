"""Compare the senders' own list with what the service has: plain SQL and files, no code of ours."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.inputs import Slice, dataset_sha256

OPEN_STATES = ("collecting", "queued", "leased")
GOOD_RESULTS = frozenset({"finding", "no_finding"})
OUTCOMES_OF = {
    "done": GOOD_RESULTS | {"refused", "not_applicable"},
    "failed": {"refused", "not_applicable"},  # the first slice alone makes no volume
    "dead": {"failed"},
}
"""What a job in this state may have left as results."""


@dataclass(kw_only=True)
class Findings:
    """What was checked; ``problems`` is empty when every promise was kept."""

    problems: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)


def work_left(database: Path) -> int:
    """Jobs that are not final."""
    with closing(_open(database)) as connection:
        marks = ", ".join("?" * len(OPEN_STATES))
        row = connection.execute(
            f"SELECT count(*) FROM job WHERE state IN ({marks})",  # noqa: S608 - marks only
            OPEN_STATES,
        ).fetchone()
        return int(row[0])


def check(data: Path, database: Path, acknowledged: Sequence[Slice]) -> Findings:
    """Check every promise."""
    findings = Findings()
    with closing(_open(database)) as connection:
        _check_database(connection, findings)
        _check_instances(connection, data, acknowledged, findings)
        _check_results(connection, data, {one.study_uid for one in acknowledged}, findings)
        _check_audit(connection, acknowledged, findings)
    _check_left_over(data, findings)
    return findings


def _open(database: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10)
    connection.row_factory = sqlite3.Row
    return connection


def _check_database(connection: sqlite3.Connection, findings: Findings) -> None:
    found = connection.execute("PRAGMA integrity_check").fetchone()[0]
    if found != "ok":
        findings.problems.append(f"integrity_check: {found}")
    if connection.execute("PRAGMA foreign_key_check").fetchall():
        findings.problems.append("foreign keys are broken")


def _check_instances(
    connection: sqlite3.Connection, data: Path, acknowledged: Sequence[Slice], findings: Findings
) -> None:
    rows = {row["instance_uid"]: row for row in connection.execute("SELECT * FROM instance")}
    for one in acknowledged:
        row = rows.get(one.instance_uid)
        if row is None:
            findings.problems.append(f"acknowledged, but not in the index: {one.instance_uid}")
            continue
        path = data / "objects" / row["sha256"][:2] / row["sha256"]
        if not path.is_file():
            findings.problems.append(f"acknowledged, but not on disk: {one.instance_uid}")
        elif hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            findings.problems.append(f"damaged on disk: {one.instance_uid}")
        elif dataset_sha256(path) != one.dataset_sha256:
            findings.problems.append(f"not what was sent: {one.instance_uid}")
    findings.figures["instances"] = len(rows)
    findings.figures["acknowledged"] = len(acknowledged)


def _check_results(
    connection: sqlite3.Connection, data: Path, study_uids: set[str], findings: Findings
) -> None:
    current = connection.execute("SELECT * FROM result WHERE is_current").fetchall()
    places = Counter((row["study_uid"], row["series_uid"], row["model"]) for row in current)
    by_study = Counter(row["study_uid"] for row in current)
    for study_uid in study_uids:
        if by_study[study_uid] != 1:
            findings.problems.append(f"{by_study[study_uid]} current results of study {study_uid}")
    findings.problems += [f"twice current: {place}" for place, n in places.items() if n > 1]
    for row in current:
        if row["state"] not in GOOD_RESULTS:
            findings.problems.append(
                f"study {row['study_uid']} ended as {row['state']}: {row['reason']}"
            )
    for row in connection.execute(
        "SELECT result.id, result.outcome, result.is_current, result.study_uid,"
        " job.state, job.input_hash"
        " FROM result JOIN job ON job.id = result.job_id"
    ):
        if row["outcome"] not in OUTCOMES_OF.get(row["state"], ()):
            findings.problems.append(
                f"result {row['id']} ({row['outcome']}) belongs to a job that is {row['state']}"
            )
        elif row["is_current"] and row["input_hash"] != _input_hash(connection, row["study_uid"]):
            findings.problems.append(f"the result of {row['study_uid']} lacks a slice")
    for row in connection.execute("SELECT * FROM result_file"):
        path = data / "objects" / row["sha256"][:2] / row["sha256"]
        if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != row["sha256"]:
            findings.problems.append(
                f"file {row['kind']} of result {row['result_id']} is not whole"
            )
    findings.figures["current_results"] = len(current)
    findings.figures["results"] = connection.execute("SELECT count(*) FROM result").fetchone()[0]
    findings.figures["jobs"] = connection.execute("SELECT count(*) FROM job").fetchone()[0]
    findings.figures["leases_lost"] = connection.execute(
        "SELECT coalesce(sum(losses), 0) FROM job"
    ).fetchone()[0]


def _input_hash(connection: sqlite3.Connection, study_uid: str) -> str:
    rows = connection.execute(
        "SELECT instance_uid, dataset_sha256 FROM instance WHERE study_uid = ?", (study_uid,)
    )
    lines = sorted(f"{row['instance_uid']} {row['dataset_sha256']}\n" for row in rows)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _check_audit(
    connection: sqlite3.Connection, acknowledged: Sequence[Slice], findings: Findings
) -> None:
    received: Counter[str] = Counter()
    expected_seq = 1
    previous = "0" * 64
    for row in connection.execute("SELECT * FROM audit ORDER BY seq"):
        if row["seq"] != expected_seq or row["prev_hash"] != previous:
            findings.problems.append(f"the audit chain breaks at {expected_seq}")
            break
        expected_seq, previous = expected_seq + 1, row["hash"]
        if row["action"] == "instance.received":
            received[json.loads(row["detail"])["instance_uid"]] += 1
    for one in acknowledged:
        if received[one.instance_uid] != 1:
            findings.problems.append(
                f"{received[one.instance_uid]} receptions on record of {one.instance_uid}"
            )


def _check_left_over(data: Path, findings: Findings) -> None:
    left = list((data / "tmp").iterdir())
    if left:
        findings.problems.append(f"{len(left)} unfinished files are left after a clean stop")
