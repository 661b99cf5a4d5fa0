"""MONAI's networks load without the rest of MONAI, and leave MONAI whole for others."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

NETWORKS_ALONE = """
import sys
from inference.pipeline.monai_networks import Convolution, DynUNet, SegResNet, UNet
assert not [name for name in sys.modules if name.split(".")[0] == "monai"], "MONAI stayed"
assert "scipy.signal" not in sys.modules
network = UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))
assert any(isinstance(block, Convolution) for block in network.modules())
"""
THEN_ALL_OF_IT = """
from monai.inferers.inferer import SlidingWindowInferer
from monai.losses.dice import DiceCELoss
from monai.networks import nets
from monai.transforms import Compose
import monai.transforms
import torch
whole = nets.UNet(spatial_dims=3, in_channels=1, out_channels=2, channels=(4, 8), strides=(2,))
whole.load_state_dict(network.state_dict())
image = torch.rand(1, 1, 8, 10, 12)
assert torch.equal(whole.eval()(image), network.eval()(image))
assert monai.networks.nets.UNet is nets.UNet is not UNet
"""
ALL_OF_IT_FIRST = """
import monai
from inference.pipeline.monai_networks import UNet
assert monai.networks.nets.UNet is UNet
"""


def _run(code: str, repository: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_networks_load_alone_and_monai_is_whole_afterwards(repository: Path) -> None:
    _run(NETWORKS_ALONE + THEN_ALL_OF_IT, repository)


def test_a_monai_that_is_loaded_already_is_used(repository: Path) -> None:
    _run(ALL_OF_IT_FIRST, repository)
