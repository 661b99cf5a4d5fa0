"""The `tritonserver` inside the wheel nvidia-pytriton: where it is, and what it needs to run.

Triton wants its Python backend and our backend in one folder, with the stub for this Python beside
`libtriton_python.so`; it refuses links that leave the folder. So a few megabytes are copied into
the service's data folder at each start; the wheel itself is never changed.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import inference
from inference.backends.triton_contract import BACKEND_NAME
from inference.domain.errors import BackendError

WHEEL = "nvidia-pytriton"
MIN_GLIBC = (2, 35)
PACKAGE_ROOT = Path(inference.__file__).resolve().parent.parent
"""The folder that `inference` is imported from; `backends/` lies beside it."""

_NOT_PASSED_ON = ("CLINFER_", "PYTHONPATH", "PYTHONHOME", "LD_LIBRARY_PATH", "LD_PRELOAD")


class TritonMissingError(BackendError):
    """No embedded tritonserver for this machine or in this environment."""

    def __init__(self, *, missing: str) -> None:
        self.missing = missing
        super().__init__(
            f"no embedded Triton here: {missing}. Use CLINFER_BACKEND=local to compute in the"
            " service's own process, or CLINFER_TRITON_ADDRESS=host:port for a server elsewhere"
        )


@dataclass(frozen=True, kw_only=True)
class TritonInstall:
    """The parts of an installed wheel."""

    version: str
    server: Path
    backend_files: tuple[Path, ...]
    libraries: Path


def find_triton() -> TritonInstall:
    """Find the wheel's parts without importing it.

    Raises
    ------
    TritonMissingError
        Says what is missing and what to do instead.
    """
    system, machine = platform.system(), platform.machine()
    if (system, machine) != ("Linux", "x86_64"):
        raise TritonMissingError(
            missing=f"{WHEEL} exists for Linux x86_64, this is {system} {machine}"
        )
    _check_glibc()
    try:
        version = importlib.metadata.version(WHEEL)
    except importlib.metadata.PackageNotFoundError:
        raise TritonMissingError(missing=f"the package {WHEEL} is not installed") from None
    found = importlib.util.find_spec("pytriton")
    if found is None or found.origin is None:
        raise TritonMissingError(missing=f"{WHEEL} {version} is damaged: no module pytriton")
    package = Path(found.origin).parent
    root = package / "tritonserver"
    install = TritonInstall(
        version=version,
        server=root / "bin" / "tritonserver",
        backend_files=(
            root / "backends" / "python" / "libtriton_python.so",
            root / "backends" / "python" / "triton_python_backend_utils.py",
            root / "python_backend_stubs" / _python_version() / "triton_python_backend_stub",
        ),
        libraries=package.parent / "nvidia_pytriton.libs",
    )
    for path in (install.server, *install.backend_files, install.libraries):
        if not path.exists():
            raise TritonMissingError(missing=f"{WHEEL} {version} has no {path}")
    return install


def stage_backends(install: TritonInstall, folder: Path) -> Path:
    """Make the folder for ``--backend-directory`` afresh and return it."""
    if folder.exists():
        shutil.rmtree(folder)
    python = folder / "python"
    python.mkdir(parents=True)
    for path in install.backend_files:
        shutil.copy2(path, python / path.name)
    (python / "triton_python_backend_stub").chmod(0o700)
    ours = PACKAGE_ROOT / "backends" / BACKEND_NAME / "model.py"
    if not ours.is_file():
        raise TritonMissingError(missing=f"our backend is not at {ours}")
    (folder / BACKEND_NAME).mkdir()
    shutil.copy2(ours, folder / BACKEND_NAME / "model.py")
    return folder


def server_environment(install: TritonInstall, environment: Mapping[str, str]) -> dict[str, str]:
    """Return the server's environment: the given one without our settings, with its paths.

    The embedded Python takes its packages from the ``python3`` that is first on PATH, and its
    `libpython` from the library path: both must be this interpreter's. PYTHONPATH it ignores; our
    backend reads it.
    """
    kept = {
        name: value for name, value in environment.items() if not name.startswith(_NOT_PASSED_ON)
    }
    library_folders = [sysconfig.get_config_var("LIBDIR") or "", str(install.libraries)]
    return kept | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), kept.get("PATH", os.defpath)]),
        "PYTHONPATH": str(PACKAGE_ROOT),
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, library_folders)),
    }


def _python_version() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _check_glibc() -> None:
    name, found = platform.libc_ver()
    parts = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if name != "glibc" or parts < MIN_GLIBC:
        needed = ".".join(str(part) for part in MIN_GLIBC)
        raise TritonMissingError(
            missing=f"{WHEEL} needs glibc {needed} or newer, this is {name} {found}"
        )
