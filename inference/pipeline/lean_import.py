"""Take MONAI's networks without the rest of MONAI.

`import monai` loads all of it (transforms, data sets, metrics, and with them plotting, data frames
and statistics where they are installed): more than a second of each process that serves a model.
MONAI's packages import one another in circles, so a single module cannot be asked for. Here its
packages stand empty while the block imports, and give a name by importing the one module that
defines it. Afterwards the imported modules leave ``sys.modules``: whoever imports MONAI later gets
all of it, loaded in its own order, and shares nothing with the networks taken here. Where MONAI is
loaded already, its own modules are used.
"""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

PACKAGES = (
    "monai",
    "monai.apps",
    "monai.networks",
    "monai.networks.blocks",
    "monai.networks.layers",
    "monai.networks.nets",
)
"""Parents first. MONAI's other packages that networks need (utils, config) load little."""
LEFT_OUT = ("matplotlib", "pandas", "sklearn", "tensorboard", "scipy.signal", "ignite")
"""Optional packages that MONAI asks for by its own `optional_import`, which takes no for an answer:
a module that is None in ``sys.modules``. Packages that are loaded already stay."""


@contextmanager
def only_what_is_asked() -> Iterator[None]:
    """Import MONAI's modules in the block without the rest of MONAI; see this module's text."""
    hidden = [name for name in LEFT_OUT if name not in sys.modules]
    is_loaded = "monai" in sys.modules
    for name in hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        if not is_loaded:
            for name in PACKAGES:
                _stand_in(name)
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        if not is_loaded:
            for name in [name for name in sys.modules if name.split(".")[0] == "monai"]:
                del sys.modules[name]


class _Package(ModuleType):
    """A package whose own code does not run; its names come from the modules that define them."""

    where: dict[str, str]  # name -> module, as the package's code would import it

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self.where:
            return getattr(importlib.import_module(self.where[name], self.__name__), name)
        try:
            return importlib.import_module(f"{self.__name__}.{name}")
        except ModuleNotFoundError as error:
            raise AttributeError(f"{self.__name__} has no {name}") from error


def _stand_in(name: str) -> None:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    package = _Package(name)
    package.__spec__, package.__file__ = spec, spec.origin
    package.__path__ = list(spec.submodule_search_locations or [])
    package.__package__ = name
    package.where = {
        alias.asname or alias.name: "." * statement.level + (statement.module or "")
        for statement in ast.parse(Path(spec.origin).read_text()).body
        if isinstance(statement, ast.ImportFrom) and statement.level and statement.module
        for alias in statement.names
    }
    if name == "monai":
        package.__dict__["__version__"] = importlib.metadata.version(name)
    sys.modules[name] = package
