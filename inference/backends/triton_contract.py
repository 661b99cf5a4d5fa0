"""What travels between our Triton client and our Triton backend: tensor names and error texts.

docs/triton.md describes the same contract for clients that are not ours.
"""

from __future__ import annotations

import re

from inference.domain.errors import (
    BackendUnavailableError,
    ClinferError,
    InferenceError,
    ModelError,
    ModelSpecError,
    ModelWeightsError,
    RefusedError,
)

BACKEND_NAME = "clinfer"

VOLUME_INT16 = "volume_int16"
VOLUME_FLOAT32 = "volume_float32"
AFFINE_LPS = "affine_lps"
PRIORITY = "priority"
DEADLINE_S = "deadline_s"
LABELS = "labels"
REPORT = "report"

HEARTBEAT_PARAMETER = "heartbeat_s"
"""Request parameter (double, seconds): while the answer is not there, send a response that has only
`report` this often. Without it a request has exactly one response."""

TURNS_VARIABLE = "CLINFER_TURNS_FOLDER"
"""Environment variable of a model's process: the folder in which the models of a machine agree
whose turn it is to compute. Without it a model takes no notice of others."""

ENGINE_CACHE_VARIABLE = "CLINFER_ENGINE_CACHE_DIR"
MEMORY_BUDGET_VARIABLE = "CLINFER_MEMORY_BUDGET_MIB"
"""Settings that the models' processes need too; they reach them as environment variables."""

MAX_LABELS_UINT8 = 255

SECRET_HEADER_KEY = "clinfer-secret"  # noqa: S105 - the header's name, not its value
SECRET_HEADER = f"triton-grpc-protocol-{SECRET_HEADER_KEY}"
"""Triton puts its own prefix before the key of a restricted protocol."""

MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9_]{0,63}")

_ERROR_TEXT = re.compile(r"(?:^|\s)clinfer\[(?P<code>[a-z_]+)\]: (?P<message>.*)", re.DOTALL)


class DeadlineError(InferenceError):
    """The request's deadline passed before the labels were there."""

    code = "deadline"


_RAISED: dict[str, type[ClinferError]] = {
    RefusedError.code: RefusedError,
    ModelError.code: ModelError,
    ModelSpecError.code: ModelError,  # its fields do not travel, its message does
    ModelWeightsError.code: ModelWeightsError,
    BackendUnavailableError.code: BackendUnavailableError,
    InferenceError.code: InferenceError,
    DeadlineError.code: DeadlineError,
}


def error_text(error: ClinferError) -> str:
    """Return the text that carries an error through Triton: ``clinfer[code]: message``."""
    return f"clinfer[{error.code}]: {error}"


def error_from_text(text: str) -> ClinferError:
    """Return the error that a text from the server stands for.

    Texts that our backend did not write (Triton's own) are an :class:`InferenceError`, except the
    ones that say that the model's process is gone.
    """
    found = _ERROR_TEXT.search(text)
    if found is not None:
        return _RAISED.get(found["code"], InferenceError)(found["message"])
    if is_dead_process(text):
        return BackendUnavailableError(f"the model's process died: {text}")
    if "unknown model" in text:
        return ModelError(f"the server says: {text}")
    if "Unable to find shared memory region" in text or "server exiting" in text.lower():
        return BackendUnavailableError(f"the server was restarted meanwhile: {text}")
    return InferenceError(f"the server says: {text}")


def is_dead_process(text: str) -> bool:
    """Whether Triton's error text says that the process of a model is gone."""
    return "Stub process" in text and "is not healthy" in text
