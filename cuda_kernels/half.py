"""16-bit floats as kernels see them: as bits, for NumPy has no bf16 and numba's CPU code no fp16.

An array of fp16 or bf16 is handed over as its uint16 view; reading is one look into a table of all
65,536 values, which is exact and the same on every device.
"""

from __future__ import annotations

from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

HalfType = Literal["fp16", "bf16"]
Float32 = NDArray[np.float32]


@cache
def half_values(half: HalfType) -> Float32:
    """Return the value of each of the 65,536 bit patterns; shared, so not to be written to."""
    bits = np.arange(2**16, dtype=np.uint16)
    if half == "fp16":
        values = bits.view(np.float16).astype(np.float32)
    else:
        values = (bits.astype(np.uint32) << 16).view(np.float32)
    return values
