"""Import MONAI without the optional packages that no network of ours needs.

`import monai` loads all of MONAI, and with it plotting, data frames and statistics where they are
installed: a second and 100 MiB of each process that serves a model (measured on 2 cores). MONAI
asks for each of them by its own `optional_import`, which takes no for an answer; a module that is
None in ``sys.modules`` is such a no. Packages that are loaded already stay.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

LEFT_OUT = ("matplotlib", "pandas", "sklearn", "tensorboard", "scipy.signal")


@contextmanager
def without_optional_packages() -> Iterator[None]:
    """Make the packages of ``LEFT_OUT`` look absent while the block imports others."""
    hidden = [name for name in LEFT_OUT if name not in sys.modules]
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
