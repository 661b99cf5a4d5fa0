"""Search the DICOMweb index: what PS3.18 10.6 asks, as one query with few more for the page."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from sqlalchemy import (
    Column,
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    exists,
    func,
    or_,
    select,
)

from inference.domain.dicom_index import Attributes
from inference.storage.dicom_index import folded_name, is_offered
from inference.storage.dicomweb_tables import (
    dicom_instance,
    dicom_request,
    dicom_series,
    dicom_study,
)


class Level(IntEnum):
    """What is searched for."""

    STUDY = 0
    SERIES = 1
    INSTANCE = 2


@dataclass(frozen=True, kw_only=True)
class Match:
    """One matching key.

    Attributes
    ----------
    path : the attribute, or the sequence and the attribute in it
    values : any of them; texts may hold ``*`` and ``?``
    first, last : a range of dates or times, both ends in it; "" is open
    """

    path: tuple[int, ...]
    values: tuple[str, ...] = ()
    first: str = ""
    last: str = ""

    @property
    def is_range(self) -> bool:
        """Whether it asks for a range instead of values."""
        return bool(self.first or self.last)


@dataclass(frozen=True, kw_only=True)
class Search:
    """What to find: below a study or series where they are named, else everywhere."""

    level: Level
    study_uid: str | None = None
    series_uid: str | None = None
    matches: tuple[Match, ...] = ()
    limit: int = 100
    offset: int = 0


@dataclass(frozen=True, kw_only=True)
class Found:
    """One study, series or instance, with the attributes of its own and the levels above."""

    study_uid: str
    series_uid: str = ""
    instance_uid: str = ""
    study: Attributes = field(default_factory=dict)
    series: Attributes = field(default_factory=dict)
    instance: Attributes = field(default_factory=dict)
    modalities: tuple[str, ...] = ()
    n_series: int = 0
    n_instances: int = 0


@dataclass(frozen=True, kw_only=True)
class Page:
    """What was found, in an order that stays; ``has_more``: the limit cut it off."""

    items: tuple[Found, ...]
    has_more: bool


Condition = Callable[[Match, bool], ColumnElement[bool]]


def search(connection: Connection, asked: Search) -> Page:
    """Return one page.

    Raises
    ------
    KeyError
        A match names an attribute that is not among `searchable`.
    """
    is_sqlite = connection.dialect.name == "sqlite"
    query = _QUERIES[asked.level]()
    for match in asked.matches:
        query = query.where(_CONDITIONS[asked.level][match.path](match, is_sqlite))
    query = _below(query, asked)
    rows = connection.execute(query.limit(asked.limit + 1).offset(asked.offset)).all()
    kept = rows[: asked.limit]
    if asked.level is Level.STUDY:
        items = _studies(connection, kept)
    elif asked.level is Level.SERIES:
        items = _series(connection, kept)
    else:
        items = _instances(kept)
    return Page(items=items, has_more=len(rows) > asked.limit)


def searchable(level: Level) -> frozenset[tuple[int, ...]]:
    """Return the attributes that can be matched at a level."""
    return frozenset(_CONDITIONS[level])


def _study_query() -> Select[Any]:
    return select(dicom_study).order_by(
        dicom_study.c.study_date.desc(), dicom_study.c.study_time.desc(), dicom_study.c.study_uid
    )


def _series_query() -> Select[Any]:
    return (
        select(
            dicom_series.c.study_uid,
            dicom_series.c.series_uid,
            dicom_series.c.attributes.label("series_attributes"),
            dicom_study.c.attributes.label("study_attributes"),
        )
        .join(dicom_study, dicom_study.c.study_uid == dicom_series.c.study_uid)
        .where(_has_offered_instance())
        .order_by(dicom_series.c.study_uid, dicom_series.c.series_number, dicom_series.c.series_uid)
    )


def _instance_query() -> Select[Any]:
    return (
        select(
            dicom_instance.c.study_uid,
            dicom_instance.c.series_uid,
            dicom_instance.c.instance_uid,
            dicom_instance.c.attributes.label("instance_attributes"),
            dicom_series.c.attributes.label("series_attributes"),
            dicom_study.c.attributes.label("study_attributes"),
        )
        .join(dicom_study, dicom_study.c.study_uid == dicom_instance.c.study_uid)
        .join(
            dicom_series,
            and_(
                dicom_series.c.study_uid == dicom_instance.c.study_uid,
                dicom_series.c.series_uid == dicom_instance.c.series_uid,
            ),
        )
        .where(is_offered())
        .order_by(
            dicom_instance.c.study_uid,
            dicom_instance.c.series_uid,
            dicom_instance.c.instance_number,
            dicom_instance.c.instance_uid,
        )
    )


_QUERIES = {
    Level.STUDY: _study_query,
    Level.SERIES: _series_query,
    Level.INSTANCE: _instance_query,
}
_TABLES = {
    Level.STUDY: dicom_study,
    Level.SERIES: dicom_series,
    Level.INSTANCE: dicom_instance,
}


def _below(query: Select[Any], asked: Search) -> Select[Any]:
    table = _TABLES[asked.level]
    if asked.study_uid is not None:
        query = query.where(table.c.study_uid == asked.study_uid)
    if asked.series_uid is not None:
        query = query.where(table.c.series_uid == asked.series_uid)
    return query


def _has_offered_instance(series: FromClause = dicom_series) -> ColumnElement[bool]:
    inside = dicom_instance.alias()
    return exists().where(
        inside.c.study_uid == series.c.study_uid,
        inside.c.series_uid == series.c.series_uid,
        is_offered(inside),
    )


def _studies(connection: Connection, rows: Sequence[Any]) -> tuple[Found, ...]:
    uids = [row.study_uid for row in rows]
    modalities: dict[str, set[str]] = {uid: set() for uid in uids}
    n_series = dict.fromkeys(uids, 0)
    query = select(dicom_series.c.study_uid, dicom_series.c.modality).where(
        dicom_series.c.study_uid.in_(uids), _has_offered_instance()
    )
    for row in connection.execute(query):
        modalities[row.study_uid].add(row.modality)
        n_series[row.study_uid] += 1
    counts = {
        row.study_uid: row.n
        for row in connection.execute(
            select(dicom_instance.c.study_uid, func.count().label("n"))
            .where(dicom_instance.c.study_uid.in_(uids), is_offered())
            .group_by(dicom_instance.c.study_uid)
        )
    }
    return tuple(
        Found(
            study_uid=row.study_uid,
            study=json.loads(row.attributes),
            modalities=tuple(sorted(modalities[row.study_uid] - {""})),
            n_series=n_series[row.study_uid],
            n_instances=counts.get(row.study_uid, 0),
        )
        for row in rows
    )


def _series(connection: Connection, rows: Sequence[Any]) -> tuple[Found, ...]:
    query = (
        select(dicom_instance.c.study_uid, dicom_instance.c.series_uid, func.count().label("n"))
        .where(
            dicom_instance.c.study_uid.in_({row.study_uid for row in rows}),
            dicom_instance.c.series_uid.in_({row.series_uid for row in rows}),
            is_offered(),
        )
        .group_by(dicom_instance.c.study_uid, dicom_instance.c.series_uid)
    )
    counts = {(row.study_uid, row.series_uid): row.n for row in connection.execute(query)}
    return tuple(
        Found(
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            study=json.loads(row.study_attributes),
            series=json.loads(row.series_attributes),
            n_instances=counts.get((row.study_uid, row.series_uid), 0),
        )
        for row in rows
    )


def _instances(rows: Sequence[Any]) -> tuple[Found, ...]:
    above: dict[str, Attributes] = {}  # most instances of a page share their study and series
    for row in rows:
        for text in (row.study_attributes, row.series_attributes):
            if text not in above:
                above[text] = json.loads(text)
    return tuple(
        Found(
            study_uid=row.study_uid,
            series_uid=row.series_uid,
            instance_uid=row.instance_uid,
            study=above[row.study_attributes],
            series=above[row.series_attributes],
            instance=json.loads(row.instance_attributes),
        )
        for row in rows
    )


def _text(column: Column[Any]) -> Condition:
    """Match whole values, case and all (PS3.4 C.2.2.2.1 and C.2.2.2.4)."""

    def condition(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
        return or_(*(_like(column, value, is_sqlite) for value in match.values))

    return condition


def _name(*columns: Column[Any]) -> Condition:
    """Match a name in any of its component groups, whatever its case and accents."""

    def condition(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
        tests = []
        for value in match.values:
            groups = [folded_name(group) for group in value.split("=")]
            if len(groups) == 1:
                tests += [_like(column, groups[0], is_sqlite) for column in columns]
            else:
                pairs = zip(columns, groups, strict=False)
                tests.append(
                    and_(*(_like(column, group, is_sqlite) for column, group in pairs if group))
                )
        return or_(*tests)

    return condition


def _like(column: Column[Any], value: str, is_sqlite: bool) -> ColumnElement[bool]:
    if "*" not in value and "?" not in value:
        return column == value
    if is_sqlite:  # its LIKE takes small and capital letters for the same
        return column.op("GLOB", is_comparison=True)(value.replace("[", "[[]"))
    pattern = value.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return column.like(pattern.replace("*", "%").replace("?", "_"), escape="\\")


def _uid(column: Column[Any]) -> Condition:
    def condition(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
        del is_sqlite
        return column.in_(match.values)

    return condition


def _number(column: Column[Any]) -> Condition:
    def condition(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
        del is_sqlite
        return column.in_([int(value) for value in match.values])

    return condition


def _range(column: Column[Any]) -> Condition:
    def condition(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
        del is_sqlite
        tests = [column != ""]
        if match.first:
            tests.append(column >= match.first)
        if match.last:
            tests.append(column <= match.last)
        return and_(*tests)

    return condition


def _modalities_in_study(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
    """Match a study by any of its series that are offered."""
    series = dicom_series.alias()
    return exists().where(
        series.c.study_uid == dicom_study.c.study_uid,
        _text(series.c.modality)(match, is_sqlite),
        _has_offered_instance(series),
    )


def _classes_in_study(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
    del is_sqlite
    inside = dicom_instance.alias()
    return exists().where(
        inside.c.study_uid == dicom_study.c.study_uid,
        inside.c.sop_class_uid.in_(match.values),
        is_offered(inside),
    )


def _in_requests(column: Column[Any]) -> Condition:
    """Match a series by an item of its Request Attributes Sequence."""

    def condition(match: Match, is_sqlite: bool) -> ColumnElement[bool]:
        return exists().where(
            dicom_request.c.study_uid == dicom_series.c.study_uid,
            dicom_request.c.series_uid == dicom_series.c.series_uid,
            _text(column)(match, is_sqlite),
        )

    return condition


_STUDY: dict[tuple[int, ...], Condition] = {
    (0x0020000D,): _uid(dicom_study.c.study_uid),
    (0x00080020,): _range(dicom_study.c.study_date),
    (0x00080030,): _range(dicom_study.c.study_time),
    (0x00080050,): _text(dicom_study.c.accession_number),
    (0x00080061,): _modalities_in_study,
    (0x00080062,): _classes_in_study,
    (0x00080090,): _name(
        dicom_study.c.referring_name_alphabetic,
        dicom_study.c.referring_name_ideographic,
        dicom_study.c.referring_name_phonetic,
    ),
    (0x00081030,): _text(dicom_study.c.study_description),
    (0x00100010,): _name(
        dicom_study.c.patient_name_alphabetic,
        dicom_study.c.patient_name_ideographic,
        dicom_study.c.patient_name_phonetic,
    ),
    (0x00100020,): _text(dicom_study.c.patient_id),
    (0x00100021,): _text(dicom_study.c.issuer_of_patient_id),
    (0x00100030,): _range(dicom_study.c.patient_birth_date),
    (0x00100040,): _text(dicom_study.c.patient_sex),
    (0x00200010,): _text(dicom_study.c.study_id),
}
_SERIES: dict[tuple[int, ...], Condition] = {
    (0x0020000E,): _uid(dicom_series.c.series_uid),
    (0x00080021,): _range(dicom_series.c.series_date),
    (0x00080060,): _text(dicom_series.c.modality),
    (0x00080080,): _text(dicom_series.c.institution_name),
    (0x00081010,): _text(dicom_series.c.station_name),
    (0x0008103E,): _text(dicom_series.c.series_description),
    (0x00180015,): _text(dicom_series.c.body_part),
    (0x00200011,): _number(dicom_series.c.series_number),
    (0x00400244,): _range(dicom_series.c.performed_date),
    (0x00400245,): _range(dicom_series.c.performed_time),
    (0x00400275, 0x00400009): _in_requests(dicom_request.c.scheduled_step_id),
    (0x00400275, 0x00401001): _in_requests(dicom_request.c.requested_procedure_id),
}
_INSTANCE: dict[tuple[int, ...], Condition] = {
    (0x00080016,): _uid(dicom_instance.c.sop_class_uid),
    (0x00080018,): _uid(dicom_instance.c.instance_uid),
    (0x00200013,): _number(dicom_instance.c.instance_number),
}
_CONDITIONS: dict[Level, dict[tuple[int, ...], Condition]] = {
    Level.STUDY: _STUDY,
    Level.SERIES: {**_STUDY, **_SERIES},
    Level.INSTANCE: {**_STUDY, **_SERIES, **_INSTANCE},
}
