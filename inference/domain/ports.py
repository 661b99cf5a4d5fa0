"""What a layer needs from above or beside it; ``bootstrap`` hands in the real thing."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dicom_io.volume import Volume
from inference.domain.job import Priority
from inference.domain.result import Destination, ResultDraft, ResultFile, ReusedResult
from inference.domain.study import StudyInput

Labels = NDArray[np.uint8] | NDArray[np.uint16]


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What a backend returns for one volume.

    Attributes
    ----------
    labels : same (slice, row, column) shape and grid as the volume
    report : JSON-ready: ``timings_s`` per stage, ``engine``, ``precision``, ``device``,
        ``peak_memory_mib``, ``n_windows``, ``backend``
    """

    labels: Labels
    report: dict[str, Any]


class Predictor(Protocol):
    """Runs a named model on a volume: volume in, labels out, on the volume's own grid."""

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Return the labels of every voxel.

        Raises
        ------
        BackendUnavailableError, InferenceError, ModelError
        """
        ...


@runtime_checkable
class ProbabilityPredictor(Protocol):
    """A predictor that can also say how probable one segment is; not every backend can."""

    def probability(self, model: str, volume: Volume, label: int) -> NDArray[np.float32]:
        """Return the probability of a label for every voxel, on the volume's own grid.

        Another run of the whole network, before small parts are removed.

        Raises
        ------
        RefusedError, BackendUnavailableError, InferenceError, ModelError
        """
        ...


@runtime_checkable
class PreparingPredictor(Protocol):
    """A predictor that can get a model ready while its caller is still reading."""

    def prepare(self, model: str) -> None:
        """Begin to load a model and return at once; what is wrong with it `predict` will say."""
        ...


class Clock(Protocol):
    """Tells the time; tests hand in one that they move."""

    def now(self) -> datetime:
        """Aware UTC."""
        ...


class Progress(Protocol):
    """Called by a processor between its steps."""

    def __call__(self, fraction: float, step: str) -> None:
        """Record progress (fraction in [0, 1]) and check that the work is still wanted.

        Raises
        ------
        JobAbandonedError
            The lease was lost or a later version of the study took over. Let it pass: the
            worker catches it, and whatever was computed is dropped.
        """
        ...


class StudyProcessor(Protocol):
    """Turns the input set of one job into results."""

    def process(
        self, study: StudyInput, *, out: Path, progress: Progress
    ) -> tuple[ResultDraft | ReusedResult, ...]:
        """Return one result per (series, model), or one about the whole study.

        Write files under ``out`` (an empty folder, removed afterwards). A series that no result
        may be made from is a draft with state ``refused``.

        Raises
        ------
        RefusedError, NoApplicableModelError, DicomIoError
            The whole study: final, stored as one study result with the reason, not tried again.
        Exception
            Anything else (BackendUnavailableError first of all) is tried again, up to the
            policy's number of tries.
        """
        ...


class ObjectSender(Protocol):
    """Sends one stored DICOM file to one destination."""

    def send(self, path: Path, file: ResultFile) -> None:
        """Return when the receiver has acknowledged it.

        Raises
        ------
        DeliveryError
        """
        ...


@dataclass(frozen=True, kw_only=True)
class CommitmentAnswer:
    """What a receiver said it does with an object; ``problem`` is why it does not keep it."""

    is_kept: bool
    problem: str = ""


class CommitmentAsker(Protocol):
    """Asks one destination whether it keeps an object that it took."""

    def ask(self, path: Path, file: ResultFile, transaction_uid: str) -> CommitmentAnswer | None:
        """Return its answer; None: it will come later, under the transaction's UID.

        Raises
        ------
        DeliveryError
            It could not be asked.
        """
        ...


class ObjectRemover(Protocol):
    """Deletes objects of ours from an archive that does not honour rejection notes."""

    def remove(self, destination: Destination, path: Path, file: ResultFile) -> bool:
        """Delete the archive's copy of this file; False: it has none.

        Raises
        ------
        DeliveryError
            It could not be asked, or what it has under the UID was not made by us.
        """
        ...
