"""DiffuseMix: edit an image by a prompt, put a half of it back, blend in a fractal, and keep the label.

    I_hat = edit(I, prompt),   H = M I + (1 - M) I_hat,   A = (1 - lambda) H + lambda F,   label(A) = label(I)

Islam et al., CVPR 2024, https://arxiv.org/abs/2405.14881. Released code: https://github.com/khawar-islam/diffuseMix.
The edits come from a generator (`diffusion.edits`) and lie in a store, one candidate for each prompt; the other steps
are part of the training. Paper and code differ in the mask: `halves` is the paper's, `seam` the code's. Differs from
both in: an image is mixed with probability `share`, anew in every epoch (paper: one mixed image beside each original;
code: one for each prompt), and in which edits count as blank (`blank`).
"""

from collections.abc import Callable

import torch
from torch import Tensor

from synpos_lib.core.errors import Problem, suggest

PROMPTS = {  # a short name, which is also that of an embedded scene, and the words of the released README
    "autumn": "Autumn",
    "snowy": "snowy",
    "sunset": "sunset",
    "rainbow": "rainbow",
    "aurora": "aurora",
    "mosaic": "mosaic",
    "watercolor": "watercolor art",
    "ukiyo-e": "ukiyo-e",
    "crayon sketch": "a sketch with crayon",
}
SEAM = 20 / 256  # width of the released code's ramp, as a share of its images


def halves(n: int, height: int, width: int, draw: torch.Generator) -> Tensor:
    """The paper's masks, 1 where the original stays: the left, right, upper or lower half. (n, 1, height, width)"""
    x, y = torch.arange(width) < width / 2, torch.arange(height)[:, None] < height / 2
    masks = torch.stack([side.expand(height, width) for side in (x, ~x, y, ~y)]).float()
    return masks[torch.randint(4, (n,), generator=draw)][:, None]


def seam(n: int, height: int, width: int, draw: torch.Generator) -> Tensor:
    """The released code's masks: the edit is always on the right or below, behind a linear ramp. (n, 1, height, width)

    The ramp is 20 of its 256 pixels; here, the same share of any size, odd ones too.
    """

    def ramp(size: int) -> Tensor:
        length = max(SEAM * size - 1, 1e-6)  # from the first pixel of the ramp, 0, to its last, 1
        return (0.5 - (torch.arange(size) - (size - 1) / 2) / length).clamp(0, 1)

    masks = torch.stack([ramp(width).expand(height, width), ramp(height)[:, None].expand(height, width)])
    return masks[torch.randint(2, (n,), generator=draw)][:, None]


Masks = Callable[[int, int, int, torch.Generator], Tensor]
MASKS: dict[str, Masks] = {
    "halves": halves,
    "seam": seam,
    "nothing": lambda n, height, width, draw: torch.zeros(n, 1, height, width),  # edits only: the ablation
    "everything": lambda n, height, width, draw: torch.ones(n, 1, height, width),  # fractals only: the control
}


def concatenate(original: Tensor, edited: Tensor, mask: Tensor) -> Tensor:
    """H = M I + (1 - M) I_hat, truncated to whole grey levels as in the released code: uint8 (B, 3, H, W)."""
    return (mask * original + (1 - mask) * edited).to(torch.uint8)


def blend(hybrid: Tensor, fractal: Tensor, weight: float = 0.2) -> Tensor:
    """A = (1 - lambda) H + lambda F, truncated to whole grey levels: uint8 (B, 3, H, W)."""
    return ((1 - weight) * hybrid + weight * fractal).to(torch.uint8)


def blank(images: Tensor) -> Tensor:
    """Which images show nothing but one colour, whatever it is: nearly all pixels are nearly the same. (B,) bool

    The released code means to reject black images and rejects white ones: it looks at the wrong end of the histogram.
    """
    middle = images.float().flatten(2).median(2).values[:, :, None, None]
    alike = ((images - middle).abs() < 8).all(1)  # (B, H, W)
    return alike.float().mean((1, 2)) > 0.98


def stages(
    original: Tensor,
    edited: Tensor,
    fractals: Tensor,
    draw: torch.Generator,
    *,
    masks: Masks = halves,
    weight: float = 0.2,
) -> dict[str, Tensor]:
    """The image after each step, from the original to the blended one; a blank edit is replaced by its original."""
    edited = torch.where(blank(edited)[:, None, None, None], original, edited)
    n, _, height, width = original.shape
    hybrid = concatenate(original, edited, masks(n, height, width, draw))
    blended = blend(hybrid, fractals[torch.randint(len(fractals), (n,), generator=draw)], weight)
    return {"original": original, "edited": edited, "concatenated": hybrid, "blended": blended}


class DiffuseMix:
    """A source of training images: each as it is, or mixed.

    source(rows, draw) -> uint8 (B, 3, H, W) of these training images
    """

    def __init__(
        self,
        images: Tensor,  # (N, 3, H, W) uint8
        edited: Tensor,  # (N, K, 3, H, W) uint8, the store: one candidate for each of K prompts
        fractals: Tensor,  # (V, 3, H, W) uint8
        *,
        masks: str = "halves",  # of MASKS; the paper's. The released code's: seam
        weight: float = 0.2,  # of the fractal; the paper's and the code's
        share: float = 0.5,  # of mixed images: as in the paper's set, one mixed image beside each original
    ):
        if masks not in MASKS:
            raise Problem(f"unknown masks '{masks}' ({suggest(masks, MASKS)})")
        size = tuple(images.shape[2:])
        if len(edited) != len(images) or tuple(edited.shape[3:]) != size or tuple(fractals.shape[2:]) != size:
            raise Problem(
                f"{len(images)} images of {size[0]}×{size[1]} pixels need as many edits and fractals of that size, and "
                f"there are {len(edited)} edits of {edited.shape[3]}×{edited.shape[4]} and fractals of "
                f"{fractals.shape[2]}×{fractals.shape[3]} pixels: make them for these images"
            )
        self.images, self.edited, self.fractals = images, edited, fractals
        self.masks, self.weight, self.share = MASKS[masks], weight, share
        self.settings = {"masks": masks, "weight": weight, "share": share, "prompts": edited.shape[1]}

    def __call__(self, rows: Tensor, draw: torch.Generator) -> Tensor:
        original = self.images[rows]
        prompt = torch.randint(self.edited.shape[1], (len(rows),), generator=draw)
        edited = self.edited[rows, prompt]
        mixed = stages(original, edited, self.fractals, draw, masks=self.masks, weight=self.weight)["blended"]
        chosen = torch.rand(len(rows), generator=draw) < self.share
        return torch.where(chosen[:, None, None, None], mixed, original)
