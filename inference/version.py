"""The version of this software, as result objects name it."""

from __future__ import annotations

from importlib.metadata import version

SOFTWARE_VERSION = version("clinfer")
