"""The eight stages of a study's way, under which every finer timing is counted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

RECEIVE: Final = "receive"
QUEUE: Final = "queue"
DELIVER: Final = "deliver"
OTHER: Final = "other"

STAGES: Final = (
    RECEIVE,
    "decode",
    "resample",
    QUEUE,
    "network",
    "merge",
    "encode",
    DELIVER,
)
"""In the order of a study's way; ``queue`` is waited before decoding and before the network."""

STAGE_MEANING: Final[Mapping[str, str]] = {
    RECEIVE: "first instance to last instance",
    "decode": "headers, order and geometry of the slices, pixels",
    "resample": "onto the model's grid",
    QUEUE: "for more instances, a worker, a core and the model server; transfer to it",
    "network": "the windows through the network",
    "merge": "windows together, back onto the scanner's grid, clean-up",
    "encode": "measuring, SEG and SR, reading them back, label file and sheet",
    DELIVER: "result stored to the last destination's acknowledgement",
    OTHER: "reported under a name that no stage has",
}

_STAGE_OF: Final[Mapping[str, str]] = {
    "read": "decode",
    "interpolate": "merge",
    "postprocess": "merge",
    "queue and transfer": QUEUE,
    "wait for a core": QUEUE,
    "measure": "encode",
    "check placement": "encode",
    "write labels and sheet": "encode",
}


def stage_of(name: str) -> str:
    """Return the stage under which a timing of this name counts; `OTHER` where none claims it."""
    return name if name in STAGES else _STAGE_OF.get(name, OTHER)


def stages_of(
    timings_s: Mapping[str, float], *, receive_s: float = 0.0, queue_s: float = 0.0
) -> dict[str, float]:
    """Sum the seconds of finer timings by stage, in the order of `STAGES`.

    Parameters
    ----------
    timings_s : seconds by name, as an analysis reports them; ``total`` is left out
    receive_s, queue_s : what passed before the analysis began, added to those stages

    Returns
    -------
    dict
        Seconds of each stage that took any time, to a tenth of a millisecond. ``deliver`` is
        absent: it happens after the result is stored, and is read from the deliveries.
    """
    seconds = dict.fromkeys((*STAGES, OTHER), 0.0)
    seconds[RECEIVE] += receive_s
    seconds[QUEUE] += queue_s
    for name, value in timings_s.items():
        if name != "total":
            seconds[stage_of(name)] += value
    return {name: round(value, 4) for name, value in seconds.items() if value > 0}
