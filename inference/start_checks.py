"""What is checked before anything is opened: our own packages, threads, and the data folder."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import psutil

from cuda_kernels.errors import ThreadingLayerError
from cuda_kernels.jit import require_omp
from inference.domain.errors import ClinferError

NETWORK_FILE_SYSTEMS = frozenset(
    {
        "9p",
        "afs",
        "ceph",
        "cifs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "lustre",
        "nfs",
        "nfs4",
        "smb3",
        "smbfs",
    }
)
"""Their locks and fsync do not hold what the database and the object store build on."""

OUR_PACKAGE = Path(__file__).resolve().parent


class ServiceStartError(ClinferError):
    """The service may not start here; the message says what to change."""

    code = "service_start"


class ShadowedPackageError(ServiceStartError):
    """Another package calls itself `inference` too, and a process of ours could load it."""

    code = "shadowed_package"

    def __init__(self, *, other: Path) -> None:
        self.other = other
        super().__init__(
            f"another package named 'inference' is at {other}; ours is at {OUR_PACKAGE}."
            " Uninstall the other one, or use a virtual environment of its own"
        )


class DataFolderError(ServiceStartError):
    """The data folder cannot keep what it is given."""

    code = "data_folder"

    def __init__(self, *, folder: Path, problem: str) -> None:
        self.folder, self.problem = folder, problem
        super().__init__(f"data_dir {folder}: {problem}")


def refuse_shadowed_package(search_path: list[str] | None = None) -> None:
    """Look for another package of our name anywhere that Python looks.

    The first on the path need not be the one that this process loaded: the model's processes in
    Triton search again.

    Raises
    ------
    ShadowedPackageError
    """
    for entry in sys.path if search_path is None else search_path:
        other = Path(entry or ".") / OUR_PACKAGE.name
        if (other / "__init__.py").is_file() and other.resolve() != OUR_PACKAGE:
            raise ShadowedPackageError(other=other.resolve())


def require_kernel_threads() -> None:
    """Refuse to start where the kernels' threads would not be OpenMP's: they would crash later.

    Raises
    ------
    ServiceStartError
    """
    try:
        require_omp()
    except ThreadingLayerError as error:
        raise ServiceStartError(str(error)) from error


def prepare_data_folder(folder: Path) -> None:
    """Make the data folder if it is not there, and try what the service will do in it.

    Raises
    ------
    DataFolderError
        Not writable, no fsync, or a network file system.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".try-") as file:
            file.write(b"clinfer")
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise DataFolderError(
            folder=folder, problem=f"cannot be written ({error.strerror})"
        ) from error
    kind = file_system_of(folder)
    if kind in NETWORK_FILE_SYSTEMS:
        raise DataFolderError(
            folder=folder, problem=f"lies on a network file system ({kind}); use a local disk"
        )


def file_system_of(folder: Path) -> str:
    """Return the type of the file system that holds a folder; "" where it is not known."""
    resolved = folder.resolve()
    mounts = {Path(mount.mountpoint): mount.fstype for mount in psutil.disk_partitions(all=True)}
    for parent in (resolved, *resolved.parents):
        if parent in mounts:
            return str(mounts[parent])
    return ""
