"""An HL7 v2 message as text with its header checked, and the refusal that names a field.

What cannot be taken for its header is rejected (AR) and leaves nothing here; what cannot be taken
for its content is an error (AE) and is kept aside with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from hl7apy.consts import VALIDATION_LEVEL
from hl7apy.exceptions import HL7apyException
from hl7apy.parser import parse_message

from inference.domain.errors import ClinferError

FIELD_SEPARATOR = "|"
ENCODING_CHARACTERS = "^~\\&"
VERSIONS = ("2.3", "2.3.1", "2.4", "2.5", "2.5.1", "2.6")
PROCESSING_ID = "P"
MAX_SEGMENTS = 2000
MAX_SEPARATORS = 50_000
MAX_CONTROL_ID = 199
"""MSH-10 grew from 20 to 199 characters over the versions."""

CHARACTER_SETS: Mapping[str, str] = MappingProxyType(
    {
        "": "ascii",
        "ASCII": "ascii",
        "ISO IR6": "ascii",
        "8859/1": "iso8859-1",
        "8859/2": "iso8859-2",
        "8859/5": "iso8859-5",
        "8859/7": "iso8859-7",
        "8859/15": "iso8859-15",
        "ISO IR100": "iso8859-1",
        "ISO IR101": "iso8859-2",
        "ISO IR144": "iso8859-5",
        "ISO IR126": "iso8859-7",
        "UNICODE UTF-8": "utf-8",
        "UNICODE": "utf-8",
        "UTF-8": "utf-8",
        "ISO IR192": "utf-8",
        "GB 18030-2000": "gb18030",
        "GB18030": "gb18030",
    }
)
"""HL7 table 0211, and the names that senders give the same sets. Sets that switch by escape
sequences in the text (ISO IR87, ISO IR159, KS X 1001 beside ASCII) are not taken."""

SEGMENT_SEQUENCE, REQUIRED, DATA_TYPE, TABLE_VALUE = "100", "101", "102", "103"
MESSAGE_TYPE, EVENT, PROCESSING, VERSION = "200", "201", "202", "203"
UNKNOWN_KEY, DUPLICATE_KEY, INTERNAL = "204", "205", "207"
"""HL7 table 0357, the codes of ERR-3."""

_SEGMENT_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_ESCAPE = re.compile(r"\\([^\\]*)\\")
_ESCAPED = {"F": "|", "S": "^", "T": "&", "R": "~", "E": "\\", ".br": "\n"}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where in a message: segment, which of that name, field, repetition, component; from 1."""

    segment: str
    number: int = 1
    field: int | None = None
    repetition: int | None = None
    component: int | None = None

    def __str__(self) -> str:
        """As a person writes it: ``PID-3.4``."""
        name = self.segment if self.number == 1 else f"{self.segment}[{self.number}]"
        name += "" if self.field is None else f"-{self.field}"
        return name if self.component is None else f"{name}.{self.component}"

    @property
    def er7(self) -> str:
        """As ERR-2 writes it (data type ERL)."""
        parts = [self.segment, str(self.number)]
        parts += [
            "" if part is None else str(part)
            for part in (self.field, self.repetition, self.component)
        ]
        return "^".join(parts).rstrip("^")


class Hl7Error(ClinferError):
    """A message is not taken: ``ack`` AR for its header, AE for its content.

    ``hl7_code`` is of HL7 table 0357; ``place`` names the field.
    """

    code = "message_refused"

    def __init__(self, *, place: Place, hl7_code: str, problem: str, ack: str = "AE") -> None:
        self.place, self.hl7_code, self.problem, self.ack = place, hl7_code, problem, ack
        super().__init__(f"{place}: {problem}")


