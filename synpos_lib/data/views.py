"""Views: random crop, flip, colour jitter, greyscale, blur and solarisation of whole batches of uint8 images.

    parameters = draw(len(images), AUGMENTATIONS["clsp_simclr"], 32, 32, generator)  # other ones for every image
    x = apply(images, parameters, mean, std)                                         # (B, 3, H, W) uint8 -> float

or both at once with `view`. Parameters are drawn on the device of the images. On a GPU the processor's generator only
gives a seed, so that nothing waits for the GPU; its views are equally random, but differ from those of a processor.

Crop, flip and blur are products with one small matrix per image and axis, y = A_v x A_h^T, which resamples exactly
like torchvision's antialiased bilinear resize. Differs from torchvision on PIL images in: no rounding to 8 bits
between steps; the order of the four colour changes is drawn once per batch; blur is a true Gaussian.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.data.pixels import unit


@dataclass(frozen=True)
class Augmentation:
    """How strong each step is, and with which probability an image gets it."""

    crop: tuple[float, float] | None = (0.08, 1.0)  # share of the area
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.4, 0.4, 0.4, 0.1)  # brightness, contrast, saturation, hue
    jitter_p: float = 0.8
    gray: float = 0.2
    blur: float = 0.0  # sigma is uniform in 0.1 to 2 pixels
    solarize: float = 0.0


AUGMENTATIONS = {
    "plain": Augmentation(crop=None, flip=0.0, jitter_p=0.0, gray=0.0),
    "clsp_simclr": Augmentation(),  # the released code
    "clsp_moco": Augmentation(jitter=(0.4, 0.4, 0.2, 0.1), solarize=0.2),  # the released code
    "asymmetric_0": Augmentation(jitter=(0.4, 0.4, 0.2, 0.1)),  # solo-learn, as all below but the last three
    "asymmetric_1": Augmentation(jitter=(0.4, 0.4, 0.2, 0.1), solarize=0.2),
    "symmetric": Augmentation(jitter=(0.8, 0.8, 0.8, 0.2), blur=0.5),
    "vicreg": Augmentation(crop=(0.2, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), solarize=0.1),
    "weak": Augmentation(crop=(0.2, 1.0), jitter=(0.4, 0.4, 0.2, 0.1), jitter_p=0.4),  # AdaInf's released code
    "mixdiff_0": Augmentation(jitter=(0.4, 0.4, 0.2, 0.1), blur=1.0),  # MixDiff's released code
    "mixdiff_1": Augmentation(jitter=(0.4, 0.4, 0.2, 0.1), solarize=0.2),
}

NORMALIZATION = {  # mean and standard deviation per channel, as in the released code
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "cifar100": ((0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762)),
    "stl10": ((0.4914, 0.4823, 0.4466), (0.247, 0.243, 0.261)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "other": ((0.5, 0.5, 0.5), (0.25, 0.25, 0.25)),
}
LUMA = (0.2989, 0.587, 0.114)
CHUNK = 64  # images worked on at once on a processor, so that they stay in its cache


def by_name(name: str) -> Augmentation:
    """The augmentation of that name."""
    if name not in AUGMENTATIONS:
        raise Problem(f"unknown augmentation '{name}' ({suggest(name, AUGMENTATIONS)})")
    return AUGMENTATIONS[name]


def view(
    images: Tensor, augmentation: Augmentation, generator: torch.Generator, mean: Sequence[float], std: Sequence[float]
) -> Tensor:
    """One random view of every image: uint8 (B, 3, H, W) -> normalised float (B, 3, H, W), channels last."""
    height, width = images.shape[2:]
    return apply(images, draw(len(images), augmentation, height, width, generator, images.device), mean, std)


def normalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The images as they are, normalised: uint8 (B, 3, H, W) -> float."""
    offset, spread = (_constant(tuple(values), images.device)[:, None, None] for values in (mean, std))
    return ((unit(images) - offset) / spread).contiguous(memory_format=runtime.memory_format(images.device))


