"""What can be wrong with a training or an evaluation.

::

    ClinferError
    └── TrainingError
        ├── TrainingConfigError    a field of the configuration is missing or out of range
        ├── CaseError              an image and its labels cannot be used together
        └── CheckpointError        a run cannot be resumed from what its folder holds
"""

from __future__ import annotations

from inference.domain.errors import ClinferError


class TrainingError(ClinferError):
    """A training or an evaluation cannot go on."""

    code = "training"


class TrainingConfigError(TrainingError):
    """A field of the configuration is missing, unknown or out of range."""

    code = "training_config"

    def __init__(self, *, path: str, field: str, problem: str) -> None:
        self.path, self.field, self.problem = path, field, problem
        super().__init__(f"{path}: {field}: {problem}")


class CaseError(TrainingError):
    """An image and its labels do not belong together, or cannot be read."""

    code = "case"

    def __init__(self, *, case_id: str, problem: str) -> None:
        self.case_id, self.problem = case_id, problem
        super().__init__(f"case {case_id}: {problem}")


class CheckpointError(TrainingError):
    """A run's folder does not hold what resuming needs."""

    code = "checkpoint"
