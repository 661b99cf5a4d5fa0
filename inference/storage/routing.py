"""The routing table, in the order in which a person reads it."""

from __future__ import annotations

from sqlalchemy import Connection, delete, func, insert, select, update

from inference.domain.routing import RoutingRule
from inference.storage.errors import NotFoundError, StorageError
from inference.storage.people_tables import routing_rule

MAX_RULES = 200


class RoutingError(StorageError):
    """A rule is malformed, has a name that is taken, or is one too many."""

    code = "routing"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


def list_rules(connection: Connection) -> tuple[RoutingRule, ...]:
    """Return every rule in its order."""
    rows = connection.execute(
        select(routing_rule).order_by(routing_rule.c.position, routing_rule.c.id)
    )
    return tuple(RoutingRule(**row._mapping) for row in rows)


def add_rule(connection: Connection, rule: RoutingRule) -> int:
    """Keep a new rule at the end of the table and return its id.

    Raises
    ------
    RoutingError
    """
    if not rule.name.strip() or len(rule.name) > 64:
        raise RoutingError(field="name", problem="is 1 to 64 characters")
    for name in ("ae_title", "modality", "procedure", "series"):
        if len(getattr(rule, name)) > 128:
            raise RoutingError(field=name, problem="has at most 128 characters")
    known = connection.execute(select(routing_rule.c.name)).scalars().all()
    if rule.name in known:
        raise RoutingError(field="name", problem=f"there is a rule named {rule.name} already")
    if len(known) >= MAX_RULES:
        raise RoutingError(field="rules", problem=f"there are {MAX_RULES}, the most that are kept")
    last = connection.execute(select(func.max(routing_rule.c.position))).scalar_one_or_none()
    return int(
        connection.execute(
            insert(routing_rule)
            .values(
                position=(last or 0) + 1,
                name=rule.name,
                ae_title=rule.ae_title,
                modality=rule.modality,
                procedure=rule.procedure,
                series=rule.series,
                model=rule.model,
                destination=rule.destination,
                is_enabled=rule.is_enabled,
            )
            .returning(routing_rule.c.id)
        ).scalar_one()
    )


def set_enabled(connection: Connection, rule_id: int, is_enabled: bool) -> None:
    """Switch a rule on or off.

    Raises
    ------
    NotFoundError
    """
    changed = connection.execute(
        update(routing_rule).where(routing_rule.c.id == rule_id).values(is_enabled=is_enabled)
    )
    if changed.rowcount == 0:
        raise NotFoundError(what="routing rule", key=rule_id)


def remove_rule(connection: Connection, rule_id: int) -> None:
    """Forget a rule.

    Raises
    ------
    NotFoundError
    """
    changed = connection.execute(delete(routing_rule).where(routing_rule.c.id == rule_id))
    if changed.rowcount == 0:
        raise NotFoundError(what="routing rule", key=rule_id)
