"""Workitems as clients send them."""

from __future__ import annotations

from typing import Any


def text(vr: str, *values: Any) -> dict[str, Any]:
    return {"vr": vr, "Value": list(values)} if values else {"vr": vr}


def code(value: str, meaning: str) -> dict[str, Any]:
    item = {
        "00080100": text("SH", value),
        "00080102": text("SH", "99TEST"),
        "00080104": text("LO", meaning),
    }
    return {"vr": "SQ", "Value": [item]}


def new_workitem(patient_id: str = "P1", **changes: Any) -> dict[str, Any]:
    """A scheduled workitem with all that creation asks for."""
    document = {
        "00080005": text("CS", "ISO_IR 192"),
        "00100010": text("PN", {"Alphabetic": "Muster^Erika"}),
        "00100020": text("LO", patient_id),
        "00404005": text("DT", "20261124120000"),
        "00404018": code("seg", "Segmentation"),
        "00404021": {"vr": "SQ"},
        "00404041": text("CS", "READY"),
        "00741000": text("CS", "SCHEDULED"),
        "00741200": text("CS", "MEDIUM"),
        "00741202": text("LO", "AI"),
        "00741204": text("LO", "Lung segmentation"),
    }
    return {tag: value for tag, value in (document | changes).items() if value is not None}


def performed() -> dict[str, Any]:
    """What a completed workitem must say."""
    item = {
        "00404028": code("ws1", "Workstation 1"),
        "00404050": text("DT", "20261124120100"),
        "00404051": text("DT", "20261124120200"),
        "00404019": code("seg", "Segmentation"),
        "00404033": {"vr": "SQ"},
    }
    return {"00741216": {"vr": "SQ", "Value": [item]}}


def cancelled() -> dict[str, Any]:
    """What a cancelled workitem must say."""
    item = {"00404052": text("DT", "20261124120200"), "0074100E": code("x", "Equipment failure")}
    return {"00741002": {"vr": "SQ", "Value": [item]}}


def state(wanted: str, transaction_uid: str = "") -> dict[str, Any]:
    document = {"00741000": text("CS", wanted)}
    return document | ({"00081195": text("UI", transaction_uid)} if transaction_uid else {})