@dataclass(frozen=True, kw_only=True)
class Segment:
    """One segment; fields are counted from 1 as the standard does (MSH-1 is the separator)."""

    name: str
    number: int
    fields: tuple[str, ...] = field(repr=False)

    def text(
        self, index: int, component: int | None = None, subcomponent: int | None = None
    ) -> str:
        """Return a field's first repetition, or a component of it, unescaped; "" if absent."""
        repetitions = self.repetitions(index)
        return part_of(repetitions[0], component, subcomponent) if repetitions else ""

    def repetitions(self, index: int) -> tuple[str, ...]:
        """Return the repetitions of a field that are not empty, as they were sent."""
        raw = self.fields[index - 1] if 0 < index <= len(self.fields) else ""
        return tuple(one for one in raw.split("~") if one not in ("", '""'))

    def place(
        self, index: int, *, component: int | None = None, repetition: int | None = None
    ) -> Place:
        """Return where a field stands."""
        return Place(
            segment=self.name,
            number=self.number,
            field=index,
            repetition=repetition,
            component=component,
        )

    def required(self, index: int, component: int | None = None) -> str:
        """Return a field that must be there.

        Raises
        ------
        Hl7Error
        """
        value = self.text(index, component)
        if not value:
            raise Hl7Error(
                place=self.place(index, component=component),
                hl7_code=REQUIRED,
                problem="is missing or empty",
            )
        return value


@dataclass(frozen=True, kw_only=True)
class Header:
    """What MSH says. ``sender`` is MSH-3 and MSH-4: control ids are counted by each sender."""

    application: str
    facility: str
    receiving_application: str
    receiving_facility: str
    type: str
    event: str
    control_id: str
    version: str
    accept_ack: str
    application_ack: str

    @property
    def sender(self) -> str:
        """Sending application and facility, as one name."""
        return f"{self.application}|{self.facility}"

    @property
    def is_enhanced(self) -> bool:
        """Whether the sender says itself which acknowledgements it wants (MSH-15, MSH-16)."""
        return bool(self.accept_ack or self.application_ack)


@dataclass(frozen=True, kw_only=True)
class Hl7Message:
    """A message whose header was taken."""

    header: Header
    segments: tuple[Segment, ...]

    def first(self, name: str) -> Segment:
        """Return the first segment of a name.

        Raises
        ------
        Hl7Error
        """
        for segment in self.segments:
            if segment.name == name:
                return segment
        raise Hl7Error(
            place=Place(segment=name), hl7_code=SEGMENT_SEQUENCE, problem="the segment is missing"
        )

    def find(self, name: str) -> Segment | None:
        """Return the first segment of a name; None: there is none."""
        return next((one for one in self.segments if one.name == name), None)


def read_header(data: bytes) -> Header:
    """Read MSH as far as it can be read, so that even a rejected message gets its answer."""
    line = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("ascii", "replace")
    separator = line[3] if len(line) > 3 else FIELD_SEPARATOR
    fields = [line[:3], separator, *line[4:].split(separator)]
    fields += [""] * (20 - len(fields))
    kind = [*fields[9].split("^"), "", ""]
    return Header(
        application=fields[3][:227],
        facility=fields[4][:227],
        receiving_application=fields[5],
        receiving_facility=fields[6],
        type=kind[0],
        event=kind[1],
        control_id=fields[10].strip(),
        version=fields[12].split("^")[0],
        accept_ack=fields[15],
        application_ack=fields[16],
    )


def read_message(data: bytes, taken: Mapping[str, frozenset[str]]) -> Hl7Message:
    """Check the header and take the message apart.

    Parameters
    ----------
    taken : message type (MSH-9.1) to the trigger events (MSH-9.2) that are taken

    Raises
    ------
    Hl7Error
        With ``ack`` AR; nothing but the header was looked at, or the text is no HL7 at all.
    """
    header = _checked_header(data, taken)
    encoding = _encoding(data)
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        raise _rejected(18, TABLE_VALUE, f"the text is not in {encoding}") from error
    if _CONTROL.search(text):
        raise _rejected(None, DATA_TYPE, "the text holds control characters")
    lines = [line for line in re.split(r"\r\n|\r|\n", text) if line.strip()]
    n_separators = sum(text.count(one) for one in "|^~&")
    if len(lines) > MAX_SEGMENTS or n_separators > MAX_SEPARATORS:
        raise _rejected(
            None,
            SEGMENT_SEQUENCE,
            f"more than {MAX_SEGMENTS} segments or {MAX_SEPARATORS} separators",
        )
    for line in lines:
        if not _SEGMENT_NAME.match(line) or line[3:4] not in ("", FIELD_SEPARATOR):
            raise _rejected(None, SEGMENT_SEQUENCE, "a line does not begin with a segment's name")
    try:
        parsed = parse_message(
            "\r".join(lines), validation_level=VALIDATION_LEVEL.TOLERANT, find_groups=False
        )
    except HL7apyException as error:
        raise _rejected(None, SEGMENT_SEQUENCE, f"is malformed: {type(error).__name__}") from error
    counts: dict[str, int] = {}
    segments = []
    for child in parsed.children:
        counts[child.name] = counts.get(child.name, 0) + 1
        parts = child.to_er7().split(FIELD_SEPARATOR)
        fields = parts[1:] if child.name != "MSH" else [FIELD_SEPARATOR, *parts[1:]]
        segments.append(Segment(name=child.name, number=counts[child.name], fields=tuple(fields)))
    return Hl7Message(header=header, segments=tuple(segments))


