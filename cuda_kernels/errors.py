"""Errors of the kernels: a wrong shape or dtype handed to a launcher."""

from __future__ import annotations


class KernelInputError(ValueError):
    """An array's shape or dtype is not one that the kernel is written for."""
