"""Write one result in every kind that is wanted; re-read and check each before it counts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset

from dicom_io.gate_kinds import check_object
from dicom_io.key_objects import make_key_objects
from dicom_io.labelled import LabelledVolume
from dicom_io.pdf_report import make_pdf_report
from dicom_io.presentation_state import make_presentation_state
from dicom_io.probability_maps import make_fractional_segmentation, make_parametric_map
from dicom_io.results import Algorithm, ResultIdentity
from dicom_io.secondary_capture import make_secondary_captures
from dicom_io.segmentation import make_segmentation
from dicom_io.source_header import dicom_source
from dicom_io.structure_set import make_structure_set
from dicom_io.structured_report import make_measurement_report
from dicom_io.write import write_dicom
from inference.domain.encoding import Encoding

Probabilities = Mapping[int, NDArray[np.float32]]
Stage = Callable[[str], AbstractContextManager[None]]
Amend = Callable[[Encoding, Dataset], Dataset]
"""Changes an object before it is written and checked: a reader's name, a verification."""

_ON_IMAGES = {"gsps", "sc", "ko"}
"""Kinds that are drawn on the source's own images; a resampled volume has none."""
_OF_FINDINGS = {"seg", "gsps", "rtstruct", "ko", "pmap"}
"""Kinds that do not exist where nothing was found: SR, pictures and PDF say so then."""


class ResultWriter:
    """Writes the objects of one result into a folder."""

    def __init__(
        self,
        found: LabelledVolume,
        *,
        algorithm: Algorithm,
        identity: ResultIdentity,
        out: Path,
        stage: Stage,
        probabilities: Probabilities | None = None,
        amend: Amend | None = None,
    ) -> None:
        self._amend = amend
        self._found = found
        self._algorithm = algorithm
        self._identity = identity
        self._out = out
        self._stage = stage
        self._probabilities = probabilities or {}

    def write(self, plan: Sequence[Encoding]) -> dict[str, Path]:
        """Return the files by name; a kind that does not exist for this result has none.

        Raises
        ------
        DicomIoError
            An identifier or a font is missing, or an object does not show the labels in their
            place.
        """
        files: dict[str, Path] = {}
        for encoding in plan:
            if not self._exists(encoding):
                continue
            segmentation = files.get(encoding.name.replace("sr", "seg", 1))
            for name, dataset in self._made(encoding, segmentation):
                path = self._out / f"{name}.dcm"
                with self._stage("encode"):
                    write_dicom(dataset, path)
                del dataset
                self._check(encoding, name, path, segmentation)
                files[name] = path
        return files

    def _exists(self, encoding: Encoding) -> bool:
        if encoding.base in _OF_FINDINGS and not self._found.measurements:
            return False
        return encoding.base not in _ON_IMAGES or not dicom_source(self._found.volume).resampled

    def _made(self, encoding: Encoding, segmentation: Path | None) -> Iterator[tuple[str, Dataset]]:
        """Make the instances of one kind, one at a time, timed."""
        instances = self._instances(encoding, segmentation)
        number = 0
        while True:
            with self._stage("encode"):
                dataset = next(instances, None)
                if dataset is not None and self._amend is not None:
                    dataset = self._amend(encoding, dataset)
            if dataset is None:
                return
            number += 1
            is_many = encoding.base in {"sc", "pmap"}
            yield (f"{encoding.name}-{number:02d}" if is_many else encoding.name), dataset

    def _instances(self, encoding: Encoding, segmentation: Path | None) -> Iterator[Dataset]:
        found = self._found
        named = replace(self._identity, profile=encoding.suffix or self._identity.profile)
        by: dict[str, Any] = {"algorithm": self._algorithm, "identity": named}
        match encoding.base:
            case "seg":
                yield self._segmentation(encoding, named)
            case "sr":
                yield self._report(segmentation, named)
            case "gsps":
                yield make_presentation_state(found, **by, language=encoding.language)
            case "sc":
                yield from make_secondary_captures(found, **by, language=encoding.language)
            case "rtstruct":
                yield make_structure_set(found, **by)
            case "pdf":
                yield make_pdf_report(found, **by, language=encoding.language)
            case "ko":
                yield make_key_objects(found, **by)
            case "pmap":
                for segment in found.segments:
                    probability = self._probabilities[segment.label]
                    yield make_parametric_map(found.volume, probability, segment, **by)

    def _segmentation(self, encoding: Encoding, named: ResultIdentity) -> Dataset:
        found = self._found
        if encoding.segmentation == "FRACTIONAL":
            return make_fractional_segmentation(
                found.volume,
                self._probabilities,
                found.segments,
                algorithm=self._algorithm,
                identity=named,
            )
        return make_segmentation(
            found.volume,
            found.labels,
            found.segments,
            algorithm=self._algorithm,
            identity=named,
            kind=encoding.segmentation,
        )

    def _report(self, segmentation: Path | None, named: ResultIdentity) -> Dataset:
        found = self._found
        return make_measurement_report(
            found.volume,
            found.labels,
            found.segments,
            found.measurements,
            None if segmentation is None else dcmread(segmentation, stop_before_pixels=True),
            algorithm=self._algorithm,
            identity=named,
        )

    def _check(self, encoding: Encoding, name: str, path: Path, segmentation: Path | None) -> None:
        with self._stage("check placement"):
            probabilities = self._probabilities
            if encoding.base == "pmap":
                segment = self._found.segments[int(name.rsplit("-", 1)[1]) - 1]
                probabilities = {segment.label: probabilities[segment.label]}
            check_object(
                path,
                self._found,
                segmentation=segmentation if encoding.base == "sr" else None,
                probabilities=probabilities,
            )
