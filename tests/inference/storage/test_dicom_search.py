"""Searches of the index are the same on SQLite and PostgreSQL."""

from __future__ import annotations

from typing import Any

import pytest

from inference.domain.dicom_index import IndexedInstance
from inference.storage.database import Database
from inference.storage.dicom_index import add_to_index
from inference.storage.dicom_lookup import stored_instances
from inference.storage.dicom_search import Level, Match, Search, search
from inference.storage.errors import NotFoundError


def member(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)}


def one(
    number: int, patient_id: str, name: dict[str, str], modality: str = "CT"
) -> IndexedInstance:
    return IndexedInstance(
        study_uid=f"1.2.{number}",
        series_uid=f"1.2.{number}.1",
        instance_uid=f"1.2.{number}.1.1",
        sop_class_uid="1.2.840.10008.5.1.4.1.1.2",
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        sha256=f"{number:064d}",
        size_bytes=10,
        study={
            "00080020": member("DA", f"2024010{number}"),
            "00080030": member("TM", "1015"),
            "00100010": member("PN", name),
            "00100020": member("LO", patient_id),
        },
        series={
            "00080060": member("CS", modality),
            "00200011": member("IS", number),
            "00400275": member("SQ", {"00400009": member("SH", f"STEP{number}")}),
        },
        instance={"00200013": member("IS", 2**40)},  # no IS has that many digits; kept, not indexed
    )


@pytest.fixture
def filled(database: Database) -> Database:
    with database.write() as connection:
        add_to_index(connection, one(1, "ab_1%", {"Alphabetic": "Müller^Anne"}))
        add_to_index(connection, one(2, "AB_1%", {"Alphabetic": "Wang", "Ideographic": "王^小东"}))
        add_to_index(connection, one(3, "abX1[", {"Alphabetic": "Zoe"}, "SEG"))
    return database


@pytest.mark.parametrize(
    ("path", "values", "found"),
    [
        ((0x00100020,), ("ab_1%",), {1}),
        ((0x00100020,), ("ab_*",), {1}),
        ((0x00100020,), ("ab?1*",), {1, 3}),
        ((0x00100020,), ("*[",), {3}),
        ((0x00100020,), ("*%",), {1, 2}),
        ((0x00100010,), ("MULLER*",), {1}),
        ((0x00100010,), ("王*",), {2}),
        ((0x00080061,), ("SEG", "PT"), {3}),
        ((0x00080062,), ("1.2.840.10008.5.1.4.1.1.2",), {1, 2, 3}),
        ((0x0020000D,), ("1.2.1", "1.2.3"), {1, 3}),
    ],
)
def test_a_value_matches_alike_everywhere(
    filled: Database, path: tuple[int, ...], values: tuple[str, ...], found: set[int]
) -> None:
    asked = Search(level=Level.STUDY, matches=(Match(path=path, values=values),))
    with filled.read() as connection:
        page = search(connection, asked)
    assert {int(item.study_uid[-1]) for item in page.items} == found


@pytest.mark.parametrize("level", list(Level))
def test_keys_of_every_level_work_together(filled: Database, level: Level) -> None:
    matches = [
        Match(path=(0x00080020,), first="20240101", last="20240102"),
        Match(path=(0x00080030,), first="101500.000000", last="101559.999999"),
        Match(path=(0x00080061,), values=("C*",)),
    ]
    if level is not Level.STUDY:
        matches.append(Match(path=(0x00200011,), values=("2",)))
        matches.append(Match(path=(0x00400275, 0x00400009), values=("STEP*",)))
    with filled.read() as connection:
        page = search(connection, Search(level=level, matches=tuple(matches), limit=1))
    assert page.items[0].study_uid == "1.2.2"
    assert page.has_more is (level is Level.STUDY)


def test_files_are_found_by_place_and_nowhere_else(filled: Database) -> None:
    with filled.read() as connection:
        (found,) = stored_instances(connection, "1.2.3", "1.2.3.1")
        assert (found.modality, found.sha256) == ("SEG", f"{3:064d}")
        for place in (("1.2.9",), ("1.2.3", "1.2.1.1"), ("1.2.3", "1.2.3.1", "1.2.1.1.1")):
            with pytest.raises(NotFoundError) as caught:
                stored_instances(connection, *place)
            assert caught.value.key == place[-1]
