"""Delete our own objects from an archive that keeps what a rejection note rejects (Orthanc's REST).

Nothing is deleted on a UID alone: what the archive has under it must carry, in its Contributing
Equipment, the device UID of the very algorithm that made the file we hold.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
from pydicom import dcmread

from inference.domain.result import Destination, DicomwebDestination, ResultFile
from inference.jobs.errors import DeliveryError


class ArchiveRemover:
    """Deletes instances through an archive's REST interface."""

    def remove(self, destination: Destination, path: Path, file: ResultFile) -> bool:
        """Delete the archive's copy; see `inference.domain.ports.ObjectRemover`."""
        headers = destination.headers if isinstance(destination, DicomwebDestination) else {}
        with httpx.Client(
            base_url=destination.archive_url.rstrip("/"),
            headers=dict(headers),
            timeout=destination.timeout_s,
            trust_env=False,
        ) as client:
            try:
                return self._remove(client, destination, path, file)
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as error:
                raise DeliveryError(
                    destination=destination.name,
                    problem=f"archive API: {type(error).__name__}: {error}",
                ) from error

    def _remove(
        self, client: httpx.Client, destination: Destination, path: Path, file: ResultFile
    ) -> bool:
        found = client.post("/tools/lookup", content=file.instance_uid)
        found.raise_for_status()
        ids = [one["ID"] for one in found.json() if one["Type"] == "Instance"]
        for archive_id in ids:
            answer = client.get(f"/instances/{archive_id}/simplified-tags")
            answer.raise_for_status()
            _check_ours(answer.json(), destination, path, file)
            deleted = client.delete(f"/instances/{archive_id}")
            if deleted.status_code != httpx.codes.NOT_FOUND:
                deleted.raise_for_status()
        return bool(ids)


def _check_ours(
    tags: dict[str, Any], destination: Destination, path: Path, file: ResultFile
) -> None:
    """Refuse to delete what was not made by us.

    Raises
    ------
    DeliveryError
    """
    ours = _device_uids(dcmread(path, stop_before_pixels=True).ContributingEquipmentSequence)
    theirs = _device_uids(tags.get("ContributingEquipmentSequence") or [])
    if tags.get("SOPInstanceUID") != file.instance_uid or not ours & theirs:
        raise DeliveryError(
            destination=destination.name,
            problem=f"instance {file.instance_uid} there does not name our algorithm as"
            " contributing equipment; it was not deleted",
            is_permanent=True,
        )


def _device_uids(items: Any) -> set[str]:
    return {str(item.get("DeviceUID", "")) for item in items} - {""}
