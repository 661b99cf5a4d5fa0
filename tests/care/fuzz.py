"""Random model outputs against the safety frame: none outside a hard limit can be confirmed.

``python -m tests.care.fuzz --outputs 100000 --races 10000`` (`make fuzz`) prints what happened and
exits 1 where a value outside its limit was decided for, or a race had not exactly one decision.
What "outside" means is computed here from the limit's own numbers, not by the code under test.
"""

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from inference.domain import confirmation
from inference.domain.care_errors import CareRefusedError
from inference.domain.limits import OVERRIDE_REASONS
from inference.domain.proposal import Origin, Proposal, make_proposal, shown_sha256
from inference.domain.quantities import Quantity, quantity
from inference.storage.database import Database
from tests.builders.care import LIMIT, NOW, PATIENT, RATE, bound, library, nurse
from tests.care.races import run_races

UNITS = ["mg/kg/h", "mg/kg/h", "mg/kg/h", "ug/kg/min", "mg/h", "mL/h", "mcg/kg/min", "", None, "kg"]
PARAMETERS = [RATE, RATE, RATE, RATE, "ketamine.infusion_rate", ""]


@dataclass
class Fuzzed:
    """What became of the outputs; ``escaped`` must stay empty."""

    ends: Counter[str] = field(default_factory=Counter)
    escaped: list[str] = field(default_factory=list)


def random_value(chance: random.Random) -> Any:
    """Return something a broken or hostile model may say."""
    kind = chance.randrange(10)
    edge = chance.choice([LIMIT["hard_low"], LIMIT["hard_high"], 60.0, 0.0])
    choices: list[Any] = [
        chance.uniform(LIMIT["hard_low"], LIMIT["hard_high"]),
        chance.uniform(LIMIT["hard_low"], LIMIT["hard_high"]) * 10,  # the ten-times entry
        chance.uniform(-1e6, 1e6),
        math.ldexp(chance.random() - 0.5, chance.randrange(-1074, 1024)),
        chance.choice([math.nan, math.inf, -math.inf, -0.0, 10**400, -(10**400)]),
        math.nextafter(edge, chance.choice([-math.inf, math.inf])),
        edge,
        chance.choice(["2.0", "NaN", None, True, [2.0], {"value": 2.0}, b"2"]),
        chance.randrange(-10, 80),
        chance.lognormvariate(0, 3),
    ]
    return choices[kind]


def run_outputs(n_outputs: int, *, seed: int = 0) -> Fuzzed:
    """Send each output the whole way, with a person who always says yes."""
    chance = random.Random(seed)  # noqa: S311 - a test's order, no secret
    found = Fuzzed()
    for _ in range(n_outputs):
        parameter, value = chance.choice(PARAMETERS), random_value(chance)
        unit, typed = chance.choice(UNITS), random_value(chance)
        try:
            decided = _yes_to_everything(parameter, value, unit, typed, chance)
        except CareRefusedError as refusal:
            found.ends[refusal.code] += 1
            continue
        found.ends[decided.state.value] += 1
        for name, one in decided.agreed_values.items():
            if not _is_inside(name, one):
                found.escaped.append(f"{name} = {one.value!r} {one.unit}")
    return found


def _yes_to_everything(
    parameter: str, value: Any, unit: Any, typed: Any, chance: random.Random
) -> Proposal:
    needs_two = chance.random() < 0.3
    limits = library(needs_two=needs_two)
    proposed = make_proposal(
        service="treatment.infusion",
        patient=PATIENT,
        origin=Origin(
            model="fuzzed", model_version="1", model_sha256="b" * 64, input_sha256="c" * 64,
            inputs_valid_until=NOW + timedelta(seconds=60),
        ),
        library=limits,
        values={parameter: quantity(parameter, value, unit)},
        limits=bound(limits),
        explanation="",
        now=NOW,
        valid_until=NOW + timedelta(seconds=60),
    )  # fmt: skip
    reason = chance.choice(OVERRIDE_REASONS)
    one = proposed
    if chance.random() < 0.5:
        own = {parameter: quantity(parameter, typed, unit)}
        one = confirmation.modify(
            one, own, by=nurse("a"), shown=shown_sha256(one, own), now=NOW, override_reason=reason
        )
    for person in ("b", "c"):
        if not one.state.is_final:
            shown = shown_sha256(one, one.modified_values)
            one = confirmation.confirm(
                one, by=nurse(person), shown=shown, now=NOW, override_reason=reason
            )
    return one


def _is_inside(name: str, one: Quantity) -> bool:
    inside = LIMIT["hard_low"] <= one.value <= LIMIT["hard_high"]
    return name == RATE and one.unit == LIMIT["unit"] and inside


def main() -> int:
    """Run both; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outputs", type=int, default=100_000)
    parser.add_argument("--races", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    fuzzed = run_outputs(options.outputs, seed=options.seed)
    sys.stdout.write(f"{options.outputs} outputs: {dict(fuzzed.ends)}\n")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "races.sqlite"
        database, other = Database.open(path), Database.open(path)
        races = run_races(database, other, options.races, seed=options.seed)
        database.close()
        other.close()
    sys.stdout.write(f"{options.races} races: {dict(races.ends)}\n")
    for line in fuzzed.escaped + races.broken:
        sys.stdout.write(f"BROKEN {line}\n")
    return 1 if fuzzed.escaped or races.broken else 0


if __name__ == "__main__":
    sys.exit(main())
