"""Run every check under numba's CUDA simulator; prints one JSON object {check: problem or null}.

A process of its own: NUMBA_ENABLE_CUDASIM is read when numba is imported.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from numba import cuda

from tests.cuda_kernels.cases import CHECKS


def main() -> int:
    def get(array: Any) -> Any:
        return array.copy_to_host()

    outcome: dict[str, str | None] = {}
    for name, check in CHECKS.items():
        try:
            check(cuda.to_device, get)
            outcome[name] = None
        except Exception as error:  # noqa: BLE001  (the parent turns it into a failed test)
            outcome[name] = f"{type(error).__name__}: {error}"
    sys.stdout.write(json.dumps(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
