"""Acknowledgements: AA, AE or AR, with an ERR segment that names the field; and those we get."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from inference.gateways.hl7_message import INTERNAL, VERSIONS, Header, Hl7Error, escaped

ACCEPT_CODES = {"AA": "CA", "AE": "CE", "AR": "CR"}
"""Original mode to enhanced mode, HL7 table 0008."""

WANTED = {"AL": {"AA", "AE", "AR"}, "": set(), "NE": set(), "ER": {"AE", "AR"}, "SU": {"AA"}}
"""HL7 table 0155: which outcomes the sender wants to be told."""

REPEATABLE = frozenset({INTERNAL, "206"})
"""ERR-3 of a fault that may be gone at the next try: internal error, record locked."""

_PLAIN_REJECTIONS = frozenset({"200", "201", "202", "203"})


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a message: ``code`` AA, AE or AR, and what ERR says."""

    code: str
    errors: tuple[dict[str, str], ...] = ()

    @classmethod
    def of_error(cls, error: Hl7Error) -> Outcome:
        """Return the outcome that an error is."""
        return cls(
            code=error.ack,
            errors=(
                {
                    "place": error.place.er7,
                    "hl7_code": error.hl7_code,
                    "code": error.code,
                    "problem": str(error),
                },
            ),
        )


def acknowledgements(header: Header, outcome: Outcome, *, now: datetime) -> tuple[bytes, ...]:
    """Return the answers the sender asked for: one in original mode, up to two in enhanced mode.

    What is acknowledged is durable here in either mode, so the accept acknowledgement promises no
    less than the application's.
    """
    if not header.is_enhanced:
        return (_ack(header, outcome, outcome.code, now),)
    answers = []
    if outcome.code in WANTED.get(header.accept_ack, WANTED["AL"]):
        answers.append(_ack(header, outcome, ACCEPT_CODES[outcome.code], now))
    if outcome.code in WANTED.get(header.application_ack, WANTED["AL"]):
        answers.append(_ack(header, outcome, outcome.code, now))
    return tuple(answers)


def _ack(header: Header, outcome: Outcome, code: str, now: datetime) -> bytes:
    version = header.version if header.version in VERSIONS else "2.5.1"
    event = f"^{escaped(header.event)}" if header.event else ""
    stamp = f"{now:%Y%m%d%H%M%S}+0000"
    lines = [
        f"MSH|^~\\&|{header.receiving_application}|{header.receiving_facility}"
        f"|{header.application}|{header.facility}|{stamp}||ACK{event}^ACK"
        f"|{secrets.token_hex(8)}|P|{version}||||||UNICODE UTF-8",
        f"MSA|{code}|{header.control_id}",
    ]
    lines += [
        f"ERR||{one['place']}|{one['hl7_code']}|E|{one['code']}||{escaped(one['problem'])}"
        for one in outcome.errors
    ]
    return ("\r".join(lines) + "\r").encode("utf-8", "replace")


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a receiver said of a message of ours."""

    code: str
    control_id: str
    problem: str
    is_repeatable: bool

    @property
    def is_positive(self) -> bool:
        """Whether it has the message."""
        return self.code in {"AA", "CA"}


def read_answer(data: bytes) -> Answer:
    """Take an acknowledgement apart; the text is read leniently, it is somebody else's.

    An error of content (AE, CE) stays one however often the same is sent; a rejection may be about
    the receiver's own state, unless it says that it does not know the type or version.
    """
    text = data.decode("utf-8", "replace")
    fields = {line[:3]: line.split("|") for line in text.replace("\n", "\r").split("\r")[::-1]}
    msa = _padded(fields.get("MSA", ()), 7)
    err = _padded(fields.get("ERR", ()), 9)
    code, hl7_code = msa[1], err[3].split("^")[0]
    problem = err[8] or err[7] or msa[3] or hl7_code
    is_rejection = code in {"AR", "CR"} and hl7_code not in _PLAIN_REJECTIONS
    return Answer(
        code=code,
        control_id=msa[2],
        problem=problem,
        is_repeatable=is_rejection or hl7_code in REPEATABLE,
    )


def _padded(fields: Sequence[Any], n: int) -> list[str]:
    return [*fields, *[""] * (n - len(fields))]
