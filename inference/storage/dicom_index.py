"""Fill the DICOMweb index, in the transaction that stores an instance or a result."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    exists,
    insert,
    or_,
    select,
    update,
)

from inference.domain.dicom_index import Attributes, IndexedInstance, value_of
from inference.storage.dicomweb_tables import (
    dicom_instance,
    dicom_request,
    dicom_series,
    dicom_study,
)
from inference.storage.tables import instance, result, result_file

MAX_INTEGER = 2**31 - 1
_ACCENTS = (0x0300, 0x036F)


def is_offered(rows: FromClause = dicom_instance) -> ColumnElement[bool]:
    """Condition on `dicom_instance`, or an alias: received, or of a result that is current."""
    return or_(
        rows.c.result_id.is_(None),
        exists().where(result.c.id == rows.c.result_id, result.c.is_current),
    )


def add_to_index(connection: Connection, one: IndexedInstance) -> None:
    """Index an instance; one that is there already stays as it is.

    An object of ours that a PACS sends back keeps its result: it is not offered when that is not.
    """
    known = connection.execute(
        select(dicom_instance.c.result_id).where(dicom_instance.c.instance_uid == one.instance_uid)
    ).one_or_none()
    if known is not None:
        if known.result_id is None and one.result_id is not None:
            connection.execute(
                update(dicom_instance)
                .where(dicom_instance.c.instance_uid == one.instance_uid)
                .values(result_id=one.result_id)
            )
        return
    _add_study(connection, one)
    _add_series(connection, one)
    connection.execute(
        insert(dicom_instance).values(
            instance_uid=one.instance_uid,
            series_uid=one.series_uid,
            study_uid=one.study_uid,
            sop_class_uid=one.sop_class_uid,
            transfer_syntax_uid=one.transfer_syntax_uid,
            instance_number=_integer(value_of(one.instance, 0x00200013, None)),
            sha256=one.sha256,
            size_bytes=one.size_bytes,
            result_id=one.result_id,
            attributes=_json(one.instance),
        )
    )


def received_but_not_indexed(
    connection: Connection, *, after: str, limit: int
) -> tuple[tuple[str, str], ...]:
    """(instance UID, hash) of received instances without a row, in order of UID."""
    query = (
        select(instance.c.instance_uid, instance.c.sha256)
        .outerjoin(dicom_instance, dicom_instance.c.instance_uid == instance.c.instance_uid)
        .where(instance.c.instance_uid > after, dicom_instance.c.instance_uid.is_(None))
        .order_by(instance.c.instance_uid)
        .limit(limit)
    )
    return tuple((row.instance_uid, row.sha256) for row in connection.execute(query))


def made_but_not_indexed(
    connection: Connection, *, after: str, limit: int
) -> tuple[tuple[str, str, int], ...]:
    """(instance UID, hash, result id) of our own objects without a row, in order of UID."""
    query = (
        select(result_file.c.instance_uid, result_file.c.sha256, result_file.c.result_id)
        .outerjoin(dicom_instance, dicom_instance.c.instance_uid == result_file.c.instance_uid)
        .where(
            result_file.c.instance_uid > after,
            or_(dicom_instance.c.instance_uid.is_(None), dicom_instance.c.result_id.is_(None)),
        )
        .order_by(result_file.c.instance_uid)
        .limit(limit)
    )
    return tuple((row.instance_uid, row.sha256, row.result_id) for row in connection.execute(query))


def folded_name(name: str) -> str:
    """Return a name as it is compared: without case, accents and empty components at its end."""
    plain = unicodedata.normalize("NFD", name)
    bare = "".join(char for char in plain if not _ACCENTS[0] <= ord(char) <= _ACCENTS[1])
    return unicodedata.normalize("NFC", bare).casefold().strip().rstrip("^ ")


def indexed_date(text: str) -> str:
    """YYYYMMDD, also from the old YYYY.MM.DD; "" where it is no date."""
    digits = text.replace(".", "").strip()
    return digits if len(digits) == 8 and digits.isascii() and digits.isdigit() else ""


def indexed_time(text: str) -> str:
    """HHMMSS.FFFFFF, zeros where it is less exact; "" where it is no time."""
    whole, _, fraction = text.replace(":", "").strip().partition(".")
    digits = whole + fraction
    if len(whole) not in (2, 4, 6) or not (digits.isascii() and digits.isdigit()):
        return ""
    return f"{whole:0<6}.{fraction[:6]:0<6}"


def _add_study(connection: Connection, one: IndexedInstance) -> None:
    known = connection.execute(
        select(dicom_study.c.attributes).where(dicom_study.c.study_uid == one.study_uid)
    ).scalar_one_or_none()
    attributes = dict(one.study)
    if known is not None:
        before = json.loads(known)
        if attributes.keys() <= before.keys():
            return
        attributes |= before
    values = _study_columns(attributes)
    if known is None:
        connection.execute(insert(dicom_study).values(study_uid=one.study_uid, **values))
    else:  # the first instance left blank what this one says
        connection.execute(
            update(dicom_study).where(dicom_study.c.study_uid == one.study_uid).values(**values)
        )


def _study_columns(attributes: Attributes) -> dict[str, str]:
    values = {
        "study_date": indexed_date(value_of(attributes, 0x00080020)),
        "study_time": indexed_time(value_of(attributes, 0x00080030)),
        "accession_number": value_of(attributes, 0x00080050),
        "study_id": value_of(attributes, 0x00200010),
        "study_description": value_of(attributes, 0x00081030),
        "patient_id": value_of(attributes, 0x00100020),
        "issuer_of_patient_id": value_of(attributes, 0x00100021),
        "patient_birth_date": indexed_date(value_of(attributes, 0x00100030)),
        "patient_sex": value_of(attributes, 0x00100040),
        "attributes": _json(attributes),
    }
    for prefix, tag in (("patient", 0x00100010), ("referring", 0x00080090)):
        groups = value_of(attributes, tag, {})
        for group in ("Alphabetic", "Ideographic", "Phonetic"):
            values[f"{prefix}_name_{group.lower()}"] = folded_name(groups.get(group, ""))
    return values


def _add_series(connection: Connection, one: IndexedInstance) -> None:
    place = {"study_uid": one.study_uid, "series_uid": one.series_uid}
    known = connection.execute(
        select(dicom_series.c.modality).where(
            dicom_series.c.study_uid == one.study_uid, dicom_series.c.series_uid == one.series_uid
        )
    ).one_or_none()
    if known is not None:
        return
    connection.execute(
        insert(dicom_series).values(
            **place,
            modality=value_of(one.series, 0x00080060),
            series_number=_integer(value_of(one.series, 0x00200011, None)),
            series_date=indexed_date(value_of(one.series, 0x00080021)),
            series_description=value_of(one.series, 0x0008103E),
            body_part=value_of(one.series, 0x00180015),
            institution_name=value_of(one.series, 0x00080080),
            station_name=value_of(one.series, 0x00081010),
            performed_date=indexed_date(value_of(one.series, 0x00400244)),
            performed_time=indexed_time(value_of(one.series, 0x00400245)),
            attributes=_json(one.series),
        )
    )
    for number, (step_id, procedure_id) in enumerate(_requests(one.series)):
        connection.execute(
            insert(dicom_request).values(
                **place,
                number=number,
                scheduled_step_id=step_id,
                requested_procedure_id=procedure_id,
            )
        )


def _requests(attributes: Attributes) -> Iterator[tuple[str, str]]:
    for item in attributes.get("00400275", {}).get("Value", ()):
        yield str(value_of(item, 0x00400009)), str(value_of(item, 0x00401001))


def _integer(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) <= MAX_INTEGER else None


def _json(attributes: Attributes) -> str:
    return json.dumps(attributes, ensure_ascii=False, separators=(",", ":"))
