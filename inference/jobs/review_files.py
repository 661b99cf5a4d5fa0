"""What a decision is about, read from the store: images, labels, report, scanner."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

import numpy as np
from pydicom import dcmread

from dicom_io.nifti import read_nifti
from dicom_io.read import read_volume
from dicom_io.results import ResultIdentity
from dicom_io.reviewed import Reader, verify_report
from dicom_io.series import scan
from dicom_io.volume import Volume
from dicom_io.write import write_dicom
from inference.domain.result import Result, ResultFile
from inference.domain.review import DecisionFieldError, NotReviewableError, Scanner
from inference.jobs.corrections import Change, Labels, apply_slices, change_of, segments_of
from inference.pipeline.spec import ModelSpec
from inference.storage import studies
from inference.storage.database import Database
from inference.storage.objects import ObjectStore

VERIFIED_KIND = "sr-verified"
"""A second file of the kind "sr": destinations that take the report take this one after it."""


@dataclass(kw_only=True)
class Drawn:
    """A result with the images and labels that a person looked at."""

    volume: Volume
    machine: Labels
    labels: Labels

    @cached_property
    def change(self) -> Change:
        """What the person changed."""
        return change_of(self.machine, self.labels, self.volume.voxel_volume_mm3)


class ReviewFiles:
    """Reads what the reviewed results are made of."""

    def __init__(
        self, database: Database, objects: ObjectStore, models: Mapping[str, ModelSpec]
    ) -> None:
        self._database, self._objects, self._models = database, objects, models

    def drawn(self, result: Result, slices: Mapping[int, bytes]) -> Drawn:
        """Return images and labels with a person's slices over them.

        Raises
        ------
        NotReviewableError, DecisionFieldError, DicomIoError
        """
        with self._database.read() as connection:
            images = studies.list_instances(
                connection, result.study_uid, series_uid=result.series_uid, images_only=True
            )
        paths = [self._objects.path(image.sha256) for image in images]
        found = [one for one in scan(paths).series if one.series_uid == result.series_uid]
        if not found:
            raise NotReviewableError(result_id=result.id, problem="its images are not stored")
        volume = read_volume(found[0])
        labels = file_of(result, "labels")
        assert labels is not None, "a draft is only kept for a result with labels"
        machine = read_nifti(self._objects.path(labels.sha256)).array
        if machine.shape != volume.array.shape:
            raise NotReviewableError(
                result_id=result.id,
                problem=f"its labels {machine.shape} are not on the series' {volume.array.shape}",
            )
        dtype = "<u1" if int(machine.max(initial=0)) < 256 else "<u2"
        machine = machine.round().astype(dtype)
        drawn = apply_slices(volume, machine, slices)
        allowed = {one.label for one in segments_of(result, self._models.get(result.model))}
        strange = set(map(int, _values(drawn))) - allowed - {0}
        if strange:
            raise DecisionFieldError(
                field="slices", problem=f"labels {sorted(strange)} are no segments of the model"
            )
        return Drawn(volume=volume, machine=machine, labels=drawn)

    def scanner(self, result: Result) -> Scanner:
        """Return where the result's images come from."""
        with self._database.read() as connection:
            images = studies.list_instances(
                connection, result.study_uid, series_uid=result.series_uid, images_only=True
            )
        if not images:
            return Scanner()
        header = dcmread(
            self._objects.path(images[0].sha256),
            stop_before_pixels=True,
            specific_tags=[
                "SpecificCharacterSet", "Manufacturer", "ManufacturerModelName", "InstitutionName",
            ],
            force=True,
        )  # fmt: skip
        return Scanner(
            manufacturer=str(header.get("Manufacturer", "") or "").strip(),
            model=str(header.get("ManufacturerModelName", "") or "").strip(),
            site=str(header.get("InstitutionName", "") or "").strip(),
        )

    def verified(self, result: Result, reader: Reader, at: datetime, out: Path) -> Path | None:
        """Write the result's report as a verified one; None where it has no report."""
        report = file_of(result, "sr")
        if report is None or not self._objects.path(report.sha256).is_file():
            return None
        dataset = dcmread(self._objects.path(report.sha256))
        base, _, number = result.key.partition("/r")
        identity = ResultIdentity(key=base, created_at=at, revision=int(number or 1))
        path = out / f"{VERIFIED_KIND}.dcm"
        write_dicom(
            verify_report(
                dataset,
                reader=reader,
                at=at,
                instance_uid=identity.uid("sr-verified"),
                series_uid=identity.uid("sr-verified-series"),
                predecessor=dcmread(self._objects.path(report.sha256)),
            ),
            path,
        )
        return path


def _values(labels: Labels) -> list[int]:
    return [int(value) for value in np.flatnonzero(np.bincount(labels.ravel()))]


def file_of(result: Result, kind: str) -> ResultFile | None:
    """Return a result's file of a kind, or None."""
    return next((file for file in result.files if file.kind == kind), None)


def sha256_of(result: Result, kind: str) -> str:
    """Return the hash of a result's file of a kind, "" where it has none."""
    file = file_of(result, kind)
    return "" if file is None else file.sha256
