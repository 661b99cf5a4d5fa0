"""Drug pairs that interrupt the person who orders: the ONC high-priority set of 15.

Everything else is passive: most interruptive alerts are overridden, and an alert that is always
overridden hides the one that matters. The pairs are classes; which drug belongs to which class
comes from a licensed source that the site loads. The answer is "N rules, version", never "no
interactions".
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

VERSION = "ONC high-priority 2012"
SOURCE = "Phansalkar S et al. J Am Med Inform Assoc 2012;19:735-743, Table 2"
BEHAVIOUR = "interruptive"

HIGH_PRIORITY_PAIRS: tuple[tuple[str, str], ...] = (
    ("amphetamine derivatives", "MAOI"),
    ("atazanavir", "proton pump inhibitors"),
    ("febuxostat", "azathioprine/mercaptopurine"),
    ("SSRI", "MAOI"),
    ("irinotecan", "strong CYP3A4 inhibitors"),
    ("narcotic analgesics", "MAOI"),
    ("tricyclic antidepressants", "MAOI"),
    ("high-risk QT prolonging", "high-risk QT prolonging"),
    ("ramelteon", "strong CYP1A2 inhibitors"),
    ("strong CYP3A4 inducers", "protease inhibitors"),
    ("HMG-CoA reductase inhibitors", "CYP3A4 and protease inhibitors"),
    ("ergot alkaloids", "CYP3A4 and protease inhibitors"),
    ("tizanidine", "CYP1A2 inhibitors"),
    ("tranylcypromine", "procarbazine"),
    ("triptans", "MAOI"),
)


@dataclass(frozen=True, kw_only=True)
class PairCheck:
    """What was checked, and what was found.

    Attributes
    ----------
    found : pairs of (drug, drug, rule)
    unrecognised : drugs without any class here; nothing is known about them
    """

    n_rules: int
    version: str
    found: tuple[tuple[str, str, str], ...]
    unrecognised: tuple[str, ...]


def check_pairs(classes_by_drug: dict[str, Collection[str]]) -> PairCheck:
    """Look for high-priority pairs among a patient's drugs.

    ``classes_by_drug`` maps each drug to its classes in the words of `HIGH_PRIORITY_PAIRS`.
    """
    known = {name for pair in HIGH_PRIORITY_PAIRS for name in pair}
    drugs = sorted(classes_by_drug)
    found = [
        (first, second, f"{a} with {b}")
        for i, first in enumerate(drugs)
        for second in drugs[i + 1 :]
        for a, b in HIGH_PRIORITY_PAIRS
        if (a in classes_by_drug[first] and b in classes_by_drug[second])
        or (b in classes_by_drug[first] and a in classes_by_drug[second])
    ]
    return PairCheck(
        n_rules=len(HIGH_PRIORITY_PAIRS),
        version=VERSION,
        found=tuple(found),
        unrecognised=tuple(drug for drug in drugs if not known & set(classes_by_drug[drug])),
    )
