"""Windows stand where MONAI puts them, in its order."""

from __future__ import annotations

import pytest
from monai.data.utils import dense_patch_slices
from monai.inferers.utils import _get_scan_interval

from cuda_kernels.axis import linear_axis
from inference.pipeline.spec import Window
from inference.pipeline.windows import plan_strips, plan_windows


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


@pytest.mark.parametrize("n_strips", [1, 2, 3, 7])
def test_strips_hold_every_native_row_once_and_every_window_that_touches_it(n_strips: int) -> None:
    plan = plan_windows((20, 50, 30), Window(roi_size=(16, 24, 20)))
    rows = linear_axis(50, 83, 0.6)
    strips = plan_strips(plan, rows, n_strips)
    assert len(strips) == n_strips
    native = [row for strip in strips for row in range(*strip.native_rows)]
    assert native == list(range(83))
    for strip in strips:
        used = {int(i) for r in range(*strip.native_rows) for i in (rows.low[r], rows.high[r])}
        assert used <= set(range(*strip.model_rows))
        touching = [start for start in plan.starts if used & set(range(start[1], start[1] + 24))]
        assert set(touching) <= set(strip.starts)
        assert list(strip.starts) == sorted(strip.starts)
