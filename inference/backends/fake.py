"""A predictor without a network, for tests of everything around one: it thresholds."""

from __future__ import annotations

import numpy as np

from dicom_io.volume import Volume
from inference.domain.errors import BackendError
from inference.domain.job import Priority
from inference.domain.ports import Prediction


class FakePredictor:
    """Labels voxels at or above ``thresholds[k]`` (the volume's unit) with ``k + 1``.

    ``failures`` are raised, first to last, by the first calls; ``calls`` lists the models asked.
    """

    def __init__(
        self, thresholds: tuple[float, ...] = (0.0,), *, failures: tuple[BackendError, ...] = ()
    ) -> None:
        self._thresholds = thresholds
        self._failures = list(failures)
        self.calls: list[str] = []

    def predict(
        self,
        model: str,
        volume: Volume,
        *,
        priority: Priority = Priority.ROUTINE,
        deadline_s: float | None = None,
    ) -> Prediction:
        """Return the thresholded volume; ``priority`` and ``deadline_s`` change nothing."""
        del priority, deadline_s
        self.calls.append(model)
        if self._failures:
            raise self._failures.pop(0)
        labels = np.zeros(volume.array.shape, np.uint8)
        for label, threshold in enumerate(sorted(self._thresholds), start=1):
            labels[volume.array >= threshold] = label
        report = {
            "backend": "fake",
            "engine": "threshold",
            "precision": "exact",
            "device": "cpu",
            "n_windows": 0,
            "peak_memory_mib": 0.0,
            "timings_s": {"total": 0.0},
        }
        return Prediction(labels=labels, report=report)
