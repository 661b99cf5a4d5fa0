"""Send one stored object: C-STORE SCU and STOW-RS, the file's own bytes, no decoding."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
from pynetdicom import AE, _config

from inference.domain.ports import ObjectSender
from inference.domain.result import (
    Destination,
    DicomwebDestination,
    DimseDestination,
    ResultFile,
)
from inference.jobs.errors import DeliveryError
from inference.jobs.structure import read_file_meta

CHUNK_BYTES = 1024 * 1024
ALREADY_THERE = 0x0111
"""Duplicate SOP Instance: an earlier attempt arrived, its acknowledgement did not."""

PERMANENT_STATUSES = frozenset({0x0122, 0x0124})
"""SOP class not supported, not authorised; with 0xA9xx, data set does not match SOP class."""

PERMANENT_HTTP = frozenset({400, 406, 413, 415, 422})


def make_sender(destination: Destination) -> ObjectSender:
    """Return the sender for a destination's kind."""
    if isinstance(destination, DimseDestination):
        return StoreSender(destination)
    return StowSender(destination)


class StoreSender:
    """C-STORE, one association for each object."""

    def __init__(self, destination: DimseDestination) -> None:
        self._destination = destination

    def send(self, path: Path, file: ResultFile) -> None:
        """Return when the receiver has answered success; see `ObjectSender`."""
        to = self._destination
        # The library has one switch for all its clients: send the file's bytes as they are.
        _config.STORE_SEND_CHUNKED_DATASET = True
        entity = AE(ae_title=to.calling_aet)
        entity.acse_timeout = entity.dimse_timeout = to.timeout_s
        entity.network_timeout = entity.connection_timeout = to.timeout_s
        entity.add_requested_context(file.sop_class_uid, read_file_meta(path).transfer_syntax_uid)
        association = entity.associate(to.host, to.port, ae_title=to.called_aet)
        if not association.is_established:
            raise self._not_established(association)
        try:
            status = association.send_c_store(path)
        except (RuntimeError, ValueError) as error:
            raise DeliveryError(destination=to.name, problem=str(error)) from error
        finally:
            association.release()
        self._check(status)

    def _not_established(self, association: Any) -> DeliveryError:
        rejected = getattr(association, "rejected_contexts", [])
        answer = association.acceptor.primitive
        if association.is_rejected and answer is not None:
            problem = f"association rejected: {answer.reason_str}"
        elif rejected:
            return DeliveryError(
                destination=self._destination.name,
                problem="the receiver takes neither this SOP class nor its transfer syntax",
                is_permanent=True,
            )
        else:
            problem = "no association: nobody answers there, or it was cut off"
        return DeliveryError(destination=self._destination.name, problem=problem)

    def _check(self, status: Any) -> None:
        if "Status" not in status:
            raise DeliveryError(
                destination=self._destination.name, problem="no answer to C-STORE in time"
            )
        code = int(status.Status)
        if code in (0x0000, ALREADY_THERE) or code >> 12 == 0xB:  # 0xBxxx: stored, with a warning
            return
        comment = str(status.get("ErrorComment", ""))
        raise DeliveryError(
            destination=self._destination.name,
            problem=f"C-STORE answered 0x{code:04X} {comment}".rstrip(),
            is_permanent=code in PERMANENT_STATUSES or code >> 8 == 0xA9,
        )


class StowSender:
    """STOW-RS, one request for each object, streamed.

    No ``Expect: 100-continue`` is sent: some servers wait a second before they answer it.
    """

    def __init__(self, destination: DicomwebDestination) -> None:
        self._destination = destination

    def send(self, path: Path, file: ResultFile) -> None:
        """Return when the receiver has answered success; see `ObjectSender`."""
        to = self._destination
        boundary = secrets.token_hex(16)
        head = f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode("ascii")
        tail = f"\r\n--{boundary}--\r\n".encode("ascii")
        length = len(head) + path.stat().st_size + len(tail)
        try:
            answer = httpx.post(
                f"{to.url.rstrip('/')}/studies",
                content=_body(head, path, tail),
                headers={
                    **to.headers,
                    "Accept": "application/dicom+json",
                    "Content-Length": str(length),
                    "Content-Type": (
                        f'multipart/related; type="application/dicom"; boundary={boundary}'
                    ),
                },
                timeout=to.timeout_s,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise DeliveryError(
                destination=to.name, problem=f"{type(error).__name__}: {error}"
            ) from error
        self._check(answer, file)

    def _check(self, answer: httpx.Response, file: ResultFile) -> None:
        reasons = _failure_reasons(answer)
        if reasons and set(reasons) <= {ALREADY_THERE}:
            return
        if answer.status_code in (200, 202) and not reasons:
            if file.instance_uid not in answer.text:
                raise DeliveryError(
                    destination=self._destination.name,
                    problem="the answer does not name the object as stored",
                )
            return
        codes = ", ".join(f"0x{reason:04X}" for reason in reasons)
        raise DeliveryError(
            destination=self._destination.name,
            problem=f"STOW-RS answered {answer.status_code} {codes}".rstrip(),
            is_permanent=answer.status_code in PERMANENT_HTTP
            or any(reason in PERMANENT_STATUSES or reason >> 8 == 0xA9 for reason in reasons),
        )


def _body(head: bytes, path: Path, tail: bytes) -> Iterator[bytes]:
    yield head
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            yield chunk
    yield tail


def _failure_reasons(answer: httpx.Response) -> list[int]:
    """Failure Reason (0008,1197) of each item of Failed SOP Sequence (0008,1198)."""
    if "json" not in answer.headers.get("Content-Type", ""):
        return []
    try:
        failed = answer.json().get("00081198", {}).get("Value", [])
        return [int(item["00081197"]["Value"][0]) for item in failed]
    except (ValueError, KeyError, IndexError, AttributeError, TypeError):
        return [0x0110]  # it says that something failed, in a way that cannot be read
