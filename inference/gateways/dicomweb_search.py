"""QIDO-RS: find studies, series and instances (PS3.18 10.6)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Request
from fastapi import Path as PathParameter
from fastapi.responses import JSONResponse, Response

from inference.domain.dicom_index import (
    INDEXED_TAGS,
    INSTANCE_TAGS,
    SERIES_TAGS,
    STUDY_TAGS,
    Attributes,
)
from inference.domain.roles import IMAGE_READERS, Permissions, Role
from inference.gateways.dicomweb_query import Asked, parse_search
from inference.gateways.dicomweb_request import (
    PREFIX,
    MediaRange,
    NotAcceptableError,
    accepted,
    base_url,
    parameters_of,
)
from inference.storage.database import Database
from inference.storage.dicom_search import Found, Level, search

JSON_TYPES = ("application/dicom+json", "application/json")
Uid = Annotated[str, PathParameter(max_length=64, pattern=r"^[0-9]+(\.[0-9]+)+$")]

READERS = IMAGE_READERS | {Role.INTEGRATION}
"""Who may see images and what names their patient: people who look at them, and viewers' keys."""

SEARCH_PATHS: Mapping[str, Level] = {
    "/studies": Level.STUDY,
    "/series": Level.SERIES,
    "/studies/{study_uid}/series": Level.SERIES,
    "/instances": Level.INSTANCE,
    "/studies/{study_uid}/instances": Level.INSTANCE,
    "/studies/{study_uid}/series/{series_uid}/instances": Level.INSTANCE,
}
PERMISSIONS: Permissions = {("GET", PREFIX + path): READERS for path in SEARCH_PATHS}

USUAL_TAGS: Mapping[Level, frozenset[int]] = {
    Level.STUDY: frozenset(
        {
            0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00080201, 0x00081030, 0x00100010,
            0x00100020, 0x00100021, 0x00100030, 0x00100040, 0x0020000D, 0x00200010,
        }
    ),
    Level.SERIES: frozenset(
        {
            0x00080021, 0x00080031, 0x00080060, 0x0008103E, 0x00180015, 0x0020000E, 0x00200011,
            0x00400244, 0x00400245, 0x00400275,
        }
    ),
    Level.INSTANCE: frozenset(
        {
            0x00080016, 0x00080018, 0x00200013, 0x00280008, 0x00280010, 0x00280011, 0x00280100,
        }
    ),
}  # fmt: skip
"""Returned unasked: tables 10.6.3-3 to 10.6.3-5, and what every list of studies shows besides."""

EMPTY_TOO = frozenset(
    {
        0x00080020, 0x00080030, 0x00080050, 0x00080090, 0x00100010, 0x00100020, 0x00100030,
        0x00100040, 0x00200010, 0x00080060, 0x00200011, 0x00200013,
    }
)  # fmt: skip
"""Attributes that are in every answer, without a value where the study says none."""

_TAGS_OF = {Level.STUDY: STUDY_TAGS, Level.SERIES: SERIES_TAGS, Level.INSTANCE: INSTANCE_TAGS}


