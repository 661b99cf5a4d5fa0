"""One typed door to numba: how every kernel of this package is compiled.

CPU kernels run on all cores without the GIL, and are cached beside their source, so that a second
process does not compile them again. Threads come from OpenMP: of numba's layers only it and TBB
may be entered by several Python threads at once. A process that has run a parallel kernel must not
be forked: pools of processes start theirs with "spawn".
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numba.cuda

from cuda_kernels.errors import ThreadingLayerError

cuda: Any = numba.cuda
"""The CUDA half of numba, which has no types; kernels say ``cuda.grid(1)`` with this one."""

_numba: Any = numba
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


def jit_both(function: Callable[P, R]) -> tuple[Callable[P, R], Callable[P, R]]:
    """Compile one body twice: for CPU kernels, and for CUDA kernels."""
    return jit_inline(function), jit_cuda_device(function)


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


def require_omp() -> None:
    """Refuse to compute where the kernels' threads would not be OpenMP's.

    Raises
    ------
    ThreadingLayerError
        OpenMP's runtime cannot be loaded, or numba already runs with other threads.
    """
    try:
        importlib.import_module("numba.np.ufunc.omppool")
    except ImportError as error:
        raise ThreadingLayerError(
            found="none", problem=f"libgomp.so.1 cannot be loaded ({error}); install libgomp1"
        ) from error
    # Asked again, because another module may have changed it after this one was imported.
    layer = str(_config.THREADING_LAYER)
    with suppress(ValueError):  # no parallel kernel has run yet
        layer = str(_numba.threading_layer())
    if layer != "omp":
        raise ThreadingLayerError(
            found=layer,
            problem="import cuda_kernels before any other numba code runs in parallel, and leave"
            " NUMBA_THREADING_LAYER unset",
        )


def n_threads() -> int:
    """How many cores CPU kernels launched by this thread use."""
    return int(numba.get_num_threads())


def set_threads(n: int) -> None:
    """Use ``n`` cores in CPU kernels launched by this thread; at most as many as there are.

    Raises
    ------
    ThreadingLayerError
    """
    require_omp()
    numba.set_num_threads(max(1, min(n, _config.NUMBA_NUM_THREADS)))
