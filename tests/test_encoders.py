"""Stems keep the maps they should, and every encoder says how wide its features are."""

import pytest
import torch

from synpos_lib import encoders
from synpos_lib.errors import Problem


@pytest.mark.parametrize("name", ["small", "resnet18", "resnet18-imagenet", "vit-small"])
def test_width(name):
    encoder, width = encoders.by_name(name)
    assert encoder.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, width)


def test_the_cifar_stem_keeps_32_by_32_maps():
    encoder, _ = encoders.by_name("resnet18")
    seen = []
    encoder.layer1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    encoder.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 64, 32, 32)]


def test_unknown_encoder():
    with pytest.raises(Problem, match="did you mean 'resnet18'"):
        encoders.by_name("resnet81")
