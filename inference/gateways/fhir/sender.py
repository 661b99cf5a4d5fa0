"""Push one result to a FHIR server as a transaction, and read what it answers."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import httpx

from inference.domain.report import FhirDestination, ReportDelivery
from inference.gateways.fhir.bundle import transaction_of
from inference.gateways.fhir.capability import MEDIA_TYPE
from inference.jobs.errors import DeliveryError
from inference.jobs.report_content import read_content
from inference.jobs.reporting import NotNowError
from inference.storage import studies
from inference.storage.database import Database

PERMANENT = frozenset({400, 404, 405, 406, 410, 413, 415, 422})
"""The same again cannot help. 401 and 403 can: somebody renews the token."""

LONGEST_WAIT_S = 3600.0


class FhirSender:
    """Sends to one server."""

    def __init__(self, database: Database, destination: FhirDestination) -> None:
        self._database, self._destination = database, destination

    def send(self, due: ReportDelivery) -> None:
        """Return when the server has committed the transaction; see `ReportSender`."""
        to = self._destination
        with self._database.read() as connection:
            content = read_content(connection, due.event)
            series = studies.list_series(connection, content.study.study_uid)
        bundle = transaction_of(content, series, imaging_selection=to.imaging_selection)
        try:
            answer = httpx.post(
                to.url.rstrip("/"),
                json=bundle,
                headers={**to.headers, "Content-Type": MEDIA_TYPE, "Accept": MEDIA_TYPE},
                timeout=to.timeout_s,
                trust_env=False,
            )
        except httpx.HTTPError as error:
            raise DeliveryError(
                destination=to.name, problem=f"{type(error).__name__}: {error}"
            ) from error
        self._check(answer, len(bundle["entry"]))

    def _check(self, answer: httpx.Response, n_entries: int) -> None:
        name = self._destination.name
        if answer.status_code != 200:
            problem = f"answered {answer.status_code} {_diagnostics(answer)}".rstrip()
            wait_s = _retry_after_s(answer)
            if wait_s is not None and answer.status_code in (429, 503):
                raise NotNowError(destination=name, problem=problem, wait_s=wait_s)
            raise DeliveryError(
                destination=name, problem=problem, is_permanent=answer.status_code in PERMANENT
            )
        try:
            entries = answer.json()["entry"]
            statuses = [str(one["response"]["status"])[:3] for one in entries]
        except (ValueError, KeyError, TypeError) as error:
            raise DeliveryError(
                destination=name, problem="the answer is no transaction-response"
            ) from error
        if len(statuses) != n_entries or not all(one in ("200", "201") for one in statuses):
            raise DeliveryError(
                destination=name, problem=f"entries were answered {', '.join(statuses)[:200]}"
            )


def _retry_after_s(answer: httpx.Response) -> float | None:
    """Return how long the server asks to wait, bounded; None: it does not say."""
    said = answer.headers.get("Retry-After")
    if said is None:
        return None
    try:
        seconds = float(said)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(said) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return min(max(seconds, 0.0), LONGEST_WAIT_S)


def _diagnostics(answer: httpx.Response) -> str:
    try:
        issue = answer.json()["issue"][0]
        return str(issue.get("diagnostics") or issue.get("code", ""))[:300]
    except (ValueError, KeyError, IndexError, TypeError, AttributeError):
        return ""
