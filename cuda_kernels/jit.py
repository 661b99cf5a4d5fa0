"""One typed door to numba: how every kernel of this package is compiled.

CPU kernels run on all cores without the GIL, and are cached beside their source, so that a second
process does not compile them again. Threads come from OpenMP: of numba's layers only it and TBB
may be entered by several Python threads at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numba.cuda

cuda: Any = numba.cuda
"""The CUDA half of numba, which has no types; kernels say ``cuda.grid(1)`` with this one."""

_config: Any = numba.config
_config.THREADING_LAYER = "omp"

P = ParamSpec("P")
R = TypeVar("R")

prange: Any = numba.prange


def jit(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile a CPU kernel: `prange` loops on all cores, no GIL, division as NumPy's.

    No `fastmath`: sums keep their order, so that the same input gives the same bits.
    """
    compiled = numba.njit(parallel=True, nogil=True, cache=True, error_model="numpy")(kernel)
    return cast("Callable[P, R]", compiled)


def jit_inline(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a scalar helper that CPU kernels call."""
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    return cast("Callable[P, R]", compiled)


def jit_serial(kernel: Callable[P, R]) -> Callable[P, R]:
    """Compile a kernel whose samples follow one another in time, so that one core walks them."""
    compiled = numba.njit(nogil=True, cache=True, error_model="numpy")(kernel)
    return cast("Callable[P, R]", compiled)


def jit_cuda(kernel: Callable[..., None]) -> Any:
    """Compile a CUDA kernel; launched as ``kernel[blocks, threads](...)``."""
    return cuda.jit(kernel)


def jit_cuda_device(function: Callable[P, R]) -> Callable[P, R]:
    """Compile a helper that CUDA kernels call."""
    return cast("Callable[P, R]", cuda.jit(device=True)(function))


def is_on_device(array: object) -> bool:
    """Whether the data lies in GPU memory (numba, CuPy or torch arrays)."""
    is_numba = getattr(array, "__cuda_ndarray__", False)
    return bool(is_numba) or hasattr(array, "__cuda_array_interface__")


def device_view(array: object) -> Any:
    """Return what CUDA kernels take, sharing memory with a device array of any library."""
    return array if getattr(array, "__cuda_ndarray__", False) else cuda.as_cuda_array(array)


def blocks(n_threads: int, block: int = 256) -> int:
    """How many blocks cover ``n_threads`` threads; the last one runs past the end."""
    return max(1, -(-n_threads // block))


def set_threads(n: int) -> None:
    """Use ``n`` cores in CPU kernels launched by this thread; at most as many as there are."""
    numba.set_num_threads(max(1, min(n, _config.NUMBA_NUM_THREADS)))
