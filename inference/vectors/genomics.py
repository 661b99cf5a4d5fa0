"""Vectors of the module ``genomics``."""

from __future__ import annotations

import re

from inference.services.diagnosis.rules import pharmacogenomics, polygenic
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _array_call(vector: Vector, _: Suite) -> Answer:
    found = pharmacogenomics.call_gene(vector.inputs["gene"], vector.inputs["genotypes"])
    answer: dict[str, object] = {
        "result": found.result,
        "called": found.is_called,
        "diplotypes": found.diplotypes,
        "phenotypes": found.phenotypes,
        "not_assessed": found.not_assessed,
    }
    if found.is_called:
        answer["phenotype"] = found.phenotypes[0]
        if len(found.diplotypes) == 1:
            answer["diplotype"] = found.diplotypes[0]
        if len(found.activity_scores) == 1:
            answer["activity_score"] = found.activity_scores[0]
    return answer


def _reported(vector: Vector, _: Suite) -> Answer:
    """Take the gene from the inputs, or else from the part of the id that names one."""
    gene = vector.inputs.get("gene")
    if gene is None:
        match = re.search(r"cyp\w+|tpmt|nudt15|dpyd|slco1b1", vector.id, re.I)
        if match is None:
            raise ValueError("no gene is named")
        gene = match[0].upper()
    phenotype, score = pharmacogenomics.reported_phenotype(gene, vector.inputs["diplotype"])
    return {"phenotype": phenotype, "activity_score": score}


def _dpyd(vector: Vector, _: Suite) -> Answer:
    rows = [pharmacogenomics.dpyd_action(float(s)) for s in vector.inputs["activity_scores"]]
    return {"phenotypes": [row[0] for row in rows], "action": [row[1] for row in rows]}


def _hla(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    return {"category": pharmacogenomics.hla_category(i["drug"], i["hla"])}


def _polygenic(vector: Vector, _: Suite) -> Answer:
    weights = [
        polygenic.Weight(rsid=rsid, effect_allele=allele, effect_weight=float(weight))
        for rsid, allele, weight in vector.inputs["rows"]
    ]
    found = polygenic.polygenic_score(weights, vector.inputs["dosage"])
    return {"sum": found.total, "denom": found.n_alleles, "avg": found.average}


CASES = (
    Case(name="genotypes", needs=fields("gene genotypes"), answer=_array_call),
    Case(
        name="reported diplotype", needs=fields("diplotype"), may=fields("gene"), answer=_reported
    ),
    Case(name="DPYD", needs=fields("activity_scores"), about="dpyd", answer=_dpyd),
    Case(name="HLA", needs=fields("hla drug"), answer=_hla),
    Case(name="polygenic score", needs=fields("rows dosage"), answer=_polygenic),
)
