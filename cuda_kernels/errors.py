"""Errors of the kernels: a wrong shape or dtype handed to a launcher, or the wrong threads."""

from __future__ import annotations


class KernelInputError(ValueError):
    """An array's shape or dtype is not one that the kernel is written for."""


class ThreadingLayerError(RuntimeError):
    """The CPU kernels would not run on OpenMP threads; others may not be entered concurrently."""

    def __init__(self, *, found: str, problem: str) -> None:
        self.found, self.problem = found, problem
        super().__init__(f"numba's threading layer must be 'omp', not '{found}': {problem}")