def part_of(repetition: str, component: int | None = None, subcomponent: int | None = None) -> str:
    """Return a component (or subcomponent) of one repetition, unescaped; "" if absent."""
    text = repetition
    if component is not None:
        parts = text.split("^")
        text = parts[component - 1] if component <= len(parts) else ""
        if subcomponent is not None:
            inner = text.split("&")
            text = inner[subcomponent - 1] if subcomponent <= len(inner) else ""
    return unescaped(text).strip()


def unescaped(text: str) -> str:
    """Replace the escape sequences that stand for characters; others are kept as they are."""
    return _ESCAPE.sub(lambda found: _character(found[1], found[0]), text)


def escaped(text: str) -> str:
    """Write text so that no character of it is taken for a separator."""
    marks = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
    clean = "".join(marks.get(one, one) for one in text)
    return re.sub(r"\r\n|\r|\n", r"\\.br\\", clean)


def _character(code: str, whole: str) -> str:
    return _ESCAPED.get(code, whole)


def _checked_header(data: bytes, taken: Mapping[str, frozenset[str]]) -> Header:
    if data[:3] != b"MSH":
        raise _rejected(None, SEGMENT_SEQUENCE, "a message begins with MSH")
    header = read_header(data)
    if data[3:9] != (FIELD_SEPARATOR + ENCODING_CHARACTERS + FIELD_SEPARATOR).encode():
        raise _rejected(2, DATA_TYPE, f"separators are | and {ENCODING_CHARACTERS}, no others")
    if not header.control_id:
        raise _rejected(10, REQUIRED, "is missing or empty")
    if len(header.control_id) > MAX_CONTROL_ID:
        raise _rejected(10, DATA_TYPE, f"is longer than {MAX_CONTROL_ID} characters")
    if header.version not in VERSIONS:
        raise _rejected(12, VERSION, f"{header.version!r} is none of {', '.join(VERSIONS)}")
    if header.type not in taken:
        raise _rejected(9, MESSAGE_TYPE, f"{header.type!r} is none of {', '.join(taken)}", 1)
    if header.event not in taken[header.type]:
        events = ", ".join(sorted(taken[header.type]))
        raise _rejected(9, EVENT, f"of {header.type} only {events} is taken", 2)
    processing_id = _msh_field(data, 11).split("^")[0]
    if processing_id != PROCESSING_ID:
        raise _rejected(11, PROCESSING, "only P (production) is taken")
    return header


def _encoding(data: bytes) -> str:
    said = _msh_field(data, 18).split("~")[0]
    encoding = CHARACTER_SETS.get(said)
    if encoding is None:
        raise _rejected(18, TABLE_VALUE, f"character set {said!r} is not taken")
    return encoding


def _msh_field(data: bytes, index: int) -> str:
    line = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("ascii", "replace")
    fields = [line[:3], FIELD_SEPARATOR, *line[4:].split(FIELD_SEPARATOR)]
    return fields[index].strip() if index < len(fields) else ""


def _rejected(
    index: int | None, hl7_code: str, problem: str, component: int | None = None
) -> Hl7Error:
    place = Place(segment="MSH", field=index, component=component)
    return Hl7Error(place=place, hl7_code=hl7_code, problem=problem, ack="AR")
