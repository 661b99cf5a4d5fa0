"""Vectors of the module ``vitals``."""

from __future__ import annotations

from inference.services.vitals.rules import news2, qsofa
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector


def _news2(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    if i["scale"] not in (1, 2):
        raise ValueError(f"SpO2 scale {i['scale']}")
    found = news2.news2(
        news2.Observations(
            rr=i["rr"],
            spo2=i["spo2"],
            is_on_oxygen=i["oxygen"],
            sbp=i["sbp"],
            pulse=i["pulse"],
            acvpu=i["acvpu"],
            temp=i["temp"],
            scale2_prescribed=i["scale"] == 2,
        )
    )
    return {"score": found.score, "components": found.components, "band": found.band}


def _news2_chart(_: Vector, __: Suite) -> Answer:
    return news2.chart_table()


def _qsofa(vector: Vector, _: Suite) -> Answer:
    points = [qsofa.qsofa_points(*case) for case in vector.inputs["cases"]]
    return {"points": points, "positive": f">={qsofa.POSITIVE_FROM}"}


CASES = (
    Case(
        name="NEWS2",
        needs=fields("rr spo2 scale oxygen sbp pulse acvpu temp"),
        answer=_news2,
    ),
    Case(name="qSOFA", needs=fields("cases"), about="qsofa", answer=_qsofa),
    Case(name="NEWS2 chart", needs=fields(""), about=r"news2\.table", answer=_news2_chart),
)
