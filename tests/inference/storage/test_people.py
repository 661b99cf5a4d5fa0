"""People, sessions and routing rules on both databases."""

from __future__ import annotations

from datetime import timedelta

import pytest

from inference.domain.roles import Role
from inference.domain.routing import NO_DESTINATION, Routing, RoutingRule, SeriesFacts
from inference.storage import people, retention, routing
from inference.storage.database import Database
from inference.storage.errors import NotFoundError
from inference.storage.people import PersonError
from inference.storage.retention import RetentionError
from inference.storage.routing import RoutingError
from tests.builders.clock import SetClock


def test_a_person_keeps_roles_and_patients(database: Database, clock: SetClock) -> None:
    patients = [("P-1", "A"), ("P-1", "B")]
    with database.write() as connection:
        people.add(connection, name="Ada", roles=[Role.READER, Role.READER], now=clock.now())
        people.add(
            connection, name="pat", roles=[Role.PATIENT], compartment=patients, now=clock.now()
        )
        for name in ("ada", "ADA"):
            with pytest.raises(PersonError) as caught:
                people.add(connection, name=name, roles=[], now=clock.now())
            assert caught.value.field == "name"
        with pytest.raises(PersonError) as caught:
            people.add(connection, name="x", roles=[Role.CAREGIVER], now=clock.now())
        assert caught.value.field == "roles"
        with pytest.raises(PersonError) as caught:
            people.set_roles(connection, "ada", [Role.READER], compartment=patients)
        assert caught.value.field == "patients"
    with database.read() as connection:
        assert people.get(connection, "ADA").roles == {Role.READER}
        assert people.get(connection, "pat").compartment == set(patients)
        assert [one.name for one in people.list_people(connection)] == ["ada", "pat"]
        with pytest.raises(NotFoundError):
            people.get(connection, "nobody")


def test_sessions_end_with_the_password_and_old_ones_are_removed(
    database: Database, clock: SetClock
) -> None:
    with database.write() as connection:
        ada = people.add(
            connection, name="ada", roles=[Role.READER], password_hash="h", now=clock.now()
        )
        people.begin_session(connection, "one", now=clock.now(), person_id=ada.id)
        people.begin_session(connection, "two", now=clock.now(), person_id=None, key_name="lab")
        kept = people.remember_device(connection, None, ada.id, now=clock.now())
        assert people.remember_device(connection, kept, ada.id, now=clock.now()) == kept
        assert people.remember_device(connection, "planted", ada.id, now=clock.now()) != "planted"
        people.set_password(connection, "ada", "other", now=clock.now(), must_change=False)
        assert people.session_holder(connection, "one", now=clock.now()) is None
        assert not people.is_known_device(connection, kept, "ada", now=clock.now())
        found = people.session_holder(connection, "two", now=clock.now())
        assert found is not None
        assert (found[0].person, found[0].key_name, found[1]) == (None, "lab", False)
        later = clock.now() + timedelta(hours=13)
        people.begin_session(connection, "three", now=later, person_id=ada.id)
        rows = connection.exec_driver_sql("SELECT count(*) FROM session").scalar_one()
        assert rows == 1


def test_rules_keep_their_order_and_names(database: Database) -> None:
    with database.write() as connection:
        for name in ("b", "a"):
            routing.add_rule(connection, RoutingRule(position=0, name=name, modality="CT"))
        with pytest.raises(RoutingError) as caught:
            routing.add_rule(connection, RoutingRule(position=0, name="a"))
        assert caught.value.field == "name"
        with pytest.raises(NotFoundError):
            routing.remove_rule(connection, 99)
        with pytest.raises(NotFoundError):
            routing.set_enabled(connection, 99, True)
        assert [rule.name for rule in routing.list_rules(connection)] == ["b", "a"]


def test_retention_days_have_bounds(database: Database, clock: SetClock) -> None:
    with database.write() as connection:
        retention.set_days(connection, "images", 30)
        for kind, days, field in (("all", 1, "kind"), ("images", 0, "days")):
            with pytest.raises(RetentionError) as caught:
                retention.set_days(connection, kind, days)
            assert caught.value.field == field
        assert retention.rules(connection) == {"images": 30}
        assert retention.preview(connection, now=clock.now())[2].n_items == 0
        for kind in retention.KINDS:
            assert retention.remove_due(connection, kind, now=clock.now()) == ()


FACTS = SeriesFacts(
    series_uid="1.2",
    ae_titles=frozenset({"CT_ONE", "GATEWAY"}),
    modality="CT",
    procedures=frozenset({"CTCHEST", "Chest routine"}),
    description="Lung 1.0 mm",
)


@pytest.mark.parametrize(
    ("rule", "field"),
    [
        ({}, None),
        ({"ae_title": "ct_*"}, None),
        ({"ae_title": "gateway", "modality": "ct", "series": "*lung*"}, None),
        ({"procedure": "CTCHEST"}, None),
        ({"procedure": "*routine"}, None),
        ({"ae_title": "MR*"}, "ae_title"),
        ({"modality": "C"}, "modality"),
        ({"procedure": "CTABDOMEN"}, "procedure"),
        ({"series": "lung"}, "series"),
        ({"is_enabled": False}, "is_enabled"),
    ],
)
def test_a_rule_says_in_which_field_a_series_differs(rule: dict, field: str | None) -> None:
    assert RoutingRule(position=1, name="r", **rule).mismatch(FACTS) == field


def test_without_rules_everything_goes_everywhere_and_with_them_only_what_they_say() -> None:
    assert Routing().takes("1.2", "any")
    assert Routing().delivers("1.2", "any", "pacs")
    lung = RoutingRule(position=1, name="a", modality="CT", model="lung", destination="pacs")
    here = RoutingRule(position=2, name="b", model="bone", destination=NO_DESTINATION)
    table = Routing(rules=(lung, here), facts={"1.2": FACTS})
    assert [table.takes("1.2", name) for name in ("lung", "bone", "liver")] == [True, True, False]
    assert table.delivers("1.2", "lung", "pacs")
    assert not table.delivers("1.2", "lung", "research")
    assert not table.delivers("1.2", "bone", "pacs")
    assert not table.takes("9.9", "lung")
