"""Ask whether an object is kept: Storage Commitment (PS3.4 annex J), or reading it back."""

from __future__ import annotations

import hashlib
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread
from pydicom.dataset import Dataset
from pynetdicom import AE, build_context, evt
from pynetdicom.presentation import PresentationContext

from inference.domain.ports import CommitmentAnswer, CommitmentAsker
from inference.domain.result import (
    Commitment,
    Destination,
    DicomwebDestination,
    DimseDestination,
    ResultFile,
)
from inference.jobs.errors import DeliveryError, IntakeError
from inference.jobs.structure import read_file_meta

PUSH_MODEL = "1.2.840.10008.1.20.1"
PUSH_MODEL_INSTANCE = "1.2.840.10008.1.20.1.1"
REQUEST_COMMITMENT = 1
SAME_ASSOCIATION_S = 1.0
"""How long the association stays open for an answer; most archives answer on one of their own."""

HEAD_ROOM_BYTES = 64 * 1024
CHUNK_BYTES = 1024 * 1024
FAILURE_REASONS = {
    0x0110: "processing failure",
    0x0112: "no such object instance",
    0x0119: "class and instance do not go together",
    0x0122: "SOP class not supported",
    0x0131: "duplicate transaction UID",
    0x0213: "resource limitation",
}
"""PS3.3 C.14.1.1."""

Report = tuple[str, frozenset[str], Mapping[str, str]]
"""Transaction UID, the instances that are kept, and why others are not."""


def make_asker(destination: Destination) -> CommitmentAsker | None:
    """Return who asks a destination; None: its word on receiving is enough."""
    if destination.commitment is Commitment.NONE:
        return None
    if isinstance(destination, DimseDestination):
        return StorageCommitment(destination)
    return ReadBack(destination)


def commitment_context() -> PresentationContext:
    """Return the context in which an archive reports to us on an association of its own."""
    context = build_context(PUSH_MODEL)
    context.scu_role = True
    context.scp_role = True
    return context


def report_of(information: Dataset) -> Report:
    """Read an N-EVENT-REPORT.

    Raises
    ------
    AttributeError, ValueError
        It names no transaction or object.
    """
    kept = frozenset(
        str(item.ReferencedSOPInstanceUID)
        for item in information.get("ReferencedSOPSequence") or []
    )
    failed = {
        str(item.ReferencedSOPInstanceUID): _reason(int(item.FailureReason))
        for item in information.get("FailedSOPSequence") or []
    }
    return str(information.TransactionUID), kept, failed


def _reason(code: int) -> str:
    return FAILURE_REASONS.get(code, f"failure reason 0x{code:04X}")


class StorageCommitment:
    """N-ACTION to a DICOM node."""

    def __init__(
        self, destination: DimseDestination, *, wait_s: float = SAME_ASSOCIATION_S
    ) -> None:
        self._destination = destination
        self._wait_s = wait_s

    def ask(self, path: Path, file: ResultFile, transaction_uid: str) -> CommitmentAnswer | None:
        """Return the answer that came at once, if one did; see `CommitmentAsker`."""
        to = self._destination
        reports: list[Report] = []
        arrived = threading.Event()

        def on_report(event: Any) -> tuple[int, None]:
            reports.append(report_of(event.event_information))
            arrived.set()
            return 0x0000, None

        entity = AE(ae_title=to.calling_aet)
        entity.acse_timeout = entity.dimse_timeout = to.timeout_s
        entity.network_timeout = entity.connection_timeout = to.timeout_s
        entity.add_requested_context(PUSH_MODEL)
        association = entity.associate(
            to.host,
            to.port,
            ae_title=to.called_aet,
            evt_handlers=[(evt.EVT_N_EVENT_REPORT, on_report)],
        )
        if not association.is_established:
            raise DeliveryError(
                destination=to.name, problem="storage commitment: no association for it"
            )
        try:
            status, _ = association.send_n_action(
                _request(file, transaction_uid),
                REQUEST_COMMITMENT,
                PUSH_MODEL,
                PUSH_MODEL_INSTANCE,
            )
            self._check(status)
            arrived.wait(self._wait_s)
        except (RuntimeError, ValueError) as error:
            raise DeliveryError(destination=to.name, problem=str(error)) from error
        finally:
            association.release()
        return _answer(reports, transaction_uid, file.instance_uid)

    def _check(self, status: Any) -> None:
        code = int(status.Status) if "Status" in status else None
        if code != 0x0000:
            said = "no answer in time" if code is None else f"answered 0x{code:04X}"
            raise DeliveryError(
                destination=self._destination.name, problem=f"storage commitment: {said}"
            )


