"""A U-Net that is small enough to play with."""

import pytest
import torch

from synpos_lib.diffusion.unet import UNet, UNetConfig


@pytest.fixture
def small_unet():
    torch.manual_seed(0)
    config = UNetConfig(
        patch=2, channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4, dropout=0.0
    )
    return UNet(config).eval().requires_grad_(False)
