"""Pixels survive the way to float and back; what lies between is rounded or truncated."""

import numpy as np
import torch

from synpos_lib.data import pixels

EVERY = torch.arange(256, dtype=torch.uint8)


def test_every_pixel_comes_back_from_the_unit_interval():
    x = pixels.unit(EVERY)
    assert x[0] == 0 and x[-1] == 1 and torch.equal(pixels.quantize(x), EVERY)
    between = torch.tensor([-0.2, 10.4 / 255, 10.6 / 255, 1.3])
    assert pixels.quantize(between).tolist() == [0, 10, 11, 255]


def test_samples_are_truncated():
    x = pixels.scale(EVERY)
    assert x[0] == -1 and x[-1] == 1
    assert torch.equal(pixels.truncate(x + 0.4 / 127.5 * (x < 1)), EVERY)
    assert pixels.truncate(torch.tensor([-1.0, 10.9 / 127.5 - 1, 1.0])).tolist() == [0, 10, 255]


def test_tiles_stand_in_rows_with_white_between_them():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 3, 2, 2)
    sheet = pixels.tile(images, columns=3)
    assert sheet.shape == (5, 8, 3) and (sheet[2] == 255).all() and (sheet[:, [2, 5]] == 255).all()
    assert np.unique(sheet[3:, :5]).tolist() == [3, 4, 255]
