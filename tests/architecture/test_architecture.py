"""The rules of the house that a machine can check: imports point down, files stay clean."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

from tests.architecture.guards import problems, tracked_files

PACKAGES = ("dicom_io", "cuda_kernels", "inference", "training")


def _modules(root: Path) -> list[Path]:
    return [
        path
        for path in tracked_files(root)
        if path.suffix == ".py" and path.relative_to(root).parts[0] in PACKAGES
    ]


def _imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
    return names


def test_imports_point_down(repository: Path) -> None:
    command = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [command, "--no-cache"], cwd=repository, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_repository_has_no_large_file_key_or_stray_whitespace(repository: Path) -> None:
    assert list(problems(repository)) == []


def test_every_module_says_what_it_is_for(repository: Path) -> None:
    silent = [
        str(path.relative_to(repository))
        for path in _modules(repository)
        if path.name != "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_environment_is_read_in_settings_only(repository: Path) -> None:
    allowed = {
        "inference/settings.py",
        "inference/commands/failures.py",  # before settings exist: a traceback for developers
    }
    readers = {
        str(path.relative_to(repository))
        for path in _modules(repository)
        if "os.environ[" in path.read_text() or "os.environ.get" in path.read_text()
    }
    assert readers <= allowed


def test_nothing_unpickles_a_file(repository: Path) -> None:
    unsafe = {"pickle", "dill", "joblib", "cloudpickle"}
    found = {
        str(path.relative_to(repository)): names
        for path in _modules(repository)
        if (names := {name.split(".")[0] for name in _imported(path)} & unsafe)
    }
    assert found == {}
    loads = [
        str(path.relative_to(repository))
        for path in _modules(repository)
        if "torch.load(" in path.read_text()
    ]
    assert loads == []


def test_only_the_batch_module_imports_ray(repository: Path) -> None:
    importers = [
        str(path.relative_to(repository))
        for path in _modules(repository)
        if any(name.split(".")[0] == "ray" for name in _imported(path))
    ]
    assert set(importers) <= {"inference/jobs/ray_batch.py"}


def test_no_pool_of_processes_forks(repository: Path) -> None:
    """OpenMP's threads do not survive a fork, and a kernel in the child would hang."""
    forking = ("os.fork(", 'get_context("fork")', "multiprocessing.Pool(", "ProcessPoolExecutor(")
    found = [
        (str(path.relative_to(repository)), number, line.strip())
        for path in _modules(repository)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if any(word in line for word in forking) and "mp_context=" not in line
    ]
    assert found == []