@dataclass(frozen=True, kw_only=True)
class DicomwebSearch:
    """The searching end; ``is_complete`` says whether older instances are indexed by now."""

    database: Database
    is_complete: Callable[[], bool]

    def router(self) -> APIRouter:
        """Return the six addresses of the search transaction."""
        router = APIRouter(prefix=PREFIX, tags=["dicomweb"])

        def everywhere(level: Level) -> Callable[[Request], Response]:
            def endpoint(request: Request) -> Response:
                return self.search(request, level)

            return endpoint

        def in_study(level: Level) -> Callable[[Request, str], Response]:
            def endpoint(request: Request, study_uid: Uid) -> Response:
                return self.search(request, level, study_uid)

            return endpoint

        def in_series(request: Request, study_uid: Uid, series_uid: Uid) -> Response:
            return self.search(request, Level.INSTANCE, study_uid, series_uid)

        for path, level in SEARCH_PATHS.items():
            endpoint: Callable[..., Response] = everywhere(level)
            if "{series_uid}" in path:
                endpoint = in_series
            elif "{study_uid}" in path:
                endpoint = in_study(level)
            router.add_api_route(
                path,
                endpoint,
                methods=["GET"],
                summary=f"Search for {_WORDS[level]} (QIDO-RS)",
                response_class=JSONResponse,
                responses={200: {"content": {JSON_TYPES[0]: {}}}},
            )
        return router

    def search(
        self,
        request: Request,
        level: Level,
        study_uid: str | None = None,
        series_uid: str | None = None,
    ) -> Response:
        """Answer one search.

        Raises
        ------
        BadRequestError, NotAcceptableError
        """
        media_type = json_type(accepted(request))
        asked = parse_search(
            level, parameters_of(request), study_uid=study_uid, series_uid=series_uid
        )
        with self.database.read() as connection:
            page = search(connection, asked.search)
        base = base_url(request)
        items = [answer_item(found, asked, base) for found in page.items]
        warnings = self._warnings(asked, has_more=page.has_more)
        headers = {}
        if warnings:
            headers["Warning"] = ", ".join(f'299 {base} "{text}"' for text in warnings)
        return JSONResponse(items, headers=headers, media_type=media_type)

    def _warnings(self, asked: Asked, *, has_more: bool) -> list[str]:
        warnings = []
        if has_more:
            shown = asked.search.offset + asked.search.limit
            warnings.append(
                f"There are additional results; they can be requested with offset={shown}"
            )
        if asked.is_fuzzy:
            warnings.append(
                "The fuzzymatching parameter is not supported."
                " Only literal matching has been performed."
            )
        if asked.unknown:
            names = ", ".join(asked.unknown[:5])
            warnings.append(f"Not indexed, so not included: {names}"[:200])
        if not self.is_complete():
            warnings.append("Older instances are still being indexed; some may be missing here")
        return warnings


def json_type(ranges: tuple[MediaRange, ...]) -> str:
    """Return the JSON type that the client likes best.

    Raises
    ------
    NotAcceptableError
    """
    for one in ranges:
        for media_type in JSON_TYPES:
            if one.covers(media_type):
                return media_type
    raise NotAcceptableError(f"the answer is {JSON_TYPES[0]}")


def answer_item(found: Found, asked: Asked, base: str) -> dict[str, Any]:
    """Return one result as DICOM JSON, tags in order."""
    level = asked.search.level
    item: dict[str, Any] = {
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080056": {"vr": "CS", "Value": ["ONLINE"]},
        "0020000D": {"vr": "UI", "Value": [found.study_uid]},
    }
    levels = (
        (Level.STUDY, found.study, asked.search.study_uid),
        (Level.SERIES, found.series, asked.search.series_uid),
        (Level.INSTANCE, found.instance, None),
    )
    for one, attributes, is_named in levels[: level + 1]:
        is_above = one < level
        usual = frozenset() if is_above and is_named else USUAL_TAGS[one]
        item |= _chosen(attributes, _TAGS_OF[one], usual, asked.include)
    url = f"{base}/studies/{found.study_uid}"
    if level is Level.STUDY:
        item["00080061"] = _member("CS", list(found.modalities))
        item["00201206"] = _member("IS", [found.n_series])
        item["00201208"] = _member("IS", [found.n_instances])
    else:
        url += f"/series/{found.series_uid}"
        item["0020000E"] = _member("UI", [found.series_uid])
        if level is Level.SERIES:
            item["00201209"] = _member("IS", [found.n_instances])
        else:
            url += f"/instances/{found.instance_uid}"
            item["00080018"] = _member("UI", [found.instance_uid])
    item["00081190"] = _member("UR", [url])
    return dict(sorted(item.items()))


def _chosen(
    attributes: Attributes,
    tags: Mapping[int, str],
    usual: frozenset[int],
    include: frozenset[int] | None,
) -> dict[str, Any]:
    chosen: dict[str, Any] = {}
    for tag in tags:
        name = f"{tag:08X}"
        if include is not None and tag not in usual and tag not in include:
            continue
        if name in attributes:
            chosen[name] = attributes[name]
        elif tag in usual and tag in EMPTY_TOO:
            chosen[name] = {"vr": INDEXED_TAGS[tag]}
    return chosen


def _member(vr: str, values: list[Any]) -> dict[str, Any]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}


_WORDS = {Level.STUDY: "studies", Level.SERIES: "series", Level.INSTANCE: "instances"}
