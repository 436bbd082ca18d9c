"""Each stage of DiffuseMix against a transcription of the released code, and where that is at fault."""

import numpy as np
import pytest
import torch
from PIL import Image

from synpos_lib.core.errors import Problem
from synpos_lib.data import scenes
from synpos_lib.mixing import diffusemix
from synpos_lib.mixing.diffusemix import DiffuseMix


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, height=12, width=12, seed=0):
    return torch.randint(0, 256, (n, 3, height, width), dtype=torch.uint8, generator=generator(seed))


# ---------------------------------------------------------------------------------------------- masks


def test_halves_are_four_and_each_is_exactly_half():
    masks = diffusemix.halves(200, 8, 8, generator())
    assert masks.shape == (200, 1, 8, 8) and set(masks.unique().tolist()) == {0.0, 1.0}
    different = torch.unique(masks, dim=0)
    assert len(different) == 4 and torch.equal(different.mean((1, 2, 3)), torch.full((4,), 0.5))
    assert torch.equal(different.sum(0), torch.full((1, 8, 8), 2.0)), "left and right, upper and lower"


def released_mask(size):
    """The mask of the edit along one axis, as the released code builds it for its 256 pixels."""
    return np.concatenate([np.zeros(size // 2 - 10), np.linspace(0, 1, 20), np.ones(size // 2 - 10)])


def test_the_seam_is_the_released_ramp_and_always_right_or_below():
    masks = diffusemix.seam(50, 256, 256, generator())
    right = 1 - torch.from_numpy(released_mask(256)).float().expand(256, 256)
    found = {"right": 0, "below": 0}
    for mask in masks:
        found["right"] += int(torch.allclose(mask[0], right, atol=1e-5))
        found["below"] += int(torch.allclose(mask[0], right.T, atol=1e-5))
    assert found["right"] + found["below"] == 50 and min(found.values()) > 10


@pytest.mark.parametrize(("height", "width"), [(32, 32), (31, 45), (7, 8), (5, 5)])
def test_every_mask_fits_every_size(height, width):
    for name, make in diffusemix.MASKS.items():
        masks = make(20, height, width, generator())
        assert masks.shape == (20, 1, height, width), name
        assert masks.min() >= 0 and masks.max() <= 1
    seam = diffusemix.seam(20, height, width, generator())
    assert torch.allclose(seam + seam.flip(2, 3), torch.ones_like(seam), atol=1e-5), "the middle is in the middle"


# --------------------------------------------------------------------------- concatenating and blending


def test_concatenate_and_blend_are_the_released_arithmetic():
    original, edited, fractal = pictures(6), pictures(6, seed=1), pictures(6, seed=2)
    mask = diffusemix.seam(6, 12, 12, generator())
    hybrid = diffusemix.concatenate(original, edited, mask)
    blended = diffusemix.blend(hybrid, fractal)
    for i in range(6):
        m = mask[i].numpy()
        expected = (original[i].numpy() * m + edited[i].numpy() * (1 - m)).astype(np.uint8)
        assert (np.abs(hybrid[i].numpy().astype(int) - expected) <= 1).all()  # 99.99999 and 100 are truncated apart
        float_mix = (1 - 0.2) * hybrid[i].numpy().astype(np.float32) + 0.2 * fractal[i].numpy().astype(np.float32)
        expected = np.clip(float_mix, 0, 255).astype(np.uint8)
        assert (np.abs(blended[i].numpy().astype(int) - expected) <= 1).all()


def test_hard_halves_copy_pixels():
    original, edited = pictures(30), pictures(30, seed=1)
    mask = diffusemix.halves(30, 12, 12, generator())
    hybrid = diffusemix.concatenate(original, edited, mask)
    assert torch.equal(hybrid, torch.where(mask.bool(), original, edited))


# ------------------------------------------------------------------------------------------ blank images


def released_is_black(image):
    """The released rule: its last bin is white, its others are all but white."""
    histogram = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L").histogram()
    pixels = image[0].numel()
    return histogram[-1] > 0.9 * pixels and max(histogram[:-1]) < 0.1 * pixels


def test_the_released_filter_rejects_white_images_and_lets_black_ones_pass():
    black, white = torch.zeros(3, 32, 32).byte(), torch.full((3, 32, 32), 255).byte()
    grey = torch.full((3, 32, 32), 128).byte()
    fish = scenes.render(200, "val").images
    assert released_is_black(white) and not released_is_black(black) and not released_is_black(grey)
    assert diffusemix.blank(torch.stack([black, white, grey])).tolist() == [True, True, True]
    assert not diffusemix.blank(fish).any()


def test_a_blank_image_with_a_little_noise_is_still_blank():
    image = torch.zeros(2, 3, 32, 32)
    image += 3 * torch.rand(2, 3, 32, 32, generator=generator())
    image[:, :, 0, :5] = 255
    image[1, :, 10:20, 10:20] = 200  # this one shows something
    assert diffusemix.blank(image.byte()).tolist() == [True, False]


# --------------------------------------------------------------------------------------------- the source


@pytest.fixture
def stores():
    images = pictures(40)
    edited = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 3, 12, 12), dtype=np.uint8))
    return images, edited, pictures(5, seed=9)


