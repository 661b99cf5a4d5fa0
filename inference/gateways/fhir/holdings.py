"""What clinfer holds, as resources of each type: read by id, walked newest first for a search."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import ColumnElement, Connection, Table, func, select

from inference.domain.patient import Patient
from inference.domain.report import ReportStep
from inference.gateways.fhir.of_queue import write_order, write_received, write_task
from inference.gateways.fhir.of_result import (
    Resource,
    device_id,
    patient_id,
    reader_id,
    write_device,
    write_observations,
    write_patient,
    write_provenance,
    write_reader,
    write_report,
    write_selections,
    write_study,
)
from inference.gateways.fhir.vocabulary import short_hash
from inference.jobs.report_content import ReportContent, event_of, read_content
from inference.storage import fhir_resources, jobs, orders, patients, results, studies
from inference.storage.errors import NotFoundError
from inference.storage.exchange_tables import (
    fhir_resource,
    imaging_order,
    patient,
    report_event,
    study_identity,
)
from inference.storage.tables import job, result, study

PAGE_ROWS = 100


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What the database can leave out before a resource is made.

    ``rows`` are patients, after merges; None: everybody's. ``before`` is the key of the last
    resource of the page before.
    """

    rows: frozenset[int] | None = None
    before: str = ""


Found = tuple[str, Resource]
"""A key that grows with age within its type, and the resource."""

Walk = Callable[[Connection, Wanted], Iterator[Found]]
Read = Callable[[Connection, str], Resource | None]


@dataclass(frozen=True)
class Holding:
    """How the resources of one type are found."""

    walk: Walk
    read: Read


def stamped(resource: Resource, updated_at: datetime) -> Resource:
    """Add version and time of change; what says the same has the same version."""
    resource["meta"] = {
        "versionId": short_hash(repr(sorted(_flat(resource)))),
        "lastUpdated": updated_at.isoformat(timespec="milliseconds"),
    }
    return resource


