"""Read a file of acceptance vectors (schema ``clinical-vectors/1``)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from inference.domain.care_errors import VectorFileError

SCHEMA = "clinical-vectors/1"
MAX_FILE_BYTES = 64 * 1024 * 1024


class Printed(float):
    """A number with the digits it was printed with: 9.0 and 9.00 differ in what they promise."""

    text: str

    def __new__(cls, text: str) -> Printed:
        """Keep the text beside the value."""
        number = super().__new__(cls, text)
        number.text = text
        return number

    @property
    def half_last_digit(self) -> float:
        """Half a unit of the last printed decimal."""
        mantissa, _, exponent = self.text.lower().partition("e")
        decimals = len(mantissa.partition(".")[2])
        return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


@dataclass(frozen=True, kw_only=True)
class Tolerance:
    """How far a computed number may be from the expected one; ``kind`` is "abs" or "rel"."""

    kind: str
    size: float

    def allowed(self, expected: float) -> float:
        """Return the allowed absolute difference."""
        return self.size if self.kind == "abs" else self.size * abs(expected)


@dataclass(frozen=True, kw_only=True)
class Vector:
    """One expected answer."""

    id: str
    module: str
    inputs: Mapping[str, Any]
    expected: Mapping[str, Any]
    tolerance_text: str = ""

    def tolerance(self, variant: str) -> Tolerance | None:
        """Return the tolerance for a variant of the computation; None where none is given.

        "rel 0.02 (back-derived) / 0.025 (site-fitted)" names one for each of two variants; without
        a fitting name the first one counts.

        Raises
        ------
        VectorFileError
            A text that names no number.
        """
        if not self.tolerance_text:
            return None
        found: list[tuple[Tolerance, str]] = []
        kind = ""
        for part in self.tolerance_text.split(";")[0].split("/"):
            match = re.match(r"\s*(abs|rel)?\s*([0-9.]+(?:e[+-]?\d+)?)\s*(?:\((.*)\))?", part, re.I)
            if match is None or not (match[1] or kind):
                raise VectorFileError(
                    path=self.id, problem=f"tolerance {self.tolerance_text!r} is not understood"
                )
            kind = (match[1] or kind).lower()
            found.append((Tolerance(kind=kind, size=float(match[2])), match[3] or ""))
        for one, label in found:
            if variant and variant in label:
                return one
        return found[0][0]


@dataclass(frozen=True, kw_only=True)
class Suite:
    """Every vector of a file, in its order."""

    path: Path
    vectors: tuple[Vector, ...]
    by_id: Mapping[str, Vector] = field(default_factory=dict)


def load_suite(path: Path) -> Suite:
    """Read a file; "as OTHER.ID" in an input takes that vector's inputs.

    Raises
    ------
    VectorFileError
        Not readable, another schema, an id twice, or a reference to nothing.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise VectorFileError(path=str(path), problem="larger than 64 MiB")
        document = json.loads(path.read_text(encoding="utf-8"), parse_float=Printed)
    except (OSError, ValueError, RecursionError) as error:
        raise VectorFileError(path=str(path), problem=str(error)) from error
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        raise VectorFileError(path=str(path), problem=f"its schema is not {SCHEMA}")
    rows = document.get("vectors")
    if not isinstance(rows, list) or not rows:
        raise VectorFileError(path=str(path), problem="it holds no vectors")
    vectors = [_as_vector(path, number, row) for number, row in enumerate(rows)]
    by_id = {one.id: one for one in vectors}
    if len(by_id) != len(vectors):
        raise VectorFileError(path=str(path), problem="an id stands there twice")
    resolved = tuple(_resolved(path, one, by_id) for one in vectors)
    return Suite(path=path, vectors=resolved, by_id={one.id: one for one in resolved})


def _as_vector(path: Path, number: int, row: Any) -> Vector:
    if not isinstance(row, dict):
        raise VectorFileError(path=str(path), problem=f"vector {number} is not an object")
    for name, kind in (("id", str), ("module", str), ("inputs", dict), ("expected", dict)):
        if not isinstance(row.get(name), kind):
            raise VectorFileError(path=str(path), problem=f"vector {number}: {name} is missing")
    return Vector(
        id=row["id"],
        module=row["module"],
        inputs=row["inputs"],
        expected=row["expected"],
        tolerance_text=str(row.get("tolerance", "")),
    )


def _resolved(path: Path, vector: Vector, by_id: Mapping[str, Vector]) -> Vector:
    inputs = dict(vector.inputs)
    for value in list(inputs.values()):
        if isinstance(value, str) and value.startswith("as "):
            other = by_id.get(value.removeprefix("as ").strip())
            if other is None:
                raise VectorFileError(path=str(path), problem=f"{vector.id}: {value!r} is nowhere")
            own = {name: one for name, one in inputs.items() if one != value}
            inputs = {**other.inputs, **own}
    return replace(vector, inputs=inputs)
