"""Noise-and-denoise against its formula."""

import pytest
import torch
from nearly import same_images

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.diffusion.generators import NoiseAndDenoise
from synpos_lib.diffusion.sampling import sample
from synpos_lib.diffusion.unet import UNet, UNetConfig


def network() -> UNet:
    """A tiny random network that predicts v."""
    torch.manual_seed(0)
    config = UNetConfig(
        image_size=16, patch=2, channels=(8, 16), attention=(), layers=1, groups=4, prediction="v_prediction"
    )
    return UNet(config).eval().requires_grad_(False)


def naive(unet, x0, strength, steps, seed):
    """Noise to the first of the last `strength` share of the times, then deterministic DDIM on v to the end."""
    alpha_bar = (1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64)).cumprod(0)
    times = [round(1000 * (i + 1) / steps) - 1 for i in range(steps)][: round(strength * steps)]
    noise = torch.randn(x0.shape, generator=torch.Generator().manual_seed(seed))
    a = alpha_bar[times[-1]].float()
    x = a.sqrt() * x0 + (1 - a).sqrt() * noise
    for i in reversed(range(len(times))):
        a, before = alpha_bar[times[i]].float(), (alpha_bar[times[i - 1]].float() if i else torch.tensor(1.0))
        v = unet(x, torch.full((len(x),), times[i]))
        clean, eps = a.sqrt() * x - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * x
        x = before.sqrt() * clean + (1 - before).sqrt() * eps
    return x.clamp(-1, 1)


@pytest.mark.parametrize("strength", [0.3, 1.0])
def test_noise_and_denoise_is_its_formula(strength):
    unet, x0 = network(), torch.rand(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)) * 2 - 1
    made = sample(unet, start=x0, strength=strength, steps=10, eta=0.0, seed=4)
    assert torch.allclose(made, naive(unet, x0, strength, 10, runtime.derive(4, "sample")), atol=1e-4)


def test_the_less_noise_the_more_of_the_anchor_stays():
    anchors = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    apart = []
    for strength in (0.05, 0.5, 1.0):
        made = NoiseAndDenoise(network(), strength=strength).generate(anchors, 2, 0)
        assert made.shape == (4, 2, 3, 16, 16) and not same_images(made[:, 0], made[:, 1])
        apart.append((made.float() - anchors[:, None].float()).abs().mean())
    assert apart[0] < apart[1] < apart[2]


@pytest.mark.parametrize("strength", [-0.1, 0.0, 1.5])
def test_a_strength_that_means_nothing_is_refused(strength):
    with pytest.raises(Problem, match=f"strength must lie above 0 and be at most 1, not {strength}"):
        NoiseAndDenoise(network(), strength=strength).generate(torch.zeros(1, 3, 16, 16, dtype=torch.uint8), 1, 0)
