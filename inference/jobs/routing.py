"""What the routing table asks of a study's series, read from the database and one header each."""

from __future__ import annotations

from collections import defaultdict

from pydicom import dcmread
from pydicom.errors import InvalidDicomError
from sqlalchemy import Connection

from inference.domain.routing import Routing, SeriesFacts
from inference.domain.study import Channel
from inference.storage import routing as routing_store
from inference.storage import studies
from inference.storage.objects import ObjectStore

PROCEDURE_CODE_SEQUENCE = 0x00081032


def routing_of(connection: Connection, objects: ObjectStore, study_uid: str) -> Routing:
    """Return the table with the facts of a study; nothing is read where there are no rules."""
    rules = routing_store.list_rules(connection)
    if not any(rule.is_enabled for rule in rules):
        return Routing()
    return Routing(rules=rules, facts=facts_of(connection, objects, study_uid))


def facts_of(
    connection: Connection, objects: ObjectStore, study_uid: str
) -> dict[str, SeriesFacts]:
    """Return what rules may ask of each series of a stored study.

    Raises
    ------
    NotFoundError
    """
    study = studies.get_study(connection, study_uid)
    senders: dict[str, set[str]] = defaultdict(set)
    first_file: dict[str, str] = {}
    for one in studies.list_instances(connection, study_uid):
        if one.sender.channel is Channel.DIMSE:
            senders[one.series_uid].add(one.sender.name)
        first_file.setdefault(one.series_uid, one.sha256)
    return {
        one.series_uid: SeriesFacts(
            series_uid=one.series_uid,
            ae_titles=frozenset(senders[one.series_uid]),
            modality=one.modality,
            procedures=frozenset({study.description})
            | _procedure_codes(objects, first_file.get(one.series_uid, "")),
            description=one.description,
        )
        for one in studies.list_series(connection, study_uid)
    }


def _procedure_codes(objects: ObjectStore, sha256: str) -> frozenset[str]:
    """Return the codes that a stored file's header names; a file that is gone names none."""
    path = objects.path(sha256)
    if not sha256 or not path.is_file():
        return frozenset()
    try:
        header = dcmread(path, stop_before_pixels=True, specific_tags=[PROCEDURE_CODE_SEQUENCE])
        items = header.get(PROCEDURE_CODE_SEQUENCE)
        return frozenset(
            str(item.get("CodeValue", "")) for item in (items.value if items is not None else ())
        )
    except (InvalidDicomError, ValueError, AttributeError):
        return frozenset()
