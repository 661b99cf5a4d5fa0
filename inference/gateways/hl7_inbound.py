"""HL7 v2 in: one message, one transaction; AA is said only of what is durable.

A control id (MSH-10) counts once for each sender: a replay is answered as the first time and has no
second effect. What was put aside (AE) is tried again when it comes again, since an order that was
unknown then may be known now.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from types import MappingProxyType

from sqlalchemy import Connection

from inference.domain.patient import Authorities
from inference.gateways.hl7_ack import Outcome, acknowledgements
from inference.gateways.hl7_message import (
    DUPLICATE_KEY,
    INTERNAL,
    Header,
    Hl7Error,
    Hl7Message,
    Place,
    read_header,
    read_message,
)
from inference.gateways.hl7_orders import take_order
from inference.gateways.hl7_patients import MERGE, VISITS, take_adt
from inference.gateways.hl7_results import take_result
from inference.storage import audit, hl7_messages
from inference.storage.database import Database
from inference.storage.errors import StorageError
from inference.telemetry import get_logger

logger = get_logger(__name__)

Take = Callable[..., None]

TAKEN: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "ADT": frozenset({*VISITS, MERGE}),
        "ORM": frozenset({"O01"}),
        "OMI": frozenset({"O23"}),
        "ORU": frozenset({"R01"}),
    }
)
"""Message types and trigger events that are taken; docs/conformance.md lists the same."""

_TAKE: Mapping[str, Take] = MappingProxyType(
    {"ADT": take_adt, "ORM": take_order, "OMI": take_order, "ORU": take_result}
)


class Hl7Receiver:
    """Takes messages; hand its `handle` to an MLLP server."""

    def __init__(
        self,
        database: Database,
        authorities: Authorities,
        *,
        senders: frozenset[str] = frozenset(),
        refused: Callable[[str], None] = lambda code: None,
    ) -> None:
        self._database = database
        self._authorities = authorities
        self._senders = senders
        """Sending applications (MSH-3) that are heard; empty: all."""

        self._refused = refused
        """Told the code of each refusal, to count it."""

    def handle(self, data: bytes, address: str) -> tuple[bytes, ...]:
        """Take one message and return the answers, in order."""
        header = read_header(data)
        outcome = self._take(header, data, address)
        with self._database.read() as connection:
            now = self._database.now(connection)
        return acknowledgements(header, outcome, now=now)

    def _take(self, header: Header, data: bytes, address: str) -> Outcome:
        try:
            message = read_message(data, TAKEN)
            self._check_sender(message.header)
            return self._take_once(message, data, address)
        except Hl7Error as error:
            self._note_rejection(error, header, address)
            return Outcome.of_error(error)
        except StorageError as error:
            logger.error("HL7 message not stored", reason=str(error))
            return Outcome.of_error(
                Hl7Error(
                    place=Place(segment="MSH"),
                    hl7_code=INTERNAL,
                    problem="not stored; send it again later",
                    ack="AR",
                )
            )

    def _take_once(self, message: Hl7Message, data: bytes, address: str) -> Outcome:
        header = message.header
        digest = hashlib.sha256(data).hexdigest()
        kind = f"{header.type}^{header.event}"
        try:
            with self._database.write() as connection:
                now = self._database.now(connection)
                if self._is_replay(connection, header, digest):
                    return Outcome(code="AA")
                _TAKE[header.type](connection, message, self._authorities, now=now)
                hl7_messages.put(
                    connection,
                    sender=header.sender,
                    control_id=header.control_id,
                    type=kind,
                    sha256=digest,
                    outcome="AA",
                    now=now,
                )
                audit.append(
                    connection,
                    at=now,
                    actor=f"hl7:{header.sender}",
                    action="message.received",
                    subject=f"{kind} {header.control_id}",
                    detail={"sha256": digest, "address": address},
                )
        except Hl7Error as error:
            if error.ack != "AE":
                raise
            return self._put_aside(error, message, data, digest)
        self._database.notify()
        return Outcome(code="AA")

    def _is_replay(self, connection: Connection, header: Header, digest: str) -> bool:
        known = hl7_messages.find(connection, header.sender, header.control_id)
        if known is None or known.outcome != "AA":
            return False
        if known.sha256 != digest:
            raise Hl7Error(
                place=Place(segment="MSH", field=10),
                hl7_code=DUPLICATE_KEY,
                problem="a message with this control id and other content was taken",
                ack="AR",
            )
        return True

    def _put_aside(self, error: Hl7Error, message: Hl7Message, data: bytes, digest: str) -> Outcome:
        """Keep the bytes and the reason; what the message had changed was rolled back."""
        header = message.header
        outcome = Outcome.of_error(error)
        with self._database.write() as connection:
            now = self._database.now(connection)
            hl7_messages.put(
                connection,
                sender=header.sender,
                control_id=header.control_id,
                type=f"{header.type}^{header.event}",
                sha256=digest,
                outcome=error.ack,
                errors=outcome.errors,
                body=data,
                now=now,
            )
            audit.append(
                connection,
                at=now,
                actor=f"hl7:{header.sender}",
                action="message.put_aside",
                subject=f"{header.type}^{header.event} {header.control_id}",
                detail={"place": error.place.er7, "hl7_code": error.hl7_code, "sha256": digest},
            )
        self._refused(error.code)
        logger.warning("HL7 message put aside", place=error.place.er7, hl7_code=error.hl7_code)
        return outcome

    def _check_sender(self, header: Header) -> None:
        if self._senders and header.application not in self._senders:
            raise Hl7Error(
                place=Place(segment="MSH", field=3),
                hl7_code="103",
                problem="is no sender that is heard here (setting hl7_senders)",
                ack="AR",
            )

    def _note_rejection(self, error: Hl7Error, header: Header, address: str) -> None:
        self._refused(error.code)
        logger.warning("HL7 message rejected", place=error.place.er7, hl7_code=error.hl7_code)
        try:
            with self._database.write() as connection:
                audit.append(
                    connection,
                    at=self._database.now(connection),
                    actor=f"hl7:{header.sender}",
                    action="message.rejected",
                    subject=header.control_id[:199],
                    detail={
                        "place": error.place.er7,
                        "hl7_code": error.hl7_code,
                        "address": address,
                    },
                )
        except StorageError as problem:  # the answer goes out all the same
            logger.error("rejection not on record", reason=str(problem))
