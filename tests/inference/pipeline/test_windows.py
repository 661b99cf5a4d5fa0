"""Windows stand where MONAI puts them, in its order."""

from __future__ import annotations

import pytest
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from inference.pipeline.spec import Window
from inference.pipeline.windows import plan_windows


@pytest.mark.parametrize("overlap", [0.0, 0.25, 0.5, 0.9, 0.99])
@pytest.mark.parametrize("shape", [(16, 24, 20), (33, 24, 71), (150, 31, 21), (17, 95, 40)])
def test_starts_equal_those_of_monai(shape: tuple[int, int, int], overlap: float) -> None:
    roi = (16, 24, 20)
    plan = plan_windows(shape, Window(roi_size=roi, overlap=overlap))
    interval = _get_scan_interval(shape, roi, 3, (overlap,) * 3)
    expected = [tuple(s.start for s in place) for place in dense_patch_slices(shape, roi, interval)]
    assert list(plan.starts) == expected
    assert plan.padded_shape == shape


def test_a_small_volume_is_padded_on_both_sides_the_odd_voxel_after() -> None:
    plan = plan_windows((11, 24, 4), Window(roi_size=(16, 24, 20)))
    assert plan.padded_shape == (16, 24, 20)
    assert plan.pad_before == (2, 0, 8)
    assert plan.starts == ((0, 0, 0),)
