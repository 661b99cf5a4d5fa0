"""Built series, written and scanned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from pydicom.dataset import FileDataset

from dicom_io.series import Series, scan
from tests.builders.dicom import write_instances

AsSeries = Callable[..., Series]


@pytest.fixture
def as_series(tmp_path: Path) -> AsSeries:
    """Write instances under shuffled names and return the one series that a scan finds."""

    def build(instances: Sequence[FileDataset], transfer_syntax: str = "explicit") -> Series:
        folder = tmp_path / f"series-{len(list(tmp_path.iterdir()))}"
        paths = write_instances(folder, instances, transfer_syntax=transfer_syntax)
        (series,) = scan(paths).series
        return series

    return build
