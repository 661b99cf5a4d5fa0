"""HL7 v2 messages as a hospital sends them, and a client that waits for the answers."""

from __future__ import annotations

import socket
from collections.abc import Sequence

from inference.gateways.mllp import FrameReader, MllpLimits, framed

PID = "PID|1||{number}^^^HOSP||Phantom^Built||19800102|F"


def message(
    kind: str,
    *segments: str,
    control_id: str = "M1",
    version: str = "2.5.1",
    charset: str = "",
    accept: str = "",
    application: str = "",
) -> str:
    """A whole message; ``kind`` is MSH-9."""
    header = (
        f"MSH|^~\\&|RIS|HOSP|CLINFER|AI|20261122120000||{kind}|{control_id}|P|{version}"
        f"|||{accept}|{application}||{charset}"
    )
    return "\r".join((header, *segments)) + "\r"


def adt(event: str, number: str = "PATIENT-1", *more: str, control_id: str = "M1") -> str:
    return message(
        f"ADT^{event}", "EVN||20261122", PID.format(number=number), *more, control_id=control_id
    )


def order(
    control: str = "NW",
    *,
    number: str = "PATIENT-1",
    placer: str = "P1",
    accession: str = "A1",
    priority: str = "",
    control_id: str = "M1",
    kind: str = "ORM^O01",
) -> str:
    obr = [""] * 28
    obr[1], obr[2], obr[4] = "1", f"{placer}^RIS", "CTCHEST^CT chest^L"
    obr[18] = accession
    obr[27] = f"^^^^^{priority}" if priority else ""
    return message(
        kind,
        PID.format(number=number),
        f"ORC|{control}|{placer}^RIS",
        "|".join(["OBR", *obr[1:]]),
        control_id=control_id,
    )


def lab(value: str, unit: str = "mg/dL", *, kind: str = "NM", born: str = "19800102") -> str:
    return message(
        "ORU^R01",
        f"PID|1||PATIENT-1^^^HOSP||Phantom^Built||{born}|F",
        "OBR|1|||2160-0^Creatinine^LN|||20261122110000",
        f"OBX|1|{kind}|2160-0^Creatinine^LN||{value}|{unit}|||||F",
    )


def fields_of(answer: bytes) -> dict[str, list[str]]:
    """Segments of an answer by name."""
    lines = answer.decode().strip("\r").split("\r")
    return {line[:3]: line.split("|") for line in lines}


def code_of(answer: bytes) -> str:
    return fields_of(answer)["MSA"][1]


def place_of(answer: bytes) -> str:
    """ERR-2, the place of what was wrong."""
    return fields_of(answer)["ERR"][2]


def talk(port: int, messages: Sequence[str], *, encoding: str = "utf-8") -> list[bytes]:
    """Send messages over one connection, waiting for the answer to each."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        reader = FrameReader(connection, MllpLimits())
        answers = []
        for one in messages:
            connection.sendall(framed(one.encode(encoding)))
            answer = reader.read()
            assert answer is not None, "the server hung up"
            answers.append(answer)
        return answers
