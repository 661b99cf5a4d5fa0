"""From a search's address to what is searched for (PS3.18 8.3.4 and 10.6)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.datadict import dictionary_VR, tag_for_keyword

from inference.domain.dicom_index import INDEXED_TAGS
from inference.gateways.dicomweb_request import BadRequestError
from inference.storage.dicom_search import Level, Match, Search, searchable

MAX_RESULTS: Mapping[Level, int] = {Level.STUDY: 500, Level.SERIES: 1000, Level.INSTANCE: 1000}
"""Most results of one answer (a study's counts cost most); ``offset`` leads to what is beyond."""

MAX_OFFSET = 100_000_000
MODALITIES_IN_STUDY, SOP_CLASSES_IN_STUDY = 0x00080061, 0x00080062
COMPUTED_TAGS: Mapping[int, str] = {
    0x00080005: "CS",  # Specific Character Set
    0x00080056: "CS",  # Instance Availability
    MODALITIES_IN_STUDY: "CS",
    0x00081190: "UR",  # Retrieve URL
    0x00201206: "IS",  # Number of Study Related Series
    0x00201208: "IS",  # Number of Study Related Instances
    0x00201209: "IS",  # Number of Series Related Instances
}
_UID_LIST = re.compile(r"[,\\]")
_UID = re.compile(r"[0-9.]{1,64}")
_DATE = r"\d{8}"
_TIME = r"\d{2}(?:\d{2}(?:\d{2}(?:\.\d{1,6})?)?)?"
_LISTS = frozenset({"UI"})
_LISTED_TAGS = frozenset({MODALITIES_IN_STUDY, 0x00080060})
MAX_VALUES = 1000


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A search and what its answer should hold.

    Attributes
    ----------
    include : attributes asked for besides the usual ones; None is all of them
    is_fuzzy : sounds-like matching was asked for, which is not done
    unknown : attributes to include that the index does not hold
    """

    search: Search
    include: frozenset[int] | None
    is_fuzzy: bool
    unknown: tuple[str, ...]


def parse_search(
    level: Level,
    parameters: list[tuple[str, str]],
    *,
    study_uid: str | None = None,
    series_uid: str | None = None,
) -> Asked:
    """Read a query.

    Raises
    ------
    BadRequestError
        Names the parameter, and what is wrong with it.
    """
    numbers = {"limit": MAX_RESULTS[level], "offset": 0}
    is_fuzzy = False
    include: set[int] | None = set()
    unknown: list[str] = []
    matches: dict[tuple[int, ...], Match] = {}
    seen: set[str] = set()
    for name, value in parameters:
        if name == "accept":
            continue
        if name == "includefield":
            include = _included(value, include, unknown)
            continue
        is_first = name not in seen
        seen.add(name)
        if name in numbers:
            numbers[name] = _number(name, value, is_first)
        elif name == "fuzzymatching":
            is_fuzzy = _boolean(name, value)
        elif name in ("emptyvaluematching", "multiplevaluematching"):
            if _boolean(name, value):
                raise BadRequestError(field=name, problem="is not supported")
        else:
            path = attribute_path(name)
            if path in matches or not is_first:
                raise BadRequestError(field=name, problem="is given twice")
            match = _match(level, name, path, value)
            if match is None and include is not None:
                include |= set(path[:1])
            elif match is not None:
                matches[path] = match
    return Asked(
        search=Search(
            level=level,
            study_uid=study_uid,
            series_uid=series_uid,
            matches=tuple(matches.values()),
            limit=min(numbers["limit"], MAX_RESULTS[level]),
            offset=numbers["offset"],
        ),
        include=None if include is None else frozenset(include),
        is_fuzzy=is_fuzzy,
        unknown=tuple(unknown),
    )


def attribute_path(name: str) -> tuple[int, ...]:
    """Read an attribute: keyword or GGGGEEEE, one in a sequence after a dot.

    Raises
    ------
    BadRequestError
    """
    return tuple(_tag(part, name) for part in name.split("."))


def _tag(part: str, name: str) -> int:
    if re.fullmatch(r"[0-9A-Fa-f]{8}", part):
        return int(part, 16)
    tag = tag_for_keyword(part)
    if tag is None:
        raise BadRequestError(
            field=name[:64], problem="is neither a DICOM attribute nor a parameter"
        )
    return int(tag)


def _included(value: str, include: set[int] | None, unknown: list[str]) -> set[int] | None:
    names = [name.strip() for name in value.split(",")]
    if include is None or "all" in names:
        return None
    for name in names:
        path = attribute_path(name)
        if path[0] in INDEXED_TAGS or path[0] in COMPUTED_TAGS:
            include.add(path[0])
        else:
            unknown.append(name)
    return include


def _number(name: str, value: str, is_first: bool) -> int:
    if not is_first:
        raise BadRequestError(field=name, problem="is given twice")
    if not re.fullmatch(r"[0-9]{1,12}", value) or int(value) > MAX_OFFSET * 10:
        raise BadRequestError(field=name, problem=f"must be a number from 0 to {MAX_OFFSET}")
    return min(int(value), MAX_OFFSET)


def _boolean(name: str, value: str) -> bool:
    if value not in ("true", "false"):
        raise BadRequestError(field=name, problem="must be true or false")
    return value == "true"


def _match(level: Level, name: str, path: tuple[int, ...], value: str) -> Match | None:
    """Return what a key matches; None where it matches everything (PS3.4 C.2.2.2.3)."""
    if path not in searchable(level):
        known = ", ".join(
            sorted(".".join(f"{tag:08X}" for tag in one) for one in searchable(level))
        )
        raise BadRequestError(
            field=name[:64],
            problem=f"cannot be matched when searching for {_PLURAL[level]}; these can: {known}",
        )
    if len(value) > 64 * MAX_VALUES or "\0" in value:
        raise BadRequestError(field=name, problem="is too long, or holds a NUL")
    if not value.strip("*"):
        return None
    vr = dictionary_VR(path[-1])
    if vr == "DA":
        return _date_match(name, path, value)
    if vr == "TM":
        return _time_match(name, path, value)
    if vr == "UI":
        return _uid_match(name, path, value)
    if vr == "IS":
        if not re.fullmatch(r"[+-]?[0-9]{1,10}", value):
            raise BadRequestError(field=name, problem="must be a whole number")
        return Match(path=path, values=(value,))
    if path[-1] in _LISTED_TAGS:
        values = tuple(one.strip() for one in _UID_LIST.split(value) if one.strip())
        return Match(path=path, values=values[:MAX_VALUES])
    return Match(path=path, values=(value.strip(),))


def _uid_match(name: str, path: tuple[int, ...], value: str) -> Match:
    uids = tuple(one.strip() for one in _UID_LIST.split(value) if one.strip())
    if not uids or not all(_UID.fullmatch(uid) for uid in uids):
        raise BadRequestError(field=name, problem="must be UIDs, separated by commas")
    if len(uids) > MAX_VALUES:
        raise BadRequestError(field=name, problem=f"holds more than {MAX_VALUES} UIDs")
    return Match(path=path, values=uids)


def _date_match(name: str, path: tuple[int, ...], value: str) -> Match:
    found = re.fullmatch(rf"({_DATE})?(-)?({_DATE})?", value)
    if found is None or not any(found.group(1, 3)) or (found.group(3) and not found.group(2)):
        raise BadRequestError(field=name, problem="must be YYYYMMDD, or a range of two with a dash")
    first, dash, last = found.group(1) or "", found.group(2), found.group(3) or ""
    return Match(path=path, first=first, last=last if dash else first)


def _time_match(name: str, path: tuple[int, ...], value: str) -> Match:
    """Read a time or range; one that is not exact to the microsecond means all that it covers."""
    found = re.fullmatch(rf"({_TIME})?(-)?({_TIME})?", value)
    if found is None or not any(found.group(1, 3)) or (found.group(3) and not found.group(2)):
        raise BadRequestError(field=name, problem="must be HHMMSS, or a range of two with a dash")
    first, dash, last = found.group(1) or "", found.group(2), found.group(3) or ""
    last = last if dash else first
    return Match(
        path=path,
        first=_filled(first, "000000.000000") if first else "",
        last=_filled(last, "235959.999999") if last else "",
    )


def _filled(time: str, pattern: str) -> str:
    return time + pattern[len(time) :]


_PLURAL = {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}
