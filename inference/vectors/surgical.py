"""Vectors of the module ``surgical``."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation

from inference.services.treatment.rules import clearance, frames, registration
from inference.vectors.cases import Answer, Case, fields
from inference.vectors.document import Suite, Vector

_TURN = re.compile(r"rotated by Euler xyz \(([-\d., ]+)\) deg", re.I)


def _tre(vector: Vector, suite: Suite) -> Answer:
    fiducials, target = _turned(vector, suite)
    fle2 = float(vector.inputs["fle2_mm2"])
    return {
        "tre2": registration.expected_tre2_mm2(fiducials, target, fle2),
        "fre2": registration.expected_fre2_mm2(len(fiducials), fle2),
    }


def _turned(vector: Vector, suite: Suite) -> tuple[Any, Any]:
    """Return fiducials and target; "F rotated by Euler xyz (a,b,c) deg" turns those written out."""
    given, target = vector.inputs["fiducials"], vector.inputs["target"]
    if not isinstance(given, str):
        return np.asarray(given, dtype=float), np.asarray(target, dtype=float)
    match = _TURN.search(given)
    written = [
        one
        for one in suite.vectors
        if one.module == vector.module and isinstance(one.inputs.get("fiducials"), list)
    ]
    if match is None or not written:
        raise ValueError(f"fiducials {given!r}")
    turn = Rotation.from_euler("xyz", [float(x) for x in match[1].split(",")], degrees=True)
    first = written[0].inputs
    points = turn.apply(np.asarray(first["fiducials"], dtype=float))
    if isinstance(target, str):
        target = turn.apply(np.asarray(first["target"], dtype=float))
    return points, np.asarray(target, dtype=float)


def _fre(vector: Vector, _: Suite) -> Answer:
    fle2 = float(vector.inputs["fle2"])
    counts = vector.inputs["N"]
    many = counts if isinstance(counts, list) else [counts]
    found = [registration.expected_fre2_mm2(int(n), fle2) for n in many]
    return {"fre2": found if isinstance(counts, list) else found[0]}


def _ras_point(vector: Vector, _: Suite) -> Answer:
    return {"ras": frames.ras_from_lps(vector.inputs["lps"])[0].tolist()}


def _ras_matrix(vector: Vector, _: Suite) -> Answer:
    return {"T_ras": frames.ras_matrix_from_lps(vector.inputs["T_lps"]).tolist()}


def _clearance(vector: Vector, _: Suite) -> Answer:
    i = vector.inputs
    spacing = tuple(float(s) for s in i["spacing_mm"])
    centre, radius = np.asarray(i["sphere"]["c"], dtype=float), float(i["sphere"]["r"])
    ends = np.asarray(i["segment"], dtype=float)
    reach = np.maximum(ends.max(axis=0), centre + radius)
    shape = np.ceil(reach / spacing).astype(int) + 2
    at = np.moveaxis(np.indices(shape), 0, -1) * np.asarray(spacing)
    mask = np.linalg.norm(at - centre, axis=-1) <= radius
    found = clearance.distance_map(mask, (spacing[0], spacing[1], spacing[2]))
    in_voxels = clearance.distance_map(mask, (1.0, 1.0, 1.0))
    steps = ends / np.asarray(spacing)
    return {
        "analytic_mm": clearance.sphere_clearance_mm(centre, radius, ends[0], ends[1]),
        "edt_mm": clearance.sampled_distance_mm(found, ends[0], ends[1]),
        "edt_without_spacing": clearance.sampled_distance_mm(in_voxels, steps[0], steps[1]),
        "reported_mm": clearance.clearance_mm(found, ends[0], ends[1]),
    }


def _grade(vector: Vector, _: Suite) -> Answer:
    breach = vector.inputs["breach_mm"]
    if isinstance(breach, list):
        return {"grades": [clearance.breach_grade(float(one)) for one in breach]}
    return {"grade": clearance.breach_grade(float(breach))}


CASES = (
    Case(name="target error", needs=fields("fiducials target fle2_mm2"), answer=_tre),
    Case(name="fiducial error", needs=fields("N fle2"), answer=_fre),
    Case(name="LPS point", needs=fields("lps"), answer=_ras_point),
    Case(name="LPS transform", needs=fields("T_lps"), answer=_ras_matrix),
    Case(
        name="clearance",
        needs=fields("spacing_mm sphere segment"),
        answer=_clearance,
        is_rounded=True,
    ),
    Case(name="breach grade", needs=fields("breach_mm"), answer=_grade),
)
