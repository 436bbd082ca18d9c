"""Pixels: from uint8 to float and back, and many images laid out as one picture."""

import numpy as np
import torch
from torch import Tensor


def scale(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float [-1, 1]."""
    return images.float() / 127.5 - 1


def truncate(x: Tensor) -> Tensor:
    """Float [-1, 1] to uint8, truncated as in CLSP's released code."""
    return ((x * 0.5 + 0.5) * 255).to(torch.uint8)


def unit(images: Tensor) -> Tensor:
    """uint8 [0, 255] to float [0, 1]."""
    return images.float() / 255


def quantize(x: Tensor) -> Tensor:
    """Float [0, 1] to uint8, rounded; what lies outside is clamped."""
    return (x.clamp(0, 1) * 255).round().to(torch.uint8)


def tile(images: Tensor | np.ndarray, columns: int, gap: int = 1) -> np.ndarray:
    """Lay uint8 images (N, 3, H, W) out as one picture with `columns` a row and thin white gaps."""
    pixels = np.asarray(images).transpose(0, 2, 3, 1)  # (N, H, W, 3)
    n, height, width, _ = pixels.shape
    rows = -(-n // columns)
    sheet = np.full((rows * (height + gap) - gap, columns * (width + gap) - gap, 3), 255, np.uint8)
    for i, image in enumerate(pixels):
        y, x = i // columns * (height + gap), i % columns * (width + gap)
        sheet[y : y + height, x : x + width] = image
    return sheet