def _flat(node: Any, path: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            yield from _flat(value, f"{path}.{name}")
    elif isinstance(node, Sequence) and not isinstance(node, str):
        for index, value in enumerate(node):
            yield from _flat(value, f"{path}[{index}]")
    else:
        yield path, repr(node)


def _of_study(connection: Connection, study_uid: str) -> Patient | None:
    identity = patients.study_identity_of(connection, study_uid)
    return None if identity is None else patients.get_patient(connection, identity.patient_row)


def _members(connection: Connection, wanted: Wanted) -> list[int] | None:
    if wanted.rows is None:
        return None
    return [one for row in wanted.rows for one in patients.family(connection, row)]


def _rows(
    connection: Connection,
    table: Table,
    wanted: Wanted,
    *where: ColumnElement[bool],
) -> Iterator[int]:
    """Ids of a table with numbered rows, the newest first, page by page."""
    last = int(wanted.before.partition(".")[0]) if wanted.before else None
    while True:
        query = select(table.c.id).where(*where).order_by(table.c.id.desc()).limit(PAGE_ROWS)
        if last is not None:
            query = query.where(table.c.id < last)
        ids = [int(one) for one in connection.execute(query).scalars()]
        yield from ids
        if len(ids) < PAGE_ROWS:
            return
        last = ids[-1]


def _studies_where(
    connection: Connection, wanted: Wanted, column: Any
) -> list[ColumnElement[bool]]:
    members = _members(connection, wanted)
    if members is None:
        return []
    owned = select(study_identity.c.study_uid).where(study_identity.c.patient_id.in_(members))
    return [column.in_(owned)]


# Patients


def _read_patient(connection: Connection, id: str) -> Resource | None:
    row = _number(id, "p")
    if row is None:
        return None
    try:
        found = patients.get_patient(connection, row)
    except NotFoundError:
        return None
    if found.id == row:
        return stamped(write_patient(found), found.updated_at)
    replaced = {"other": {"reference": f"Patient/{patient_id(found.id)}"}, "type": "replaced-by"}
    merged = {"resourceType": "Patient", "id": id, "active": False, "link": [replaced]}
    return stamped(merged, found.updated_at)


def _walk_patients(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    where = [patient.c.merged_into.is_(None)]
    if wanted.rows is not None:
        where.append(patient.c.id.in_(wanted.rows))
    for row in _rows(connection, patient, wanted, *where):
        found = _read_patient(connection, patient_id(row))
        if found is not None:
            yield str(row), found


# Studies


def _read_study(connection: Connection, id: str) -> Resource | None:
    try:
        found = studies.get_study(connection, id)
    except NotFoundError:
        return None
    series = studies.list_series(connection, id)
    resource = write_study(found, series, _of_study(connection, id))
    order = orders.of_study(connection, id)
    if order is not None:
        resource["basedOn"] = [{"reference": f"ServiceRequest/s{order.id}"}]
    return stamped(resource, found.last_received_at)


def _walk_studies(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    last = wanted.before
    where = _studies_where(connection, wanted, study.c.study_uid)
    while True:
        query = select(study.c.study_uid).where(*where, study.c.study_uid > last)
        uids = (
            connection.execute(query.order_by(study.c.study_uid).limit(PAGE_ROWS)).scalars().all()
        )
        for uid in uids:
            found = _read_study(connection, uid)
            if found is not None:
                yield uid, found
        if len(uids) < PAGE_ROWS:
            return
        last = uids[-1]


# Results


def _content(connection: Connection, result_id: int) -> ReportContent | None:
    try:
        found = results.get_result(connection, result_id)
    except NotFoundError:
        return None
    return read_content(connection, event_of(connection, result_id, found.created_at))


def _of_results(write: Callable[[ReportContent], list[Resource]]) -> Holding:
    """Return the holding of a type of which a result has some, each with the result in its id."""

    def made(connection: Connection, result_id: int) -> list[Resource]:
        content = _content(connection, result_id)
        if content is None:
            return []
        return [stamped(one, content.event.at) for one in write(content)]

    def read(connection: Connection, id: str) -> Resource | None:
        row = _number(id.partition("-")[0], "r")
        if row is None:
            return None
        return next((one for one in made(connection, row) if one["id"] == id), None)

    def walk(connection: Connection, wanted: Wanted) -> Iterator[Found]:
        last, _, seen = wanted.before.partition(".")
        if seen:  # the rest of a result whose resources lay on two pages
            yield from _after(made(connection, int(last)), int(last), int(seen))
        where = _studies_where(connection, wanted, result.c.study_uid)
        for row in _rows(connection, result, wanted, *where):
            yield from _after(made(connection, row), row, -1)

    return Holding(walk, read)


def _after(found: list[Resource], row: int, seen: int) -> Iterator[Found]:
    for index, resource in enumerate(found):
        if index > seen:
            yield f"{row}.{index}", resource


_AI_OBSERVATIONS = _of_results(write_observations)


def _read_observation(connection: Connection, id: str) -> Resource | None:
    row = _number(id, "o")
    if row is None:
        return _AI_OBSERVATIONS.read(connection, id)
    try:
        stored = fhir_resources.get(connection, "Observation", row)
    except NotFoundError:
        return None
    survivor = patients.survivor(connection, stored.patient_row)
    return stamped(write_received(stored, survivor), stored.updated_at)


def _walk_observations(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    """First those of results, then those received; their keys begin with ``o``."""
    if not wanted.before.startswith("o"):
        yield from _AI_OBSERVATIONS.walk(connection, wanted)
    members = _members(connection, wanted)
    where = [fhir_resource.c.type == "Observation"]
    if members is not None:
        where.append(fhir_resource.c.patient_row.in_(members))
    before = wanted.before[1:] if wanted.before.startswith("o") else ""
    for row in _rows(connection, fhir_resource, Wanted(before=before), *where):
        found = _read_observation(connection, f"o{row}")
        if found is not None:
            yield f"o{row}", found


# Devices and readers


def _devices(connection: Connection) -> dict[str, tuple[int, datetime]]:
    """Id to the newest result that the model made."""
    newest = func.max(result.c.id)
    query = (
        select(result.c.model, result.c.model_version, result.c.weights_sha256, newest)
        .where(result.c.model != "")
        .group_by(result.c.model, result.c.model_version, result.c.weights_sha256)
    )
    found = {}
    for model, version, weights, row in connection.execute(query):
        made_at = results.get_result(connection, row).created_at
        found[device_id(model, version, weights)] = (int(row), made_at)
    return found


def _read_device(connection: Connection, id: str) -> Resource | None:
    row, made_at = _devices(connection).get(id, (0, None))
    content = _content(connection, row) if row else None
    device = write_device(content) if content is not None else None
    return None if device is None or made_at is None else stamped(device, made_at)


def _walk_devices(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    for id in sorted(_devices(connection)):
        found = _read_device(connection, id)
        if id > wanted.before and found is not None:
            yield id, found


def _readers(connection: Connection) -> dict[str, tuple[str, datetime]]:
    at = func.max(report_event.c.at, type_=report_event.c.at.type)
    query = (
        select(report_event.c.actor, at)
        .where(report_event.c.step.in_([ReportStep.ACCEPTED.value, ReportStep.SIGNED.value]))
        .group_by(report_event.c.actor)
    )
    return {reader_id(name): (name, last) for name, last in connection.execute(query) if name}


def _read_reader(connection: Connection, id: str) -> Resource | None:
    found = _readers(connection).get(id)
    return None if found is None else stamped(write_reader(found[0]), found[1])


def _walk_readers(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    for id, (name, last) in sorted(_readers(connection).items()):
        if id > wanted.before:
            yield id, stamped(write_reader(name), last)


# Orders and jobs


def _read_order(connection: Connection, id: str) -> Resource | None:
    row = _number(id, "s")
    if row is None:
        return None
    try:
        found = orders.get(connection, row)
    except NotFoundError:
        return None
    owner = patients.get_patient(connection, found.patient_row)
    return stamped(write_order(found, owner), found.updated_at)


def _walk_orders(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    members = _members(connection, wanted)
    where = [] if members is None else [imaging_order.c.patient_row.in_(members)]
    for row in _rows(connection, imaging_order, wanted, *where):
        found = _read_order(connection, f"s{row}")
        if found is not None:
            yield str(row), found


def _read_task(connection: Connection, id: str) -> Resource | None:
    row = _number(id, "j")
    if row is None:
        return None
    try:
        found = jobs.get_job(connection, row)
    except NotFoundError:
        return None
    made = tuple(
        one
        for one in results.list_results(connection, study_uid=found.study_uid, current_only=False)
        if one.job_id == row
    )
    task = write_task(found, _of_study(connection, found.study_uid), made)
    return stamped(task, found.finished_at or found.started_at or found.created_at)


def _walk_tasks(connection: Connection, wanted: Wanted) -> Iterator[Found]:
    where = _studies_where(connection, wanted, job.c.study_uid)
    for row in _rows(connection, job, wanted, *where):
        found = _read_task(connection, f"j{row}")
        if found is not None:
            yield str(row), found


def _number(id: str, prefix: str) -> int | None:
    found = re.fullmatch(rf"{prefix}([0-9]{{1,18}})", id)
    return int(found[1]) if found else None


HOLDINGS: Mapping[str, Holding] = MappingProxyType(
    {
        "Patient": Holding(_walk_patients, _read_patient),
        "Practitioner": Holding(_walk_readers, _read_reader),
        "ImagingStudy": Holding(_walk_studies, _read_study),
        "ServiceRequest": Holding(_walk_orders, _read_order),
        "Task": Holding(_walk_tasks, _read_task),
        "DiagnosticReport": _of_results(lambda content: [write_report(content)]),
        "Observation": Holding(_walk_observations, _read_observation),
        "Provenance": _of_results(lambda content: [write_provenance(content)]),
        "Device": Holding(_walk_devices, _read_device),
        "Basic": _of_results(write_selections),
    }
)
"""The types that are held; the same names as in the table of search parameters."""
