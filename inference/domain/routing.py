"""Where a series goes: rules of a table from what it is to a model and a destination.

Without any rule every model that applies runs and every destination gets every result. With rules,
a series takes part in those that match it, and in nothing else.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

NO_DESTINATION = "none"
"""As a rule's destination: the results stay here."""


@dataclass(frozen=True, kw_only=True)
class SeriesFacts:
    """What a rule may ask of a series; several AE titles where several sent it.

    Attributes
    ----------
    procedures : codes of Procedure Code Sequence (0008,1032), and the study's description
    """

    series_uid: str
    ae_titles: frozenset[str]
    modality: str
    procedures: frozenset[str]
    description: str


@dataclass(frozen=True, kw_only=True)
class RoutingRule:
    """One row; "" asks nothing, and ``*`` and ``?`` stand for any characters; case is ignored.

    Attributes
    ----------
    series : pattern of the series description
    model : "" for every model that applies
    destination : "" for every destination, "none" for no one
    """

    id: int = 0
    position: int
    name: str
    ae_title: str = ""
    modality: str = ""
    procedure: str = ""
    series: str = ""
    model: str = ""
    destination: str = ""
    is_enabled: bool = True

    def mismatch(self, facts: SeriesFacts) -> str | None:
        """Return the first field in which a series differs, or None where the rule takes it."""
        if not self.is_enabled:
            return "is_enabled"
        asked: tuple[tuple[str, str, Iterable[str]], ...] = (
            ("ae_title", self.ae_title, facts.ae_titles),
            ("modality", self.modality, (facts.modality,)),
            ("procedure", self.procedure, facts.procedures),
            ("series", self.series, (facts.description,)),
        )
        for name, pattern, values in asked:
            if pattern and not any(_fits(pattern, value) for value in values):
                return name
        return None


@dataclass(frozen=True, kw_only=True)
class Routing:
    """The table as it was when a job began, and the series of the job's study."""

    rules: tuple[RoutingRule, ...] = ()
    facts: Mapping[str, SeriesFacts] = field(default_factory=dict)

    def takes(self, series_uid: str, model: str) -> bool:
        """Whether a model may run on a series."""
        if not self.rules:
            return True
        return any(rule.model in {"", model} for rule in self.matching(series_uid))

    def delivers(self, series_uid: str, model: str, destination: str) -> bool:
        """Whether a result goes to a destination; one about the whole study goes everywhere."""
        if not self.rules or not series_uid:
            return True
        return any(
            rule.model in {"", model} and rule.destination in {"", destination}
            for rule in self.matching(series_uid)
        )

    def matching(self, series_uid: str) -> tuple[RoutingRule, ...]:
        """Return the rules that take a series; an unknown series is taken by none."""
        facts = self.facts.get(series_uid)
        if facts is None:
            return ()
        return tuple(rule for rule in self.rules if rule.mismatch(facts) is None)


def _fits(pattern: str, value: str) -> bool:
    return fnmatchcase(value.casefold(), pattern.casefold())