def test_every_image_meets_its_own_edits(stores):
    images, edited, fractals = stores
    source = DiffuseMix(images, edited, fractals, masks="nothing", weight=0.0, share=1.0)
    rows = torch.randperm(40, generator=generator())[:20]
    made = source(rows, generator(3))
    for image, row in zip(made, rows, strict=True):
        assert any((image == edit).all() for edit in edited[row])


def test_the_share_of_mixed_images_and_what_they_are_made_of(stores):
    images, edited, fractals = stores
    source = DiffuseMix(images, edited, fractals, share=0.5)
    rows = torch.arange(40)
    mixed = sum((source(rows, generator(seed)) != images).flatten(1).any(1).sum().item() for seed in range(20))
    assert 0.4 < mixed / 800 < 0.6
    always = DiffuseMix(images, edited, fractals, share=1.0)
    changed = (source(rows, generator(1)) != images).flatten(1).any(1)
    assert torch.equal(source(rows, generator(1))[changed], always(rows, generator(1))[changed])
    plain = DiffuseMix(images, edited, fractals, masks="everything", weight=0.0, share=1.0)
    assert torch.equal(plain(rows, generator()), images)


def test_stages_lead_from_one_to_the_next(stores):
    images, edited, fractals = stores
    made = diffusemix.stages(images, edited[:, 0], fractals, generator(2))
    draw = generator(2)
    mask = diffusemix.halves(40, 12, 12, draw)
    fractal = fractals[torch.randint(5, (40,), generator=draw)]
    assert list(made) == ["original", "edited", "concatenated", "blended"]
    assert torch.equal(made["edited"], edited[:, 0])
    assert torch.equal(made["concatenated"], torch.where(mask.bool(), images, made["edited"]))
    expected = (0.8 * made["concatenated"].double() + 0.2 * fractal.double()).floor()
    assert ((made["blended"] - expected).abs() <= 1).all()


def test_a_blank_edit_is_replaced_by_the_original(stores):
    images, edited, fractals = stores
    edited[:] = 0
    source = DiffuseMix(images, edited, fractals, masks="nothing", weight=0.0, share=1.0)
    assert torch.equal(source(torch.arange(40), generator()), images)


def test_what_does_not_fit_gets_one_clear_sentence(stores):
    images, edited, fractals = stores
    with pytest.raises(Problem, match="did you mean 'halves'"):
        DiffuseMix(images, edited, fractals, masks="halfs")
    with pytest.raises(Problem, match="40 images of 12×12 pixels need as many edits"):
        DiffuseMix(images, edited[:30], fractals)
    with pytest.raises(Problem, match="fractals of 8×8"):
        DiffuseMix(images, edited, fractals[:, :, :8, :8])


def test_the_prompts_are_the_scenes_of_the_embedded_data():
    assert tuple(diffusemix.PROMPTS) == scenes.SCENES
