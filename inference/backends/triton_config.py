"""Triton's `config.pbtxt` for one of our models, made from its `model.toml`."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

from inference.backends.triton_contract import (
    AFFINE_LPS,
    BACKEND_NAME,
    DEADLINE_S,
    LABELS,
    MAX_LABELS_UINT8,
    PRIORITY,
    REPORT,
    VOLUME_FLOAT32,
    VOLUME_INT16,
)
from inference.domain.errors import ModelError
from inference.pipeline.spec import ModelSpec

CONFIG_FILE = "config.pbtxt"

_TEMPLATE = """\
# Made from model.toml by `render_config`; the tests compare the two.
# {title}, version {version}
name: "{name}"
backend: "{backend}"
max_batch_size: 0

# Every waiting request reaches the model at once; it decides whose window is next.
model_transaction_policy {{ decoupled: true }}

# One process runs the model. KIND_CPU: Triton places nothing, the model chooses its device.
instance_group [ {{ kind: KIND_CPU, count: 1 }} ]

input [
  # (slice, row, column); exactly one of the two volumes
  {{ name: "{volume_int16}", data_type: TYPE_INT16, dims: [ -1, -1, -1 ], optional: true }},
  {{ name: "{volume_float32}", data_type: TYPE_FP32, dims: [ -1, -1, -1 ], optional: true }},
  # (slice, row, column, 1) to LPS millimetres
  {{ name: "{affine_lps}", data_type: TYPE_FP64, dims: [ 4, 4 ] }},
  # 0 STAT, 1 urgent, 2 routine (where absent); lower goes first, between two batches of windows
  {{ name: "{priority}", data_type: TYPE_INT32, dims: [ 1 ], optional: true }},
  # seconds from the server's receipt
  {{ name: "{deadline_s}", data_type: TYPE_FP64, dims: [ 1 ], optional: true }}
]

output [
  # the volume's own grid; 0 is background
  {{ name: "{labels}", data_type: {labels_type}, dims: [ -1, -1, -1 ] }},
  # JSON: stage times, engine, device, peak memory
  {{ name: "{report}", data_type: TYPE_STRING, dims: [ 1 ] }}
]
"""


def render_config(spec: ModelSpec) -> str:
    """Return the text of `config.pbtxt`; the same spec gives the same text."""
    return _TEMPLATE.format(
        title=" ".join(spec.title.split()),
        version=spec.version,
        name=spec.name,
        backend=BACKEND_NAME,
        volume_int16=VOLUME_INT16,
        volume_float32=VOLUME_FLOAT32,
        affine_lps=AFFINE_LPS,
        priority=PRIORITY,
        deadline_s=DEADLINE_S,
        labels=LABELS,
        labels_type=f"TYPE_{labels_datatype(spec)}",
        report=REPORT,
    )


def check_config(folder: Path, spec: ModelSpec) -> None:
    """Return if the folder's `config.pbtxt` is the one that its `model.toml` gives.

    Raises
    ------
    ModelError
        It is missing or differs; the message names the first line that does.
    """
    path = folder / CONFIG_FILE
    try:
        found = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"{path}: {error}") from error
    expected = render_config(spec).splitlines()
    for number, (ours, theirs) in enumerate(zip_longest(expected, found), start=1):
        if ours != theirs:
            raise ModelError(f"{path}: line {number} is {theirs!r}, model.toml gives {ours!r}")


def labels_datatype(spec: ModelSpec) -> str:
    """Triton's name for the label map's type: ``UINT8``, or ``UINT16`` where 255 is too few."""
    return "UINT8" if len(spec.labels) <= MAX_LABELS_UINT8 else "UINT16"
