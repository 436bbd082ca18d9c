"""Blurred positives against SciPy's Gaussian and against the noise that was asked for."""

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d

from synpos_lib.data.blurred import Blurred

IMAGES = torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_without_noise_it_is_a_gaussian_of_the_anchor():
    made = Blurred(sigma=1.5, noise=0.0).generate(IMAGES, 2, 0)
    x, one = IMAGES.numpy().astype(float), np.ones(32)
    for axis in (2, 3):  # weights that fall outside are left out
        inside = gaussian_filter1d(one, 1.5, mode="constant", truncate=30)
        shape = [1, 1, 1, 1]
        shape[axis] = 32
        x = gaussian_filter1d(x, 1.5, axis=axis, mode="constant", truncate=30) / inside.reshape(shape)
    assert made.shape == (3, 2, 3, 32, 32)
    assert np.abs(made[:, 0].numpy() - x).max() <= 1 and torch.equal(made[:, 0], made[:, 1])


def test_candidates_differ_by_their_noise_which_is_as_strong_as_asked():
    grey = torch.full((4, 3, 32, 32), 128, dtype=torch.uint8)
    made = Blurred(noise=0.1).generate(grey, 2, 0)
    assert not torch.equal(made[:, 0], made[:, 1]) and torch.equal(made, Blurred(noise=0.1).generate(grey, 2, 0))
    assert abs((made.float() / 255).std().item() - 0.1) < 0.005
