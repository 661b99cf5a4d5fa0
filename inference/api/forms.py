"""Small forms that pages send."""

from __future__ import annotations

from urllib.parse import parse_qs

from fastapi import Request

from inference.api.errors import ApiError

MAX_FORM_BYTES = 16_384
MAX_FIELDS = 60


class Form:
    """The fields of a form; an absent field reads as ""."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self._fields = fields

    def get(self, name: str, default: str = "") -> str:
        """Return the first value of a field, without blanks around it."""
        return self._fields.get(name, [default])[0].strip()

    def exact(self, name: str) -> str:
        """Return the first value as it was typed (a password)."""
        return self._fields.get(name, [""])[0]

    def all(self, name: str) -> list[str]:
        """Return every value of a field."""
        return self._fields.get(name, [])


async def form_of(request: Request) -> Form:
    """Read a form.

    Raises
    ------
    ApiError
    """
    if not request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        raise ApiError("unsupported_media_type", "send application/x-www-form-urlencoded")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_FORM_BYTES:
            raise ApiError("body_too_large", f"the limit here is {MAX_FORM_BYTES} bytes")
    try:
        fields = parse_qs(body.decode("utf-8"), max_num_fields=MAX_FIELDS, keep_blank_values=True)
    except ValueError as error:
        raise ApiError("bad_request", "the form is malformed") from error
    return Form(fields)


def local_path(target: str) -> str:
    """Return where to go after a form; only ever an address of this service."""
    is_local = target.startswith("/") and not target.startswith("//") and "\\" not in target
    return target if is_local and target.isprintable() else "/"
