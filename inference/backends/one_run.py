"""The predictor of a command that runs once: in this process, or a Triton by address."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inference.domain.ports import Predictor


@contextmanager
def one_run_predictor(
    model_repo: Path,
    *,
    triton_address: str | None,
    engine_cache_dir: Path | None = None,
    memory_budget_mib: float | None = None,
) -> Iterator[Predictor]:
    """Give a predictor and let go of it afterwards.

    Only the one asked for is imported: a command that computes here never loads a gRPC client.
    """
    if triton_address is None:
        from inference.backends.local_torch import LocalPredictor

        yield LocalPredictor(
            model_repo, engine_cache_dir=engine_cache_dir, memory_budget_mib=memory_budget_mib
        )
        return
    from inference.backends.triton import TritonPredictor

    predictor = TritonPredictor(triton_address, model_repo=model_repo, shared_memory=False)
    try:
        yield predictor
    finally:
        predictor.close()
