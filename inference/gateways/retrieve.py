"""Fetch priors and series that were never sent from a PACS, through the one durable intake.

Nothing is guessed about whose a study is: a patient is a number with its authority, and an answer
that names another patient, or no authority, ends the fetch.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from pydicom.dataset import Dataset

from inference.domain.study import Channel, Sender
from inference.gateways.archive_user import ArchiveUser, FetchError, Sent
from inference.gateways.dimse import CANNOT_UNDERSTAND, OUT_OF_RESOURCES, STATUS_OF, SUCCESS
from inference.jobs.errors import IntakeError
from inference.jobs.identify import VALID_UID
from inference.jobs.intake import Intake
from inference.storage import studies
from inference.storage.database import Database
from inference.storage.errors import StorageError
from inference.telemetry import get_logger

log = get_logger(__name__)

READ_BYTES = 256 * 1024
LOOK_EVERY_S = 0.2
_DATE = re.compile(r"\d{8}")


@dataclass(frozen=True, kw_only=True)
class Question:
    """What to fetch: a study, an accession number's studies, or a patient's in a time.

    Attributes
    ----------
    authority : who gave the patient id (Issuer of Patient ID); goes with ``patient_id``
    first_date, last_date : of the study, YYYYMMDD, both days in it; "" is open
    """

    study_uid: str = ""
    accession_number: str = ""
    patient_id: str = field(default="", repr=False)
    authority: str = ""
    first_date: str = ""
    last_date: str = ""

    def check(self, archive: str) -> None:
        """Refuse a question that does not say one thing, or that would match more than it says.

        Raises
        ------
        FetchError
        """
        named = [name for name in _WAYS if getattr(self, name)]
        if len(named) != 1:
            raise _wrong(archive, "give one of: a study UID, an accession number, a patient id")
        if bool(self.patient_id) != bool(self.authority):
            raise _wrong(
                archive, "a patient id goes with its authority: equal numbers may be two people"
            )
        if self.study_uid and (len(self.study_uid) > 64 or not VALID_UID.fullmatch(self.study_uid)):
            raise _wrong(archive, "the study UID is no UID: digits and dots only")
        for name in ("accession_number", "patient_id", "authority"):
            if re.search(r"[*?\\\x00-\x1f]", getattr(self, name)):
                raise _wrong(archive, f"{name} may not hold * ? \\ or control characters")
        for name in ("first_date", "last_date"):
            if getattr(self, name) and not _DATE.fullmatch(getattr(self, name)):
                raise _wrong(archive, f"{name} must be YYYYMMDD")
        if self.first_date and self.last_date and self.first_date > self.last_date:
            raise _wrong(archive, "the first date is after the last one")

    def keys(self) -> Dataset:
        """Return the C-FIND keys."""
        keys = Dataset()
        if not (self.accession_number + self.patient_id + self.authority).isascii():
            keys.SpecificCharacterSet = "ISO_IR 192"
        keys.QueryRetrieveLevel = "STUDY"
        keys.StudyInstanceUID = self.study_uid
        keys.AccessionNumber = self.accession_number
        keys.PatientID = self.patient_id
        keys.IssuerOfPatientID = self.authority
        keys.StudyDate = ""
        if self.first_date or self.last_date:
            keys.StudyDate = f"{self.first_date}-{self.last_date}"
        keys.StudyDescription = keys.ModalitiesInStudy = ""
        return keys


_WAYS = ("study_uid", "accession_number", "patient_id")


@dataclass(frozen=True, kw_only=True)
class RemoteSeries:
    """A series of the archive; ``missing``: instance UID to SOP class of what is not here."""

    study_uid: str
    study_date: str
    study_description: str
    series_uid: str
    modality: str
    description: str
    n_instances: int
    missing: dict[str, str]


@dataclass(frozen=True, kw_only=True)
class Fetched:
    """What came of one series; ``refused``: what the intake did not take, and why."""

    series: RemoteSeries
    sent: Sent
    n_arrived: int
    refused: tuple[str, ...] = ()

    @property
    def is_complete(self) -> bool:
        """Whether everything that was missing is here now."""
        return self.n_arrived == len(self.series.missing)


class Fetcher:
    """Lists and fetches; one for each archive."""

    def __init__(self, user: ArchiveUser, database: Database, intake: Intake | None) -> None:
        self._user, self._database, self._intake = user, database, intake

    def list_series(self, question: Question) -> tuple[RemoteSeries, ...]:
        """Return what the archive has for a question, and what of it is not here.

        Raises
        ------
        FetchError
        """
        name = self._user.archive.name
        question.check(name)
        found = list(self._user.find(question.keys()))
        self._check_patient(question, found)
        return tuple(
            self._series(study, answer)
            for study in sorted(found, key=lambda one: str(one.get("StudyDate", "")))
            for answer in self._user.find(_series_keys(_text(study, "StudyInstanceUID")))
        )

    def fetch(self, series: RemoteSeries, on_progress: Callable[[int], None]) -> Fetched:
        """Have one series sent, and return once what came is durable here.

        Raises
        ------
        FetchError
        """
        keys = Dataset()
        keys.QueryRetrieveLevel = "SERIES"
        keys.StudyInstanceUID, keys.SeriesInstanceUID = series.study_uid, series.series_uid
        refused: list[str] = []
        if self._user.archive.retrieve == "move":
            sent = self._user.move(keys, on_progress)
        else:
            sent = self._user.get(
                keys, series.missing.values(), lambda path: self._take(path, refused), on_progress
            )
        arrived = self._arrived(series, waits=self._user.archive.retrieve == "move")
        return Fetched(series=series, sent=sent, n_arrived=len(arrived), refused=tuple(refused))

    def _series(self, study: Dataset, answer: Dataset) -> RemoteSeries:
        study_uid = _text(study, "StudyInstanceUID")
        series_uid = _text(answer, "SeriesInstanceUID")
        instances = {
            _text(one, "SOPInstanceUID"): _text(one, "SOPClassUID")
            for one in self._user.find(_instance_keys(study_uid, series_uid))
        }
        with self._database.read() as connection:
            here = studies.known_among(connection, list(instances))
        return RemoteSeries(
            study_uid=study_uid,
            study_date=_text(study, "StudyDate"),
            study_description=_text(study, "StudyDescription"),
            series_uid=series_uid,
            modality=_text(answer, "Modality"),
            description=_text(answer, "SeriesDescription"),
            n_instances=len(instances),
            missing={uid: kind for uid, kind in instances.items() if uid not in here},
        )

    def _check_patient(self, question: Question, found: list[Dataset]) -> None:
        archive = self._user.archive
        patients = set()
        for one in found:
            issuer = _text(one, "IssuerOfPatientID") or archive.issuer_of_patient_id or ""
            patients.add((_text(one, "PatientID"), issuer))
            if question.study_uid and _text(one, "StudyInstanceUID") != question.study_uid:
                raise _wrong(archive.name, "the archive answered with another study", "C-FIND")
        if question.patient_id:
            if patients - {(question.patient_id, question.authority), (question.patient_id, "")}:
                raise _wrong(archive.name, "the archive answered with another patient", "C-FIND")
            if (question.patient_id, "") in patients:
                raise _wrong(
                    archive.name,
                    "its answer does not say whose patient id it is; where all its ids are of one"
                    " authority, name that as issuer_of_patient_id of the archive",
                    "C-FIND",
                )
        elif len(patients) > 1:
            raise _wrong(
                archive.name,
                f"{len(patients)} patients have this accession number; ask by study UID",
                "C-FIND",
            )

    def _take(self, path: Path, refused: list[str]) -> int:
        assert self._intake is not None, "C-GET is given an intake"
        archive = self._user.archive
        sender = Sender(
            channel=Channel.DIMSE, name=archive.called_aet, address=f"{archive.host}:{archive.port}"
        )
        try:
            self._intake.receive_file(path, sender=sender)
        except IntakeError as error:
            refused.append(f"{error.code}: {error}")
            return STATUS_OF.get(type(error), CANNOT_UNDERSTAND)
        except (StorageError, OSError) as error:
            refused.append(str(error))
            log.error("instance not stored", reason=str(error))
            return OUT_OF_RESOURCES
        return SUCCESS

    def _arrived(self, series: RemoteSeries, *, waits: bool) -> frozenset[str]:
        """Return the missing instances that are here now; an archive may answer before the last."""
        uids = list(series.missing)
        here: frozenset[str] = frozenset()
        quiet_until_s = time.monotonic() + (QUIET_S if waits else 0.0)
        while True:
            with self._database.read() as connection:
                now_here = studies.known_among(connection, uids)
            if len(now_here) > len(here):
                quiet_until_s = time.monotonic() + (QUIET_S if waits else 0.0)
            here = now_here
            if len(here) == len(uids) or time.monotonic() >= quiet_until_s:
                return here
            time.sleep(LOOK_EVERY_S)


QUIET_S = 3.0
"""After the archive's last word: how long nothing may arrive before the rest counts as not sent."""


def _series_keys(study_uid: str) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = "SERIES"
    keys.StudyInstanceUID = study_uid
    keys.SeriesInstanceUID = keys.Modality = keys.SeriesDescription = ""
    return keys


def _instance_keys(study_uid: str, series_uid: str) -> Dataset:
    keys = Dataset()
    keys.QueryRetrieveLevel = "IMAGE"
    keys.StudyInstanceUID, keys.SeriesInstanceUID = study_uid, series_uid
    keys.SOPInstanceUID = keys.SOPClassUID = ""
    return keys


def _text(dataset: Dataset, keyword: str) -> str:
    value = dataset.get(keyword)
    return "" if value is None else str(value).strip(" \0")


def _wrong(archive: str, problem: str, operation: str = "question") -> FetchError:
    return FetchError(archive=archive, operation=operation, problem=problem)
