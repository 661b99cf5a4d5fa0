"""Studies of a DICOMweb server (Orthanc, dcm4chee, a vendor's archive) as a batch's source."""

from __future__ import annotations

import base64
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import requests
from dicomweb_client.api import DICOMwebClient
from pydicom.datadict import tag_for_keyword

from inference.jobs.batch_processor import TaskPool
from inference.jobs.batch_sources import BatchItem, BatchSourceError, Listing
from inference.jobs.errors import IntakeError
from inference.jobs.identify import check_uid

PAGE = 500
"""Studies asked for at one time; servers cut longer answers off, some without saying so."""

STUDY_UID_TAG, INSTANCE_UID_TAG = "0020000D", "00080018"
AS_STORED = (("application/dicom", "*"),)
"""No transcoding: an instance's hash is part of the result's key."""


@dataclass(frozen=True, kw_only=True)
class DicomwebOptions:
    """A server's root (the part before ``/studies``) and how to be let in."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    token: str = field(default="", repr=False)
    timeout_s: float = 120.0


class DicomwebSource:
    """Studies that a QIDO-RS query finds, or those of a list of UIDs.

    Parameters
    ----------
    filters : QIDO attribute to value, e.g. ``{"ModalitiesInStudy": "CT"}``; asked where no list
        of UIDs is given
    study_uids : the studies to take, whatever else is there
    """

    def __init__(
        self,
        options: DicomwebOptions,
        *,
        filters: Mapping[str, str] | None = None,
        study_uids: tuple[str, ...] = (),
    ) -> None:
        self.name = options.url
        self._filters, self._study_uids = dict(filters or {}), study_uids
        session = requests.Session()
        session.trust_env = False
        if options.token:
            session.headers["Authorization"] = f"Bearer {options.token}"
        elif options.user:
            pair = base64.b64encode(f"{options.user}:{options.password}".encode()).decode("ascii")
            session.headers["Authorization"] = f"Basic {pair}"
        self._client = DICOMwebClient(
            options.url.rstrip("/"), session=session, timeout=options.timeout_s
        )

    def listing(self, pool: TaskPool) -> Listing:
        """Return one item for each study."""
        del pool
        uids = self._study_uids or tuple(self._query())
        if not uids:
            raise BatchSourceError(source=self.name, problem="no study answers the query")
        return Listing(items=tuple(BatchItem(name=uid, study_uid=uid) for uid in uids))

    @contextmanager
    def files(self, item: BatchItem) -> Iterator[tuple[Path, ...]]:
        """Fetch a study's instances into a folder that lives as long as the context."""
        with tempfile.TemporaryDirectory(prefix="clinfer-fetch-") as folder:
            paths: list[Path] = []
            with self._named():
                for dataset in self._client.iter_study(item.study_uid, media_types=AS_STORED):
                    paths.append(Path(folder) / f"{len(paths):06d}.dcm")
                    dataset.save_as(paths[-1], enforce_file_format=True)
            self._check(item, paths)
            yield tuple(paths)

    def instance_uids(self, item: BatchItem) -> frozenset[str]:
        """Return the SOP Instance UIDs that the server lists for the study."""
        with self._named():
            found = self._client.search_for_instances(item.study_uid, get_remaining=True)
        uids = frozenset(_value(one, INSTANCE_UID_TAG) for one in found)
        if not uids:
            raise BatchSourceError(source=self.name, problem=f"has no study {item.study_uid}")
        return uids

    def _check(self, item: BatchItem, paths: list[Path]) -> None:
        """Refuse a study of which less came than the server lists: a slice would be missing."""
        listed = len(self.instance_uids(item))
        if len(paths) < listed:
            raise BatchSourceError(
                source=self.name,
                problem=f"study {item.study_uid}: {len(paths)} of {listed} instances came",
            )

    def _query(self) -> Iterator[str]:
        seen: set[str] = set()
        while True:
            with self._named():
                page = self._client.search_for_studies(
                    limit=PAGE, offset=len(seen), search_filters=self._filters
                )
            new = {_checked(self.name, one) for one in page} - seen
            yield from sorted(new)
            seen |= new
            if len(page) < PAGE or not new:
                return

    @contextmanager
    def _named(self) -> Iterator[None]:
        """Turn what the client raises into ours, without the headers that let us in."""
        try:
            yield
        except requests.HTTPError as error:
            status = error.response.status_code if error.response is not None else "?"
            raise BatchSourceError(source=self.name, problem=f"answered {status}") from error
        except requests.RequestException as error:
            raise BatchSourceError(
                source=self.name, problem=f"{type(error).__name__}: no answer"
            ) from error
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise BatchSourceError(
                source=self.name, problem=f"its answer cannot be read: {error}"
            ) from error


def parse_filters(texts: list[str]) -> dict[str, str]:
    """Read ``Attribute=value`` pairs.

    Raises
    ------
    BatchSourceError
        One has no ``=``, or its attribute is no DICOM keyword.
    """
    filters: dict[str, str] = {}
    for text in texts:
        name, sign, value = text.partition("=")
        if not sign or tag_for_keyword(name) is None:
            raise BatchSourceError(
                source=f"filter {text}", problem="write DicomKeyword=value, as in Modality=CT"
            )
        filters[name] = value
    return filters


def _checked(source: str, study: Mapping[str, Any]) -> str:
    try:
        return check_uid(_value(study, STUDY_UID_TAG), "StudyInstanceUID (0020,000D)")
    except IntakeError as error:
        raise BatchSourceError(source=source, problem=str(error)) from error


def _value(item: Mapping[str, Any], tag: str) -> str:
    values = item.get(tag, {}).get("Value") or [""]
    return str(values[0])
