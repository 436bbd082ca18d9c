"""Stems keep the maps they should, and every encoder says how wide its features are."""

import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.train import encoders


@pytest.mark.parametrize("name", ["tiny", "small", "resnet18", "preactresnet18", "resnet18-imagenet", "vit-small"])
def test_width(name):
    encoder, width = encoders.by_name(name)
    assert encoder.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, width)


def test_the_cifar_stem_keeps_32_by_32_maps():
    encoder, _ = encoders.by_name("resnet18")
    seen = []
    encoder.layer1.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].shape))
    encoder.eval()(torch.zeros(1, 3, 32, 32))
    assert seen == [(1, 64, 32, 32)]


def test_preactresnet18_is_the_network_of_the_mixing_papers():
    """The weights per part that follow from the paper's table, 11.17 million in all with a layer for CIFAR-10."""
    encoder, width = encoders.preactresnet18()
    first = 3 * 64 * 9
    stages = 0
    for inside, outside in ((64, 64), (64, 128), (128, 256), (256, 512)):
        stages += (
            2 * inside + inside * outside * 9 + 2 * outside + outside**2 * 9
        )  # first block: norm, conv, norm, conv
        stages += 4 * outside + 2 * outside**2 * 9 + (inside * outside if inside != outside else 0)
    assert sum(p.numel() for p in encoder.parameters()) == first + stages and width == 512
    seen = []
    for stage in encoders.stages(encoder):
        stage.register_forward_hook(lambda module, inputs, h: seen.append(tuple(h.shape[1:])))
    encoder(torch.zeros(2, 3, 32, 32))
    assert seen == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]


@pytest.mark.parametrize("name", ["tiny", "small", "resnet18", "preactresnet18", "resnet18-imagenet"])
def test_stages_get_coarser(name):
    encoder, _ = encoders.by_name(name)
    sizes = []
    for stage in encoders.stages(encoder):
        stage.register_forward_hook(lambda module, inputs, h: sizes.append(h.shape[2]))
    encoder.eval()(torch.zeros(1, 3, 32, 32))
    assert len(sizes) >= 3 and sizes == sorted(sizes, reverse=True)


def test_a_network_without_stages_is_named():
    with pytest.raises(Problem, match="Linear has no residual stages"):
        encoders.stages(torch.nn.Linear(2, 2))


def test_unknown_encoder():
    with pytest.raises(Problem, match="did you mean 'resnet18'"):
        encoders.by_name("resnet81")
