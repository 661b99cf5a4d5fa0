"""Data types of HL7 v2 that matter here: identifiers, names, times, numbers, priorities."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from types import MappingProxyType

from inference.domain.job import Priority
from inference.domain.patient import (
    Authorities,
    AuthorityError,
    Demographics,
    PatientIdentifier,
)
from inference.gateways.hl7_message import (
    DATA_TYPE,
    REQUIRED,
    TABLE_VALUE,
    Hl7Error,
    Place,
    Segment,
    part_of,
)

MAX_IDENTIFIER = 256
PRIORITIES: Mapping[str, Priority] = MappingProxyType(
    {
        "S": Priority.STAT,
        "A": Priority.URGENT,
        "P": Priority.URGENT,
        "T": Priority.URGENT,
        "R": Priority.ROUTINE,
        "C": Priority.ROUTINE,
    }
)
"""HL7 table 0485: stat, as soon as possible, preoperative, timing critical, routine, callback."""

SEXES = {"M": "M", "F": "F", "O": "O", "U": "U", "A": "O", "N": "O"}
"""HL7 table 0001 to FHIR's four: ambiguous and not applicable are "other"."""

NUMBER = re.compile(r"[+-]?[0-9]+(\.[0-9]*)?|[+-]?\.[0-9]+")
"""Data type NM: no exponent, no comma."""

_TIME = re.compile(
    r"(?P<digits>[0-9]{4}(?:[0-9]{2}){0,5})(?P<fraction>\.[0-9]{1,4})?(?P<zone>[+-][0-9]{4})?"
)
_NAME_GROUPS = {"I": 1, "P": 2}
"""XPN-8, name representation: ideographic and phonetic are DICOM's second and third group."""


def identifiers_of(
    segment: Segment, index: int, authorities: Authorities
) -> list[PatientIdentifier]:
    """Return a field of identifiers (CX): numbers with the authority that gave each.

    Raises
    ------
    Hl7Error
        There is none, or one without an authority while no default is set.
    """
    found = []
    for number, repetition in enumerate(segment.repetitions(index), start=1):
        value = part_of(repetition, 1)
        if not value:
            continue
        place = segment.place(index, component=4, repetition=number)
        if len(value) > MAX_IDENTIFIER:
            raise Hl7Error(
                place=segment.place(index, component=1, repetition=number),
                hl7_code=DATA_TYPE,
                problem=f"is longer than {MAX_IDENTIFIER} characters",
            )
        authority = _authority(repetition, 4, authorities, place)
        if not authority:
            raise Hl7Error(
                place=place,
                hl7_code=REQUIRED,
                problem="is missing, and no default_patient_authority is set",
            )
        found.append(PatientIdentifier(value=value, authority=authority))
    if not found:
        raise Hl7Error(place=segment.place(index), hl7_code=REQUIRED, problem="holds no identifier")
    return list(dict.fromkeys(found))


def entity_of(
    segment: Segment, index: int, authorities: Authorities, otherwise: str
) -> tuple[str, str]:
    """Return an entity identifier (EI): number and authority; ("", "") where it is empty.

    ``otherwise`` is the local name of the authority where the field names none.
    """
    repetitions = segment.repetitions(index)
    value = part_of(repetitions[0], 1) if repetitions else ""
    if not value:
        return "", ""
    place = segment.place(index, component=2)
    if len(value) > MAX_IDENTIFIER:
        raise Hl7Error(
            place=place, hl7_code=DATA_TYPE, problem=f"is longer than {MAX_IDENTIFIER} characters"
        )
    parts = (part_of(repetitions[0], 2), part_of(repetitions[0], 3), part_of(repetitions[0], 4))
    name = parts[0] if any(parts) else otherwise
    return value, _local(authorities, name, parts[1], parts[2], place)


def demographics_of(pid: Segment, *, now: datetime) -> Demographics:
    """Return name, birth date and sex of a PID segment.

    Raises
    ------
    Hl7Error
    """
    sex = pid.text(8, 1).upper()
    if sex and sex not in SEXES:
        raise Hl7Error(
            place=pid.place(8),
            hl7_code=TABLE_VALUE,
            problem=f"{sex!r} is none of {', '.join(SEXES)}",
        )
    born = pid.text(7, 1)
    if born and moment_of(born, pid.place(7)) > now:
        raise Hl7Error(place=pid.place(7), hl7_code=DATA_TYPE, problem="the birth date is to come")
    return Demographics(name=_name(pid), birth_date=born[:8], sex=SEXES.get(sex, ""))


def moment_of(text: str, place: Place) -> datetime:
    """Return the moment a time stamp (TS, DTM) begins at; without a zone it is taken for UTC.

    Raises
    ------
    Hl7Error
    """
    found = _TIME.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        digits = found["digits"]
        formats = {4: "%Y", 6: "%Y%m", 8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M"}
        moment = datetime.strptime(digits, formats.get(len(digits), "%Y%m%d%H%M%S"))  # noqa: DTZ007
    except ValueError as error:
        raise Hl7Error(
            place=place, hl7_code=DATA_TYPE, problem=f"{text!r} is no time (YYYYMMDDHHMMSS)"
        ) from error
    zone = found["zone"]
    offset = timedelta(hours=int(zone[:3]), minutes=int(zone[0] + zone[3:])) if zone else None
    return moment.replace(tzinfo=UTC if offset is None else timezone(offset)).astimezone(UTC)


def priority_of(candidates: list[tuple[str, Place]]) -> Priority | None:
    """Return the priority that a message gives in one or several of its places; None: in none.

    Raises
    ------
    Hl7Error
        A word that is none of table 0485, or two places that disagree.
    """
    found: dict[Priority, Place] = {}
    for word, place in candidates:
        if not word:
            continue
        priority = PRIORITIES.get(word.upper())
        if priority is None:
            raise Hl7Error(
                place=place,
                hl7_code=TABLE_VALUE,
                problem=f"priority {word!r} is none of {', '.join(PRIORITIES)}",
            )
        found.setdefault(priority, place)
        if len(found) > 1:
            raise Hl7Error(
                place=place,
                hl7_code=TABLE_VALUE,
                problem=f"differs from the priority in {next(iter(found.values()))}",
            )
    return next(iter(found), None)


def _authority(repetition: str, component: int, authorities: Authorities, place: Place) -> str:
    name, universal, kind = (part_of(repetition, component, one) for one in (1, 2, 3))
    return _local(authorities, name, universal, kind, place)


def _local(authorities: Authorities, name: str, universal: str, kind: str, place: Place) -> str:
    try:
        return authorities.of_local(name, universal, kind, field=str(place))
    except AuthorityError as error:
        raise Hl7Error(place=place, hl7_code=TABLE_VALUE, problem=error.problem) from error


def _name(pid: Segment) -> str:
    """Write PID-5 as DICOM's person name: prefix and suffix change places, groups by XPN-8."""
    groups = ["", "", ""]
    for repetition in pid.repetitions(5):
        family, given, middle = (
            part_of(repetition, 1, 1),
            part_of(repetition, 2),
            part_of(repetition, 3),
        )
        suffix, prefix = part_of(repetition, 4), part_of(repetition, 5)
        parts = [family, given, middle, prefix, suffix]
        written = "^".join(part.replace("^", " ").replace("=", " ") for part in parts).rstrip("^")
        group = _NAME_GROUPS.get(part_of(repetition, 8), 0)
        groups[group] = groups[group] or written
    return "=".join(groups).rstrip("=")