def _request(file: ResultFile, transaction_uid: str) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID = file.sop_class_uid
    item.ReferencedSOPInstanceUID = file.instance_uid
    request = Dataset()
    request.TransactionUID = transaction_uid
    request.ReferencedSOPSequence = [item]
    return request


def _answer(
    reports: list[Report], transaction_uid: str, instance_uid: str
) -> CommitmentAnswer | None:
    for transaction, kept, failed in reports:
        if transaction != transaction_uid:
            continue
        if instance_uid in failed:
            return CommitmentAnswer(is_kept=False, problem=failed[instance_uid])
        if instance_uid in kept:
            return CommitmentAnswer(is_kept=True)
    return None


class ReadBack:
    """WADO-RS: what the archive gives back must have the data set that we sent, byte for byte."""

    def __init__(self, destination: DicomwebDestination) -> None:
        self._destination = destination

    def ask(self, path: Path, file: ResultFile, transaction_uid: str) -> CommitmentAnswer | None:
        """Return the answer; it never comes later. See `CommitmentAsker`."""
        to = self._destination
        header = dcmread(path, stop_before_pixels=True)
        url = (
            f"{to.url.rstrip('/')}/studies/{header.StudyInstanceUID}"
            f"/series/{header.SeriesInstanceUID}/instances/{file.instance_uid}"
        )
        try:
            with self._fetched(url, path.stat().st_size + HEAD_ROOM_BYTES) as found:
                if isinstance(found, str):
                    return CommitmentAnswer(is_kept=False, problem=found)
                if _dataset_sha256(found) != _dataset_sha256(path):
                    return CommitmentAnswer(
                        is_kept=False, problem="the archive gives back another data set"
                    )
        except (httpx.HTTPError, IntakeError) as error:
            raise DeliveryError(
                destination=to.name, problem=f"reading back: {type(error).__name__}: {error}"
            ) from error
        return CommitmentAnswer(is_kept=True)

    @contextmanager
    def _fetched(self, url: str, max_bytes: int) -> Iterator[Path | str]:
        """Give a file with the archive's copy, or why it has none."""
        to = self._destination
        accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
        headers = {**to.headers, "Accept": accept}
        with httpx.stream(
            "GET", url, headers=headers, timeout=to.timeout_s, trust_env=False
        ) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                yield "the archive does not have it"
                return
            answer.raise_for_status()
            body = bytearray()
            for chunk in answer.iter_bytes(CHUNK_BYTES):
                body += chunk
                if len(body) > max_bytes:
                    yield "the archive gives back more than was sent"
                    return
        start, end = body.find(b"\r\n\r\n"), body.rfind(b"\r\n--")
        if start < 0 or end <= start:
            yield "the archive's answer is no multipart body"
            return
        with tempfile.NamedTemporaryFile(suffix=".dcm") as file:
            file.write(body[start + 4 : end])
            file.flush()
            yield Path(file.name)


def _dataset_sha256(path: Path) -> str:
    with path.open("rb") as file:
        file.seek(read_file_meta(path).dataset_offset)
        return hashlib.file_digest(file, "sha256").hexdigest()