@cache
def _constant(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A few numbers on a device, copied once: a copy for every batch would make the processor wait for its GPU."""
    return torch.tensor(values, device=device)


# -------------------------------------------------------------------------------------- parameters


@dataclass
class Parameters:
    """The parameters of one view of a batch."""

    box: Tensor | None  # (B, 4): top, left, height, width of the crop in pixels; None: no image is cropped
    flip: Tensor  # (B,) bool
    factors: Tensor  # (4, B): brightness, contrast and saturation factors, hue shift
    order: list[int]  # of the four colour changes
    gray: Tensor | None  # (B,) bool; None, here and below: no image is changed
    sigma: Tensor | None  # (B,), 0: not blurred
    solarize: Tensor | None  # (B,) bool

    def part(self, rows: slice) -> "Parameters":
        """The parameters of some of the images."""
        each = {name: getattr(self, name) for name in ("box", "flip", "gray", "sigma", "solarize")}
        each = {name: value if value is None else value[rows] for name, value in each.items()}
        return Parameters(factors=self.factors[:, rows], order=self.order, **each)


def draw(
    n: int,
    augmentation: Augmentation,
    height: int,
    width: int,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
) -> Parameters:
    """Draw the parameters of one view for each of n images, on the device where the images are."""
    device, rng = torch.device(device), generator
    if device.type != "cpu":
        rng = runtime.generator(int(torch.randint(2**62, (), generator=generator)), where=device)
    u = torch.rand(9, n, generator=rng, device=device)
    *factors, hue = augmentation.jitter
    still, strength, low = (
        _constant(values, device)[:, None]
        for values in ((1.0, 1.0, 1.0, 0.0), augmentation.jitter, (*(1 - min(x, 1) for x in factors), -hue))
    )
    order = torch.randperm(4, generator=generator).tolist()
    box = _boxes(n, augmentation.crop, height, width, rng, device) if augmentation.crop else None
    sigma = 0.1 + 1.9 * torch.rand(n, generator=rng, device=device)
    return Parameters(
        box=box,
        flip=u[4] < augmentation.flip,
        factors=torch.where(u[5] < augmentation.jitter_p, low + (still + strength - low) * u[:4], still),
        order=[step for step in order if augmentation.jitter[step] > 0 and augmentation.jitter_p > 0],
        gray=u[6] < augmentation.gray if augmentation.gray else None,
        sigma=torch.where(u[7] < augmentation.blur, sigma, 0.0) if augmentation.blur else None,
        solarize=u[8] < augmentation.solarize if augmentation.solarize else None,
    )


def _boxes(
    n: int, scale: tuple[float, float], height: int, width: int, rng: torch.Generator, device: torch.device
) -> Tensor:
    """Crops by torchvision's rule: ten tries at an area and an aspect ratio, else the whole image: (n, 4)."""
    area, log_ratio, y, x = torch.rand(4, n, 10, generator=rng, device=device)
    area = height * width * (scale[0] + (scale[1] - scale[0]) * area)
    ratio = torch.exp((2 * log_ratio - 1) * math.log(4 / 3))
    w, h = (area * ratio).sqrt().round(), (area / ratio).sqrt().round()
    fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
    top, left = (y * (height - h + 1)).floor(), (x * (width - w + 1)).floor()
    boxes = torch.stack([top, left, h, w], dim=2).long()  # (n, 10, 4)
    first = fits.long().argmax(1)
    whole = _constant((0, 0, height, width), device)
    return torch.where(fits.any(1)[:, None], boxes[torch.arange(n, device=device), first], whole)


# --------------------------------------------------------------------------------------- changes


def apply(images: Tensor, parameters: Parameters, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """The view with these parameters of every image: uint8 (B, 3, H, W) -> normalised float, channels last."""
    size = CHUNK if images.device.type == "cpu" else len(images)
    out = torch.empty(images.shape, device=images.device, memory_format=runtime.memory_format(images.device))
    offset, spread = (_constant(tuple(values), images.device)[:, None, None] for values in (mean, std))
    for start in range(0, len(images), size):
        rows = slice(start, start + size)
        out[rows] = _apply(images[rows], parameters.part(rows)).sub_(offset).div_(spread)
    return out


def _apply(images: Tensor, parameters: Parameters) -> Tensor:
    x = _crop(images, parameters.box, parameters.flip)
    x = _jitter(x, parameters.factors, parameters.order)
    if parameters.gray is not None:
        x = _change(x, parameters.gray, lambda part, _: luma(part).expand_as(part))
    if (sigma := parameters.sigma) is not None:
        x = _change(x, sigma > 0, lambda part, chosen: blur(part, sigma[chosen]))
    if parameters.solarize is not None:
        x = _change(x, parameters.solarize, lambda part, _: torch.where(part >= 128 / 255, 1 - part, part))
    return x


def _change(x: Tensor, chosen: Tensor, change: Callable[[Tensor, Tensor | slice], Tensor]) -> Tensor:
    """Change the chosen images: only these on a processor; all on a GPU, so that nothing waits for their number."""
    if x.device.type != "cpu":
        return torch.where(chosen[:, None, None, None], change(x, slice(None)), x)
    index = chosen.nonzero().squeeze(1)
    if len(index):
        x[index] = change(x[index], index)
    return x


def _crop(images: Tensor, box: Tensor | None, flip: Tensor) -> Tensor:
    """Crop, resize back and flip: uint8 -> float in [0, 1]."""
    height, width = images.shape[2:]
    x = unit(images)
    if box is None:
        return torch.where(flip[:, None, None, None], x.flip(3), x)
    vertical = resampling(box[:, 0], box[:, 2], height)  # (B, H, H)
    horizontal = resampling(box[:, 1], box[:, 3], width)  # (B, W, W)
    horizontal = torch.where(flip[:, None, None], horizontal.flip(1), horizontal)
    return vertical[:, None] @ (x @ horizontal.mT[:, None])


def resampling(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Matrices that resize the pixels [start, start + length) of `size` to all `size`: (B,) -> (B, size, size)."""
    ratio = length.float() / size
    pixel = torch.arange(size, device=start.device) + 0.5
    centre = start[:, None] + ratio[:, None] * pixel  # (B, size), in the pixels of the source
    reach = ratio.clamp_min(1)[:, None, None]
    weight = (1 - (pixel - centre[:, :, None]).abs() / reach).clamp_min(0)  # (B, out, in)
    inside = (pixel > start[:, None]) & (pixel < (start + length)[:, None])
    weight = weight * inside[:, None]
    return weight / weight.sum(2, keepdim=True)


def _jitter(x: Tensor, factors: Tensor, order: list[int]) -> Tensor:
    factors = factors[:, :, None, None, None]
    for step in order:
        x = (brightness, contrast, saturation, hue)[step](x, factors[step])
    return x


def luma(x: Tensor) -> Tensor:
    """Greyscale: (B, 3, H, W) -> (B, 1, H, W)."""
    red, green, blue = x.unbind(1)
    return (LUMA[0] * red).add_(green, alpha=LUMA[1]).add_(blue, alpha=LUMA[2])[:, None]


def brightness(x: Tensor, factor: Tensor) -> Tensor:
    return (x * factor).clamp_(0, 1)


def contrast(x: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(luma(x).mean((2, 3), keepdim=True), x, factor).clamp_(0, 1)


def saturation(x: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(luma(x), x, factor).clamp_(0, 1)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Turn the hue by `shift` (1 is full circle), with value V and chroma C as they are.

    channel = V - C clamp(d, 0, 1),   d = 2 - |h - 3|, |h - 2| - 1, |h - 4| - 1 for red, green, blue,   h = 6 H mod 6
    """
    red, green, blue = x.unbind(1)
    top, bottom = x.amax(1), x.amin(1)
    chroma = top - bottom
    scale = chroma.clamp_min(1e-12).reciprocal_()
    six = torch.where(
        top == red,
        (green - blue) * scale,
        torch.where(top == green, (blue - red) * scale + 2, (red - green) * scale + 4),
    )
    six.add_(6 * shift[:, 0])
    six.sub_((six / 6).floor_(), alpha=6)  # as remainder_(6), which takes four times as long
    out = torch.empty_like(x)
    for channel, (centre, sign, offset) in enumerate(((3, -1, 2), (2, 1, -1), (4, 1, -1))):
        wave = (six - centre).abs_().mul_(sign).add_(offset).clamp_(0, 1)
        torch.addcmul(top, chroma, wave, value=-1, out=out[:, channel])
    return out


def blur(x: Tensor, sigma: Tensor) -> Tensor:
    """Gaussian blur with each image's own sigma in pixels, (B,); weights that fall outside are left out."""
    sigma = sigma[:, None, None]
    matrices = []
    for size in x.shape[2:]:
        pixel = torch.arange(size, device=x.device)
        weight = torch.exp(-((pixel[:, None] - pixel) ** 2) / (2 * sigma**2))  # (B, size, size)
        matrices.append((weight / weight.sum(2, keepdim=True))[:, None])
    return matrices[0] @ x @ matrices[1].mT
