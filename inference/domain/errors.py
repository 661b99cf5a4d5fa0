"""The service's own errors.

::

    ClinferError
    ├── ModelError                a model folder is wrong
    │   ├── ModelSpecError          a field of model.toml is missing or out of range
    │   └── ModelWeightsError       weights missing, changed, or not loadable
    ├── RefusedError              the input is not one that a result may be made from
    ├── NoApplicableModelError    no model's scope fits any series of the study
    └── BackendError              the network could not be run
        ├── BackendUnavailableError  the server is not there (retry later)
        ├── EngineUnavailableError   an engine asked for cannot run here (pipeline.engines)
        ├── EngineCacheError         a converted network is damaged (pipeline.engines)
        └── InferenceError           the server answered with a failure
"""

from __future__ import annotations

from typing import ClassVar


class ClinferError(Exception):
    """Root of the service's errors; ``code`` is stable and documented in docs/errors.md."""

    code: ClassVar[str] = "clinfer"


class ModelError(ClinferError):
    """A model folder is wrong."""

    code = "model"


class ModelSpecError(ModelError):
    """A field of model.toml is missing, unknown or out of range."""

    code = "model_spec"

    def __init__(self, *, path: str, field: str, problem: str) -> None:
        self.path, self.field, self.problem = path, field, problem
        super().__init__(f"{path}: {field}: {problem}")


class ModelWeightsError(ModelError):
    """Weights are missing, changed, or do not fit the network."""

    code = "model_weights"


class RefusedError(ClinferError):
    """No result may be made from this input; the message says which field and what to do."""

    code = "refused"


class NoApplicableModelError(ClinferError):
    """No model's scope fits any series of the study."""

    code = "no_applicable_model"


class BackendError(ClinferError):
    """The network could not be run."""

    code = "backend"


class BackendUnavailableError(BackendError):
    """The inference server is not there; the job is worth trying again later."""

    code = "backend_unavailable"


class InferenceError(BackendError):
    """The inference server answered with a failure."""

    code = "inference"
