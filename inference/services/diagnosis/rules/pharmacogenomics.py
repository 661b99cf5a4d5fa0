"""From genotypes or a reported diplotype to a CPIC phenotype; what is ambiguous stays ambiguous.

Positions that were not typed are no-calls: alleles that only they would show are listed as not
assessed. Letters of the other strand are refused, not turned. Two variants whose phase is unknown
give every pair of alleles that fits; a phenotype is called only where all of them agree.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass

from inference.domain.care_errors import PopulationError
from inference.services.diagnosis.rules.star_alleles import (
    BASES,
    CYP2D6_ACTIVITY,
    DECREASED,
    FUNCTION_ACTIVITY,
    INCREASED,
    NONE,
    NORMAL,
    PANELS,
    GenePanel,
)

INDETERMINATE = "Indeterminate"
POOR, INTERMEDIATE, NORMAL_MET, RAPID, ULTRARAPID = (
    f"{word} Metabolizer" for word in ("Poor", "Intermediate", "Normal", "Rapid", "Ultrarapid")
)
CYP2D6_SOURCE = "Caudle KE et al. Clin Transl Sci 2020;13:116-124"


@dataclass(frozen=True, kw_only=True)
class GeneCall:
    """What the genotypes of one gene allow.

    Attributes
    ----------
    result : "called", "ambiguous", "unreadable" or "not tested"
    diplotypes, phenotypes : all that fit, in order; one phenotype where it is called
    not_assessed : alleles that the typed positions cannot show
    unreadable : positions with letters that the plus strand does not have there
    """

    gene: str
    result: str
    diplotypes: tuple[str, ...] = ()
    phenotypes: tuple[str, ...] = ()
    activity_scores: tuple[float, ...] = ()
    not_assessed: tuple[str, ...] = ()
    unreadable: tuple[str, ...] = ()

    @property
    def is_called(self) -> bool:
        """Whether one phenotype is certain."""
        return self.result == "called"


def call_gene(gene: str, genotypes: Mapping[str, str]) -> GeneCall:
    """Call one gene from genotypes such as ``{"rs4244285": "AG"}``, plus strand.

    Raises
    ------
    PopulationError
        A gene without a panel here, CYP2D6 first of all.
    """
    panel = PANELS.get(gene)
    if panel is None:
        why = "a reported diplotype with copy number" if gene == "CYP2D6" else ", ".join(PANELS)
        raise PopulationError(formula="star alleles", field="gene", value=gene, studied=why)
    typed, unreadable = _read_sites(panel, genotypes)
    if not typed:
        result = "unreadable" if unreadable else "not tested"
        return GeneCall(gene=gene, result=result, unreadable=unreadable)
    names, hidden = _assessable(panel, typed)
    pairs = [
        pair
        for pair in itertools.combinations_with_replacement(names, 2)
        if all(_fits(panel, pair, site, observed) for site, observed in typed.items())
    ]
    if not pairs:
        return GeneCall(gene=gene, result="unreadable", unreadable=tuple(typed))
    found = [_phenotype(gene, panel, pair) for pair in pairs]
    phenotypes = tuple(dict.fromkeys(phenotype for phenotype, _ in found))
    scores = tuple(dict.fromkeys(score for _, score in found if score is not None))
    return GeneCall(
        gene=gene,
        result="called" if len(phenotypes) == 1 else "ambiguous",
        diplotypes=tuple("/".join(pair) for pair in pairs),
        phenotypes=phenotypes,
        activity_scores=scores,
        not_assessed=hidden,
        unreadable=unreadable,
    )


def reported_phenotype(gene: str, diplotype: str) -> tuple[str, float | None]:
    """Return phenotype and activity score (None where the gene has none) of a reported diplotype.

    An allele that is not in this gene's panel makes the result indeterminate.

    Raises
    ------
    PopulationError
        A gene without a panel here, or not two alleles.
    """
    if gene == "CYP2D6":
        return cyp2d6_phenotype(diplotype)
    panel = PANELS.get(gene)
    names = tuple(part.strip() for part in diplotype.split("/"))
    if panel is None or len(names) != 2:
        raise PopulationError(
            formula="star alleles", field=gene, value=diplotype, studied="two alleles, as *1/*2"
        )
    if not set(names) <= set(panel.alleles):
        return INDETERMINATE, None
    return _phenotype(gene, panel, (names[0], names[1]))


def cyp2d6_phenotype(diplotype: str) -> tuple[str, float | None]:
    """Return phenotype and activity score of a reported CYP2D6 diplotype ("*1x2/*4", "*36+*10/*1").

    The limits are those agreed in 2019: 0 poor, below 1.25 intermediate, up to 2.25 normal, above
    it ultrarapid. Older tables call 1.0 normal. An allele without an activity value makes the
    result indeterminate.

    Raises
    ------
    PopulationError
        Not two haplotypes.
    """
    haplotypes = [part.strip() for part in diplotype.split("/")]
    if len(haplotypes) != 2 or not all(haplotypes):
        raise PopulationError(
            formula="CYP2D6", field="diplotype", value=diplotype, studied="two alleles, as *1/*4"
        )
    total = 0.0
    for allele in (allele for haplotype in haplotypes for allele in haplotype.split("+")):
        match = re.fullmatch(r"(\*\d+)(?:x(\d+))?", allele.strip())
        if match is None or match[1] not in CYP2D6_ACTIVITY:
            return INDETERMINATE, None
        total += CYP2D6_ACTIVITY[match[1]] * int(match[2] or 1)
    if total == 0:
        return POOR, total
    if total < 1.25:
        return INTERMEDIATE, total
    return (NORMAL_MET if total <= 2.25 else ULTRARAPID), total


def dpyd_action(activity_score: float) -> tuple[str, str]:
    """Return phenotype (NM, IM, PM) and what is done to a fluoropyrimidine's starting dose.

    Raises
    ------
    PopulationError
        Not a possible sum of two alleles.

    References
    ----------
    Amstutz U et al. Clin Pharmacol Ther 2018;103:210-216 with CPIC's update of November 2018.
    """
    table = {
        2.0: ("NM", "label dose"),
        1.5: ("IM", "reduce 50%"),
        1.0: ("IM", "reduce 50%"),
        0.5: ("PM", "avoid"),
        0.0: ("PM", "avoid"),
    }
    if activity_score not in table:
        raise PopulationError(
            formula="DPYD", field="activity_score", value=activity_score, studied="0 to 2 by 0.5"
        )
    return table[activity_score]


HLA_RULES = {
    "allopurinol": ("HLA-B*58:01",),
    "abacavir": ("HLA-B*57:01",),
    "carbamazepine": ("HLA-B*15:02", "HLA-A*31:01"),
    "oxcarbazepine": ("HLA-B*15:02",),
    "phenytoin": ("HLA-B*15:02",),
}
"""Drug to the HLA alleles whose carriers avoid it (CPIC)."""


def hla_category(drug: str, result: str) -> str:
    """Return "avoid", "standard" or "needs test" for a report such as "HLA-B*58:01 positive".

    A result for one allele is no result for another, and one negative of two is none either.

    Raises
    ------
    PopulationError
        A drug without a rule, or a report that names no allele and sign.
    """
    if drug not in HLA_RULES:
        raise PopulationError(
            formula="HLA", field="drug", value=drug, studied=", ".join(sorted(HLA_RULES))
        )
    match = re.fullmatch(r"(HLA-[A-C]\*\d{2}:?\d{2})\s+(positive|negative)", result.strip())
    if match is None:
        raise PopulationError(
            formula="HLA", field="result", value=result, studied="an allele, then its sign"
        )
    allele = match[1] if ":" in match[1] else f"{match[1][:-2]}:{match[1][-2:]}"
    if allele not in HLA_RULES[drug]:
        return "needs test"
    if match[2] == "positive":
        return "avoid"
    return "standard" if len(HLA_RULES[drug]) == 1 else "needs test"


def _read_sites(
    panel: GenePanel, genotypes: Mapping[str, str]
) -> tuple[dict[str, tuple[str, ...]], tuple[str, ...]]:
    typed: dict[str, tuple[str, ...]] = {}
    unreadable: list[str] = []
    for position, site in enumerate(panel.sites):
        letters = genotypes.get(site)
        if letters is None:
            continue
        known = {base for spelt, _ in panel.alleles.values() for base in BASES[spelt[position]]}
        if len(letters) != 2 or not set(letters) <= known:
            unreadable.append(site)
        else:
            typed[site] = tuple(sorted(letters))
    return typed, tuple(unreadable)


def _assessable(panel: GenePanel, typed: Mapping[str, object]) -> tuple[list[str], tuple[str, ...]]:
    """Return alleles that a typed position can show, reference first, and those it cannot."""
    reference, *others = panel.alleles
    letters = panel.alleles[reference][0]
    shown = [reference]
    hidden: list[str] = []
    for name in others:
        telling = {
            site
            for site, base, own in zip(panel.sites, letters, panel.alleles[name][0], strict=True)
            if base not in BASES[own]
        }
        (shown if telling & set(typed) else hidden).append(name)
    return shown, tuple(hidden)


def _fits(panel: GenePanel, pair: tuple[str, str], site: str, observed: tuple[str, ...]) -> bool:
    position = panel.sites.index(site)
    first, second = (BASES[panel.alleles[name][0][position]] for name in pair)
    return any(tuple(sorted((a, b))) == observed for a in first for b in second)


def _phenotype(gene: str, panel: GenePanel, pair: tuple[str, str]) -> tuple[str, float | None]:
    functions = sorted(panel.alleles[name][1] for name in pair)
    if gene in ("CYP2C9", "DPYD"):
        score = sum(FUNCTION_ACTIVITY[one] for one in functions)
        poor_up_to = 0.5
        word = POOR if score <= poor_up_to else INTERMEDIATE if score < 2 else NORMAL_MET
        return word, score
    n_none = functions.count(NONE)
    if gene == "SLCO1B1":
        return ("Normal Function", "Decreased Function", "Poor Function")[n_none], None
    if n_none:
        return (POOR if n_none == 2 else INTERMEDIATE), None
    if functions == sorted((NORMAL, INCREASED)):
        return RAPID, None
    if functions == [INCREASED, INCREASED]:
        return ULTRARAPID, None
    return (INDETERMINATE if DECREASED in functions else NORMAL_MET), None
