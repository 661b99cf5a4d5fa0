"""What one destination takes: its kinds of object, the segmentation's encoding, the language.

A profile is a small TOML file, so that a site describes each of its systems once::

    encodings = ["seg", "sr", "gsps", "sc"]
    segmentation = "BINARY"
    language = "zh"
    release = "after sign-off"
    commitment = "n_action"
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from inference.domain.encoding import ENCODINGS, Base, kinds_of
from inference.domain.result import Commitment, Release, Retract

Bases = Annotated[tuple[Base, ...], Field(min_length=1)]
Segmentation = Literal["BINARY", "LABELMAP", "FRACTIONAL"]
Language = Literal["en", "zh"]
StateObject = Literal["sr", "sc"]


class DeliveryProfile(BaseModel):
    """Which encodings of a result go to a destination, when, and how they are taken back.

    ``states``: the objects that say why there is no result; an empty list sends none, so that such
    a study looks there like one that nobody sent.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    encodings: Bases = ("seg", "sr")
    segmentation: Segmentation = "BINARY"
    language: Language = "en"
    states: tuple[StateObject, ...] = ("sr",)
    release: Release = Release.AT_ONCE
    research: bool = False
    commitment: Commitment = Commitment.NONE
    retract: Retract = Retract.NOTE

    @model_validator(mode="after")
    def _is_whole(self) -> DeliveryProfile:
        if len(set(self.encodings)) < len(self.encodings):
            raise ValueError("encodings: one is named twice")
        if "sr" in self.encodings and "seg" not in self.encodings:
            raise ValueError(
                'encodings: "sr" points at segments of "seg", so that must be sent too'
            )
        return self

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds of files, in the order of sending."""
        return kinds_of(self.encodings, self.segmentation, self.language)

    @property
    def sent_kinds(self) -> tuple[str, ...]:
        """Kinds of a result's files and of statements, in the order of sending."""
        suffix = "" if self.language == "en" else f"_{self.language}"
        statements = (f"state_{one}{suffix}" for one in sorted(set(self.states))[::-1])
        change = ("change_sr",) if "sr" in self.encodings else ()
        return (*self.kinds, *change, *statements)

    @property
    def needs_probabilities(self) -> bool:
        """Whether a backend that gives labels only cannot serve this destination."""
        return any(ENCODINGS[kind].needs_probabilities for kind in self.kinds)


def load_profile(path: Path) -> DeliveryProfile:
    """Read and check a profile file.

    Raises
    ------
    ValueError
        Names the file, the field and what is wrong with it.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ValueError(f"profile: there is no file {path}") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"profile: {path}: {error}") from error
    try:
        return DeliveryProfile.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        raise ValueError(f"profile: {path}: {field + ': ' if field else ''}{problem}") from error
