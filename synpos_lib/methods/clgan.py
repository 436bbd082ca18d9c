"""CL-GAN: two generators make positive pairs that are hard for the encoder, while a critic keeps them realistic.

    min_encoder max_generators  NT-Xent(real and generated pairs),     generated pair = (G0(n), G1(n)),  n ~ N(0, I)
    + hinge GAN:  critic  mean max(0, 1 - D(x)) + mean max(0, 1 + D(G(n))),   generators  -mean D(G(n))
    + (1 - progress) |G0(n) - G1(n)|^2,   which lets the pair drift apart slowly

https://arxiv.org/abs/2202.06464

Differs from the reference in: no code was released, so these are our choices: networks small enough for a
processor; one backward pass (the generators receive the contrastive gradient reversed, the critic is held
fixed where the generators are judged); the GAN trains alone for the first tenth instead of being
pre-trained; half as many generated pairs as real ones; generated images are not augmented and the critic sees the
augmented views.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.utils.parametrizations import spectral_norm

from synpos_lib.core.errors import Problem
from synpos_lib.methods.parts import Loss, Progress, processes
from synpos_lib.methods.simclr import SimCLR, nt_xent


class Reverse(torch.autograd.Function):
    """The identity with a reversed gradient: what one side lowers, the other raises."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: float) -> Tensor:
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return -ctx.weight * grad, None


def generator(size: int, noise: int, channels: int) -> nn.Module:
    start = size // 8
    layers: list[nn.Module] = [nn.Linear(noise, 4 * channels * start**2), nn.Unflatten(1, (4 * channels, start, start))]
    for inside, outside in ((4, 2), (2, 1), (1, 1)):
        layers += [nn.Upsample(scale_factor=2), nn.Conv2d(inside * channels, outside * channels, 3, padding=1)]
        layers += [nn.BatchNorm2d(outside * channels), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1), nn.Tanh())


def critic(size: int, channels: int) -> nn.Module:
    layers: list[nn.Module] = []
    for inside, outside in ((3, channels), (channels, 2 * channels), (2 * channels, 4 * channels)):
        layers += [spectral_norm(nn.Conv2d(inside, outside, 4, stride=2, padding=1)), nn.LeakyReLU(0.1)]
    return nn.Sequential(*layers, nn.Flatten(), spectral_norm(nn.Linear(4 * channels * (size // 8) ** 2, 1)))


class CLGAN(SimCLR):
    def __init__(
        self,
        encoder: nn.Module,
        width: int,
        *,
        size: int = 32,  # pixels, a multiple of 8
        noise: int = 64,
        channels: int = 32,  # of the widest maps; generators and critic have up to four times as many
        hardness: float = 0.1,  # weight of the reversed contrastive gradient
        alone: float = 0.1,  # share of the training in which the GAN trains by itself
        amplitude: float = 2.5,  # range of the generated images, in the units of normalised images
        hidden: int = 4096,
        out: int = 256,
        temperature: float = 0.2,
    ):
        if size % 8:
            raise Problem(f"CL-GAN generates images whose side is a multiple of 8 pixels, not {size}")
        super().__init__(encoder, width, hidden=hidden, out=out, temperature=temperature)
        self.generator0, self.generator1 = generator(size, noise, channels), generator(size, noise, channels)
        self.generator1.load_state_dict(self.generator0.state_dict())  # the pair starts alike
        self.critic = critic(size, channels)
        self.noise, self.hardness, self.alone, self.amplitude = noise, hardness, alone, amplitude
        self.progress = Progress()

    def loss(self, views: list[Tensor], positive: Tensor | None = None) -> Loss:
        pairs = max(len(views[0]) // 2, 2) * processes()
        n = torch.randn(pairs, self.noise, device=views[0].device)  # all processes draw alike
        if processes() > 1:
            n = n.chunk(processes())[torch.distributed.get_rank()]
        fakes = [self.amplitude * g(n).float() for g in (self.generator0, self.generator1)]  # 2 x (B/2, 3, H, W)
        gan, parts = self.adversarial(views, fakes)
        if self.progress.share < self.alone:
            z0, z1 = self.embed(*views)
        else:
            hard = [Reverse.apply(x, self.hardness) for x in fakes]
            z0, z1 = self.embed(*(torch.cat(pair) for pair in zip(views, hard, strict=True)))
        contrast = nt_xent(z0, z1, temperature=self.temperature)
        return contrast + gan, {"nt_xent": contrast.detach(), **parts}

    def adversarial(self, views: list[Tensor], fakes: list[Tensor]) -> Loss:
        """The critic's and the generators' hinge losses, and the tie between the two generators."""
        fake = torch.cat(fakes)
        scores = self.critic(torch.cat([views[0], fake.detach()])).float()
        real, false = scores.split([len(views[0]), len(fake)])
        critic_loss = F.relu(1 - real).mean() + F.relu(1 + false).mean()
        weights = {name: p.detach() for name, p in self.critic.named_parameters()}
        generator_loss = -functional_call(self.critic, weights, fake).float().mean()
        tie = (1 - self.progress.share) * F.mse_loss(fakes[0], fakes[1])
        parts = {"critic": critic_loss.detach(), "generator": generator_loss.detach(), "tie": tie.detach()}
        return critic_loss + generator_loss + tie, parts
