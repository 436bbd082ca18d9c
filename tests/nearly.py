"""What is the same where processors may round differently.

The same bits are promised for the same call, for what is resumed, copied or stored, and for whole numbers. No float
kernel promises them for batches of another size, order or layout: compare those with these functions, in
`full_precision` (conftest.py) where a network lies between.
"""

import torch


def same_images(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether 8-bit images are nowhere more than one grey level apart, as on either side of a truncation."""
    return a.shape == b.shape and bool(((a.int() - b.int()).abs() <= 1).all())


def same_numbers(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether float32 numbers agree to four digits, or to 1e-5 where they are nearly 0."""
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def same_shares(a: float, b: float, n: int) -> bool:
    """Whether shares of n images differ by one image at most, as where one is a close call."""
    return round(abs(a - b) * n) <= 1
