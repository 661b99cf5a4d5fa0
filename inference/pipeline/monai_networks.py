"""MONAI's networks that a model may be, taken in one place so that all of us mean the same ones."""

from __future__ import annotations

from inference.pipeline.lean_import import only_what_is_asked

with only_what_is_asked():
    from monai.networks.blocks.convolutions import Convolution
    from monai.networks.nets.dynunet import DynUNet
    from monai.networks.nets.segresnet import SegResNet
    from monai.networks.nets.unet import UNet

__all__ = ["Convolution", "DynUNet", "SegResNet", "UNet"]
