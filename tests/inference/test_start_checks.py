"""What stops a start before anything is opened."""

from __future__ import annotations

import gc
import socket
import sys
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from inference.bootstrap import Service
from inference.start_checks import (
    DataFolderError,
    ServiceStartError,
    ShadowedPackageError,
    file_system_of,
    prepare_data_folder,
    refuse_shadowed_package,
    require_kernel_threads,
)
from tests.builders.service import FakeEngine, service_settings, write_two_boxes_model


def test_another_package_of_our_name_is_refused(tmp_path: Path) -> None:
    refuse_shadowed_package()
    (tmp_path / "inference").mkdir()
    refuse_shadowed_package([*sys.path, str(tmp_path)])  # a folder is no package
    (tmp_path / "inference" / "__init__.py").touch()
    with pytest.raises(ShadowedPackageError) as caught:
        refuse_shadowed_package([*sys.path, str(tmp_path)])
    assert caught.value.other == tmp_path / "inference"


def test_a_data_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataFolderError, match="cannot be written") as caught:
        prepare_data_folder(tmp_path / "file" / "data")
    assert caught.value.folder == tmp_path / "file" / "data"


def test_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = [
        SimpleNamespace(mountpoint="/", fstype="ext4"),
        SimpleNamespace(mountpoint=str(tmp_path / "share"), fstype="nfs4"),
    ]
    monkeypatch.setattr(psutil, "disk_partitions", lambda all: mounts)
    assert file_system_of(tmp_path / "share" / "deep") == "nfs4"
    prepare_data_folder(tmp_path / "local")
    with pytest.raises(DataFolderError, match="network file system"):
        prepare_data_folder(tmp_path / "share" / "data")


# The DICOM server's wake-up sockets are left to the collector when its port is taken.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("option", ["http_port", "dicom_port"])
def test_a_taken_port_is_named_and_nothing_stays_open(tmp_path: Path, option: str) -> None:
    write_two_boxes_model(tmp_path / "model_repo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        service = Service(service_settings(tmp_path, **{option: port}), engine=FakeEngine())
        with pytest.raises(ServiceStartError, match=f"{option} {port}"):
            service.start()
        gc.collect()
    again = Service(service_settings(tmp_path), engine=FakeEngine())
    again.start()
    again.stop()


def test_two_services_do_not_share_a_data_folder(tmp_path: Path) -> None:
    import subprocess

    write_two_boxes_model(tmp_path / "model_repo")
    service = Service(service_settings(tmp_path), engine=FakeEngine())
    service.start()
    try:
        other = subprocess.run(
            [
                *(sys.executable, "-m", "inference", "serve", "--backend", "local"),
                *("--data", str(tmp_path / "data"), "--model-repo", str(tmp_path / "model_repo")),
                *("--port", "0", "--dicom-port", "0"),
            ],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    finally:
        service.stop()
    assert other.returncode == 5
    assert other.stderr.strip().splitlines()[-1].startswith("error[data_folder_in_use]")


def test_no_model_is_no_service(tmp_path: Path) -> None:
    (tmp_path / "model_repo").mkdir()
    with pytest.raises(ServiceStartError, match="no model"):
        Service(service_settings(tmp_path), engine=FakeEngine()).start()


def test_an_engine_that_fails_to_start_stops_everything(tmp_path: Path) -> None:
    class Broken(FakeEngine):
        def start(self) -> None:
            raise ServiceStartError("broken")

    write_two_boxes_model(tmp_path / "model_repo")
    with pytest.raises(ServiceStartError, match="broken"):
        Service(service_settings(tmp_path), engine=Broken()).start()
    again = Service(service_settings(tmp_path), engine=FakeEngine())
    again.start()
    again.stop()


def test_a_machine_without_openmp_is_refused_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    require_kernel_threads()
    monkeypatch.setitem(sys.modules, "numba.np.ufunc.omppool", None)
    with pytest.raises(ServiceStartError, match="libgomp1"):
        require_kernel_threads()
