"""Where there is no embedded Triton, the error says what to do instead."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from pathlib import Path

import pytest

from inference.backends import triton_install
from inference.backends.triton_install import (
    TritonMissingError,
    find_triton,
    server_environment,
    stage_backends,
)


def assert_says_what_to_do(error: TritonMissingError) -> None:
    assert "CLINFER_BACKEND=local" in str(error)
    assert "CLINFER_TRITON_ADDRESS" in str(error)


@pytest.mark.parametrize(("system", "machine"), [("Darwin", "arm64"), ("Linux", "aarch64")])
def test_another_platform_is_named(
    monkeypatch: pytest.MonkeyPatch, system: str, machine: str
) -> None:
    monkeypatch.setattr(platform, "system", lambda: system)
    monkeypatch.setattr(platform, "machine", lambda: machine)
    with pytest.raises(TritonMissingError, match=f"{system} {machine}") as caught:
        find_triton()
    assert_says_what_to_do(caught.value)


@pytest.mark.parametrize("found", [("glibc", "2.31"), ("", "")])
def test_an_old_c_library_is_named(monkeypatch: pytest.MonkeyPatch, found: tuple[str, str]) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: found)
    with pytest.raises(TritonMissingError, match=r"needs glibc 2\.35") as caught:
        find_triton()
    assert_says_what_to_do(caught.value)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(TritonMissingError, match="nvidia-pytriton is not installed") as caught:
        find_triton()
    assert_says_what_to_do(caught.value)


def test_a_missing_stub_for_this_python_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_install, "_python_version", lambda: "3.99")
    with pytest.raises(TritonMissingError, match=r"3\.99/triton_python_backend_stub"):
        find_triton()


def test_staging_replaces_what_an_older_start_left_and_leaves_the_wheel_alone(
    tmp_path: Path,
) -> None:
    install = find_triton()
    before = sorted(install.libraries.parent.glob("pytriton/tritonserver/backends/*/*"))
    folder = tmp_path / "backends"
    (folder / "python").mkdir(parents=True)
    (folder / "python" / "old").touch()
    assert stage_backends(install, folder) == folder
    assert {str(path.relative_to(folder)) for path in folder.glob("*/*")} == {
        "clinfer/model.py",
        "python/libtriton_python.so",
        "python/triton_python_backend_stub",
        "python/triton_python_backend_utils.py",
    }
    assert sorted(install.libraries.parent.glob("pytriton/tritonserver/backends/*/*")) == before


def test_the_server_gets_this_python_and_none_of_our_secrets() -> None:
    given = {
        "PATH": "/bin",
        "CLINFER_DATABASE_URL": "postgresql://user:secret@host/db",
        "LD_PRELOAD": "x",
        "OMP_NUM_THREADS": "2",
    }
    environment = server_environment(find_triton(), given)
    assert environment["PATH"].split(":") == [str(Path(sys.executable).parent), "/bin"]
    assert environment["OMP_NUM_THREADS"] == "2"
    assert not {"CLINFER_DATABASE_URL", "LD_PRELOAD"} & set(environment)
