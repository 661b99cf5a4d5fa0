"""The process behind `ProcessPredictor`: a `LocalPredictor` that answers one caller."""

from __future__ import annotations

import os
import socket
import threading
from multiprocessing.connection import Connection
from typing import Any

from dicom_io.volume import Volume
from inference.backends.shared_arrays import receive_array, send_array
from inference.domain.errors import InferenceError
from inference.imports import without_collection


def serve(descriptor: int, alive: int) -> None:
    """Answer requests until the caller ends.

    Parameters
    ----------
    descriptor : one end of a pair of sockets
    alive : a pipe that is closed when the caller ends, and this process with it
    """
    threading.Thread(target=_end_with_caller, args=(alive,), daemon=True).start()
    with socket.socket(fileno=descriptor) as over, Connection(os.dup(descriptor)) as connection:
        options = connection.recv()
        predictor: Any = None
        problem: Exception | None = None
        try:
            with without_collection():
                from inference.backends.local_torch import LocalPredictor

            predictor = LocalPredictor(**options)
        except Exception as error:  # noqa: BLE001 - it is the caller that must say what is missing
            problem = error
        while True:
            try:
                what, arguments = connection.recv()
            except EOFError:
                return
            if what == "prepare":
                _prepare(predictor, **arguments)
                continue
            affine_lps, modality, unit, caller_mib = connection.recv()
            array = receive_array(connection, over)
            try:
                if problem is not None:
                    raise problem
                predictor.caller_mib = caller_mib
                volume = Volume(array=array, affine_lps=affine_lps, modality=modality, unit=unit)
                answer, report = _answer(predictor, what, volume, arguments)
            except Exception as error:  # noqa: BLE001 - every failure is raised again by the caller
                _send_error(connection, error)
            else:
                connection.send(("done", report))
                send_array(connection, over, answer)
                del answer, volume
            del array  # its memory is the caller's to give back


def _answer(
    predictor: Any, what: str, volume: Volume, arguments: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    model = arguments.pop("model")
    if what == "predict":
        prediction = predictor.predict(model, volume, **arguments)
        return prediction.labels, prediction.report
    return predictor.probability(model, volume, **arguments), {}


def _prepare(predictor: Any, model: str) -> None:
    """Load a model; what is wrong with it is said when it is to run."""
    if predictor is None:
        return
    try:
        predictor.load(model)
    except Exception:  # noqa: BLE001 - `predict` loads it again, and raises
        return


def _send_error(connection: Connection, error: Exception) -> None:
    """Send an error so that it can be made again without its constructor."""
    try:
        connection.send(("error", (type(error), error.args, error.__dict__)))
    except Exception:  # noqa: BLE001 - a type or a field that cannot travel
        text = f"{type(error).__name__}: {error}"
        connection.send(("error", (InferenceError, (text,), {})))


def _end_with_caller(alive: int) -> None:
    os.read(alive, 1)
    os._exit(1)
