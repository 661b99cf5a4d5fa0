"""What a DICOMweb request says beside its address: what it accepts, and where it came to."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from starlette.requests import Request

from inference.domain.errors import ClinferError

PREFIX = "/dicom-web"
MAX_PARAMETERS = 100
_PORTS = {"http": 80, "https": 443}
_TOKEN = re.compile(r'\s*([!#$%&\'*+.^_`|~0-9A-Za-z/-]+)\s*(?:=\s*("(?:[^"\\]|\\.)*"|[^;,"]*))?\s*')


class BadRequestError(ClinferError):
    """A parameter or header says something that cannot be; ``field`` names it."""

    code = "bad_request"

    def __init__(self, *, field: str, problem: str) -> None:
        self.field, self.problem = field, problem
        super().__init__(f"{field}: {problem}")


class NotAcceptableError(ClinferError):
    """Nothing that the client takes can be given; the message says what can."""

    code = "not_acceptable"


@dataclass(frozen=True, kw_only=True)
class MediaRange:
    """One entry of an Accept header; names in small letters, parameter values as they came."""

    media_type: str
    parameters: dict[str, str] = field(default_factory=dict)
    quality: float = 1.0

    @property
    def inner_type(self) -> str:
        """Type of the parts of a multipart answer; "*/*" where it is not said."""
        return self.parameters.get("type", "*/*").lower()

    @property
    def transfer_syntax(self) -> str | None:
        """The transfer syntax asked for; None where it is not said."""
        return self.parameters.get("transfer-syntax")

    def covers(self, media_type: str) -> bool:
        """Whether a type without parameters falls under it."""
        return type_covers(self.media_type, media_type)


def type_covers(wanted: str, media_type: str) -> bool:
    """Whether ``wanted``, which may be ``*/*`` or ``image/*``, takes a media type."""
    return wanted in ("*/*", media_type, media_type.partition("/")[0] + "/*")


def accepted(request: Request) -> tuple[MediaRange, ...]:
    """Return what the client takes, best first; the parameter ``accept`` goes before the header.

    Raises
    ------
    BadRequestError
    """
    given = [value for name, value in parameters_of(request) if name == "accept"]
    text = ",".join(given) if given else request.headers.get("accept", "*/*")
    ranges = parse_accept(text)
    return tuple(sorted(ranges, key=lambda one: -one.quality))


def parse_accept(text: str) -> Sequence[MediaRange]:
    """Read an Accept header (RFC 9110 12.5.1); entries of quality 0 are left out.

    Raises
    ------
    BadRequestError
    """
    ranges = []
    for entry in _split(text, ","):
        if entry.strip():
            one = _media_range(entry)
            if one.quality > 0:
                ranges.append(one)
    return ranges or ([] if text.strip() else [MediaRange(media_type="*/*")])


def _media_range(entry: str) -> MediaRange:
    first, *rest = _split(entry, ";")
    media_type = first.strip().lower()
    if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9a-z-]+/[!#$%&'*+.^_`|~0-9a-z-]+", media_type):
        raise BadRequestError(field="Accept", problem="holds what is no media type")
    parameters: dict[str, str] = {}
    for text in rest:
        found = _TOKEN.fullmatch(text)
        if found is None:
            raise BadRequestError(field="Accept", problem="has a malformed parameter")
        value = (found.group(2) or "").strip()
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        parameters[found.group(1).lower()] = value
    return MediaRange(
        media_type=media_type, parameters=parameters, quality=_quality(parameters.pop("q", "1"))
    )


def _quality(text: str) -> float:
    if not re.fullmatch(r"0(\.\d{0,3})?|1(\.0{0,3})?", text):
        raise BadRequestError(field="Accept", problem="q is no number from 0 to 1")
    return float(text)


def _split(text: str, separator: str) -> list[str]:
    """Split where the separator stands outside quotes."""
    parts, begin, is_quoted, is_escaped = [], 0, False, False
    for place, char in enumerate(text):
        if is_escaped:
            is_escaped = False
        elif is_quoted and char == "\\":
            is_escaped = True
        elif char == '"':
            is_quoted = not is_quoted
        elif char == separator and not is_quoted:
            parts.append(text[begin:place])
            begin = place + 1
    if is_quoted:
        raise BadRequestError(field="Accept", problem="has a quote that is not closed")
    return [*parts, text[begin:]]


def parameters_of(request: Request) -> list[tuple[str, str]]:
    """Return the query's pairs, decoded as UTF-8.

    Raises
    ------
    BadRequestError
    """
    raw: bytes = request.scope.get("query_string", b"")
    try:
        return parse_qsl(
            raw.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_PARAMETERS,
        )
    except ValueError as error:
        raise BadRequestError(
            field="query", problem=f"is not UTF-8, or has more than {MAX_PARAMETERS} parameters"
        ) from error


def only_parameters(request: Request, known: frozenset[str]) -> dict[str, str]:
    """Return the query's parameters; each may stand once.

    Raises
    ------
    BadRequestError
        One is not known here, or stands twice.
    """
    found: dict[str, str] = {}
    for name, value in parameters_of(request):
        if name == "accept":
            continue
        if name not in known:
            raise BadRequestError(field=name[:64], problem="is no parameter of this address")
        if name in found:
            raise BadRequestError(field=name, problem="is given twice")
        found[name] = value
    return found


def base_url(request: Request) -> str:
    """Return our own root as the client knows it: addresses in answers begin with it.

    It is the request's own, so that a viewer is never sent to an origin it does not come from.
    Some clients leave the port out of their Host header (dicomweb-client does): where they name
    the very address that they are connected to, the port is that connection's.
    """
    url = request.base_url
    address, port = request.scope.get("server") or ("", None)
    names = {address, "localhost"} if address in ("127.0.0.1", "::1") else {address}
    if url.port is None and port and url.hostname in names and port != _PORTS.get(url.scheme):
        url = url.replace(port=port)
    return f"{str(url).rstrip('/')}{PREFIX}"
