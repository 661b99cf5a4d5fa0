"""A server's answer, checked before anyone believes it."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc import service_pb2

from inference.backends import triton_contract as contract
from inference.domain.errors import InferenceError, ModelError
from inference.pipeline.spec import ModelSpec

LABELS_DTYPES: dict[str, np.dtype[Any]] = {
    "UINT8": np.dtype(np.uint8),
    "UINT16": np.dtype(np.uint16),
}


def read_outputs(
    response: service_pb2.ModelInferResponse,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    *,
    n_bytes: int,
) -> tuple[bytes, dict[str, Any]]:
    """Return the labels' bytes and the report.

    Parameters
    ----------
    shape, dtype : of the labels that were asked for
    n_bytes : how many of them must be in the message; 0 where they went to shared memory

    Raises
    ------
    InferenceError
        Outputs are missing, or have another name, type, shape or size than asked for.
    """
    names = [output.name for output in response.outputs]
    if sorted(names) != [contract.LABELS, contract.REPORT]:
        raise InferenceError(f"answer: outputs are {names}")
    if len(response.raw_output_contents) != len(names):
        raise InferenceError("answer: outputs and contents differ in number")
    labels = response.outputs[names.index(contract.LABELS)]
    if LABELS_DTYPES.get(labels.datatype) != dtype or tuple(labels.shape) != shape:
        raise InferenceError(
            f"answer: labels are {labels.datatype} {tuple(labels.shape)}, not {dtype} {shape}"
        )
    contents = response.raw_output_contents[names.index(contract.LABELS)]
    if len(contents) != n_bytes:
        raise InferenceError(f"answer: labels have {len(contents)} bytes, not {n_bytes}")
    return contents, _parse(response.raw_output_contents[names.index(contract.REPORT)])


def check_labels(labels: NDArray[Any], report: dict[str, Any], spec: ModelSpec) -> None:
    """Compare an answer with the model that it should come from.

    Raises
    ------
    ModelError
        The server ran other weights, or another version, than the ones that the result will name.
    InferenceError
        A label is none of the model's.
    """
    expected = {
        "model": spec.name,
        "model_version": spec.version,
        "weights_sha256": spec.weights.sha256,
    }
    for name, value in expected.items():
        if report.get(name) != value:
            raise ModelError(f"the server's {name} is {report.get(name)!r}, ours is {value!r}")
    largest = int(labels.max())
    if largest > len(spec.labels):
        raise InferenceError(f"answer: label {largest}, the model has {len(spec.labels)}")


def _parse(content: bytes) -> dict[str, Any]:
    """Return the JSON of a string tensor of one element: its length in 4 bytes, then its text."""
    length = int.from_bytes(content[:4], "little")
    if len(content) < 4 or length != len(content) - 4:
        raise InferenceError("answer: the report is not one string")
    try:
        report = json.loads(content[4:])
    except ValueError as error:
        raise InferenceError(f"answer: the report is not JSON: {error}") from error
    if not isinstance(report, dict):
        raise InferenceError("answer: the report is not a JSON object")
    return report
