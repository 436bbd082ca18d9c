"""Encoders: images (B, 3, H, W) to features (B, width); each function returns the network and its width.

    encoder, width = by_name("resnet18")

`resnet18`, `resnet50` have the stem for 32×32 images (3×3, stride 1, padding 1, no pooling: maps stay 32×32), and so
has `preactresnet18`, which the mixing papers train on CIFAR; `resnet18-imagenet`, `resnet50-imagenet` keep the
original stem; `small` is for the embedded data on a processor, `tiny` for a hundred trainings of it.
"""

import torch.nn.functional as F
from torch import Tensor, nn

from synpos_lib.core.errors import Problem, suggest


class Block(nn.Module):
    """Two 3×3 convolutions around a shortcut, which is a 1×1 convolution where the shape changes."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or inside != outside:
            self.shortcut = nn.Sequential(nn.Conv2d(inside, outside, 1, stride, bias=False), nn.BatchNorm2d(outside))

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


def small_encoder(widths: tuple[int, int, int] = (32, 64, 128)) -> tuple[nn.Module, int]:
    """A residual network of six convolutions on 2×2 pixel blocks: 32×32 pixels become 16×16, 8×8 and 4×4 maps."""
    first, second, third = widths
    encoder = nn.Sequential(
        nn.PixelUnshuffle(2),  # (B, 12, H/2, W/2): nothing is lost, and a quarter of the positions is left
        nn.Conv2d(12, first, 3, 1, 1, bias=False),
        nn.BatchNorm2d(first),
        nn.ReLU(),
        Block(first, first, 1),
        Block(first, second, 2),
        Block(second, third, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    return encoder, third


class PreActBlock(nn.Module):
    """Normalise, activate, convolve, twice, around a shortcut that starts after the first activation."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inside)
        self.conv1 = nn.Conv2d(inside, outside, 3, stride, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outside)
        self.conv2 = nn.Conv2d(outside, outside, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride > 1 or inside != outside:
            self.shortcut = nn.Conv2d(inside, outside, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.norm1(x))
        x = x if self.shortcut is None else self.shortcut(y)
        return x + self.conv2(F.relu(self.norm2(self.conv1(y))))


def preactresnet18() -> tuple[nn.Module, int]:
    """ResNet-18 with activation before convolution, without a last normalisation, as in the mixing papers' code.

    He et al. 2016, https://arxiv.org/abs/1603.05027
    """
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 3, 1, 1, bias=False)]
    inside = 64
    for outside, stride in ((64, 1), (128, 2), (256, 2), (512, 2)):
        layers.append(nn.Sequential(PreActBlock(inside, outside, stride), PreActBlock(outside, outside, 1)))
        inside = outside
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten()), inside


def resnet(depth: int, stem: str = "cifar") -> tuple[nn.Module, int]:
    """torchvision's ResNet without its classifier, with the stem for 32×32 images ("cifar") or its own ("imagenet")."""
    from torchvision import models

    encoder = models.get_model(f"resnet{depth}", weights=None)
    width = encoder.fc.in_features
    encoder.fc = nn.Identity()
    if stem == "cifar":
        encoder.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        nn.init.kaiming_normal_(encoder.conv1.weight, mode="fan_out", nonlinearity="relu")
        encoder.maxpool = nn.Identity()
    return encoder, width


def vit_small(image: int = 32, patch: int = 4) -> tuple[nn.Module, int]:
    """torchvision's Vision Transformer in the small size of DINO: 12 blocks of width 384; features = class token.

    4-pixel patches for 32×32 images, 16 for 224×224.
    """
    from torchvision.models import VisionTransformer

    encoder = VisionTransformer(image, patch, num_layers=12, num_heads=6, hidden_dim=384, mlp_dim=1536)
    encoder.heads = nn.Identity()
    return encoder, 384


ENCODERS = {
    "tiny": lambda: small_encoder((16, 32, 64)),
    "small": small_encoder,
    "resnet18": lambda: resnet(18),
    "resnet50": lambda: resnet(50),
    "preactresnet18": preactresnet18,
    "resnet18-imagenet": lambda: resnet(18, "imagenet"),
    "resnet50-imagenet": lambda: resnet(50, "imagenet"),
    "vit-small": vit_small,
    "vit-small-224": lambda: vit_small(224, 16),
}


def by_name(name: str) -> tuple[nn.Module, int]:
    """The encoder of that name, and its width."""
    if name not in ENCODERS:
        raise Problem(f"unknown encoder '{name}' ({suggest(name, ENCODERS)})")
    return ENCODERS[name]()


def stages(encoder: nn.Module) -> list[nn.Module]:
    """The parts after which hidden features may be mixed: the residual stages, from fine to coarse maps."""
    parts = dict(encoder.named_children())
    if "layer1" in parts:  # torchvision's
        return [parts[f"layer{i}"] for i in (1, 2, 3, 4)]
    stages: list[nn.Module] = [part for part in parts.values() if isinstance(part, Block | nn.Sequential)]
    if not stages:
        raise Problem(f"a {type(encoder).__name__} has no residual stages, so its hidden features can't be mixed")
    return stages
