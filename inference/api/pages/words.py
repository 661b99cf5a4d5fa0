"""The pages' words in every language: one TOML file per area in ``words/``, languages together.

A key is ``area.name``; each has every language, which a test checks. Who asks chooses by a cookie
(the switch on every page), else by Accept-Language, else English.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any, Literal, get_args

from starlette.requests import Request

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
LANGUAGE_COOKIE = "clinfer_language"
WORDS_FOLDER = Path(__file__).resolve().parent / "words"


class Words:
    """The words of one language; calling it gives one text with its values filled in."""

    def __init__(self, language: Language) -> None:
        self.language = language

    def __call__(self, key: str, **values: Any) -> str:
        """Return a text; an unknown key is a fault of the page."""
        text = catalogue()[key][self.language]
        return text.format(**values) if values else text

    def known(self, key: str, fallback: str) -> str:
        """Return a text, or the fallback where a name from outside has none."""
        found = catalogue().get(key)
        return found[self.language] if found else fallback


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """Return every key with its text in each language."""
    found: dict[str, dict[str, str]] = {}
    for path in sorted(WORDS_FOLDER.glob("*.toml")):
        for name, texts in tomllib.loads(path.read_text("utf-8")).items():
            found[f"{path.stem}.{name}"] = texts
    return found


def language_of(request: Request, wanted: str | None = None) -> Language:
    """Return the language to answer a request in; ``wanted`` is what its address asks for."""
    for asked in (wanted, request.cookies.get(LANGUAGE_COOKIE)):
        for language in LANGUAGES:
            if asked == language:
                return language
    return preferred_language(request.headers.get("accept-language", ""))


def preferred_language(accept: str) -> Language:
    """Return the language that an Accept-Language header likes best (RFC 9110, 12.5.4)."""
    best: Language = "en"
    best_quality = 0.0
    for part in accept.split(","):
        name, _, parameter = part.strip().partition(";")
        try:
            quality = float(parameter.strip().removeprefix("q=")) if parameter else 1.0
        except ValueError:
            continue
        for language in LANGUAGES:
            if name.strip().lower().split("-")[0] == language and quality > best_quality:
                best, best_quality = language, quality
    return best


def words_of(request: Request) -> Words:
    """Return the words for whoever asks."""
    return Words(language_of(request))
