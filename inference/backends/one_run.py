"""The predictor of a command that runs once: a process of its own, or a Triton by address."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from inference.backends.own_process import ProcessPredictor

if TYPE_CHECKING:  # the process starts before anything heavy is imported here
    from dicom_io.volume import Volume
    from inference.domain.ports import Predictor


@contextmanager
def one_run_predictor(
    model_repo: Path,
    *,
    triton_address: str | None,
    engine_cache_dir: Path | None = None,
    memory_budget_mib: float | None = None,
    meanwhile: Callable[[Volume], None] | None = None,
) -> Iterator[Predictor]:
    """Give a predictor and let go of it afterwards.

    ``meanwhile`` is called with the first volume while a process of its own computes.
    Only the one asked for is imported: a command that computes here never loads a gRPC client.
    """
    if triton_address is None:
        with ProcessPredictor(
            model_repo,
            engine_cache_dir=engine_cache_dir,
            memory_budget_mib=memory_budget_mib,
            meanwhile=meanwhile,
        ) as process:
            yield process
        return
    from inference.backends.triton import TritonPredictor

    predictor = TritonPredictor(triton_address, model_repo=model_repo, shared_memory=False)
    try:
        yield predictor
    finally:
        predictor.close()
