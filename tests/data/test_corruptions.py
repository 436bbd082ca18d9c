"""Corruptions: against naive formulas per pixel, deterministic, and worse with every severity."""

import numpy as np
import pytest
import torch
from nearly import same_images

from synpos_lib.core.errors import Problem
from synpos_lib.data import scenes
from synpos_lib.data.corruptions import CORRUPTIONS, corrupt

IMAGES = scenes.render(64, seed=3).images
NOISES = ("gaussian_noise", "shot_noise", "impulse_noise")


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_damage_grows_with_severity(name):
    damage = [(corrupt(IMAGES, name, s).float() - IMAGES.float()).square().mean().item() for s in range(1, 6)]
    assert damage == sorted(damage) and damage[0] < damage[-1]
    if name != "defocus_blur":  # whose first severity is almost no blur
        assert damage[0] > 1


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_same_seed_same_images_and_the_input_is_untouched(name):
    before = IMAGES.clone()
    first, again = corrupt(IMAGES, name, 3, seed=1), corrupt(IMAGES, name, 3, seed=1)
    assert first.dtype == torch.uint8 and first.shape == IMAGES.shape
    assert torch.equal(first, again) and torch.equal(IMAGES, before)
    random = name in (*NOISES, "motion_blur", "fog")
    assert torch.equal(first, corrupt(IMAGES, name, 3, seed=2)) != random


def test_the_global_random_state_is_left_alone():
    before = torch.get_rng_state()
    corrupt(IMAGES[:2], "gaussian_noise", 1)
    assert torch.equal(before, torch.get_rng_state())


def test_gaussian_and_shot_noise_have_the_variance_of_their_formula():
    grey = torch.full((8, 3, 32, 32), 128, dtype=torch.uint8)
    x = 128 / 255
    assert (corrupt(grey, "gaussian_noise", 2).float() / 255).std().item() == pytest.approx(0.06, rel=0.05)
    assert (corrupt(grey, "shot_noise", 5).float() / 255).std().item() == pytest.approx((x / 50) ** 0.5, rel=0.05)


def test_impulse_noise_replaces_the_given_share_of_values_by_black_or_white():
    grey = torch.full((32, 3, 32, 32), 128, dtype=torch.uint8)
    noisy = corrupt(grey, "impulse_noise", 5)
    assert (noisy != 128).float().mean().item() == pytest.approx(0.07, abs=0.005)
    assert set(noisy.unique().tolist()) == {0, 128, 255}
    assert (noisy == 255).sum() / (noisy != 128).sum() == pytest.approx(0.5, abs=0.05)


def test_contrast_pixel_by_pixel():
    out = corrupt(IMAGES[:3], "contrast", 4)
    for i, c, y, x in [(0, 0, 5, 7), (1, 2, 31, 0), (2, 1, 16, 16)]:
        channel = IMAGES[i, c].numpy() / 255
        wanted = channel.mean() + 0.3 * (channel[y, x] - channel.mean())
        assert out[i, c, y, x].item() == pytest.approx(255 * wanted, abs=0.51)


def test_brightness_is_the_value_of_hsv():
    import colorsys

    images = IMAGES[:4].clone()
    images[0, :, 0, 0] = 0  # black has no hue
    out = corrupt(images, "brightness", 3)
    for i, y, x in [(0, 0, 0), (0, 9, 9), (1, 30, 2), (2, 15, 17), (3, 1, 31)]:
        h, s, v = colorsys.rgb_to_hsv(*(images[i, :, y, x] / 255).tolist())
        wanted = 255 * np.array(colorsys.hsv_to_rgb(h, s, min(1.0, v + 0.15)))
        assert np.allclose(out[i, :, y, x].numpy(), wanted, atol=0.51)


def test_defocus_is_a_disc_of_radius_one_at_severity_4():
    dot = torch.zeros(1, 3, 32, 32, dtype=torch.uint8)
    dot[0, :, 16, 16] = 255
    out = corrupt(dot, "defocus_blur", 4)[0, 0].int()
    assert [out[16, 16], out[15, 16], out[16, 17]] == [51, 51, 51]  # a plus of five pixels
    assert out[15, 15] == 0 and out.sum() == 5 * 51


def test_motion_blur_is_a_normalised_one_sided_streak_within_45_degrees():
    dots = torch.zeros(32, 3, 32, 32, dtype=torch.uint8)
    dots[:, :, 16, 16] = 255
    out = corrupt(dots, "motion_blur", 5).float()[:, 0]
    assert torch.allclose(out.sum((1, 2)), torch.tensor(255.0), atol=15)
    across, along = out.sum(1), out.sum(2)
    assert (across[:, 17:].sum(1) < 1).all() or (across[:, :16].sum(1) < 1).all()
    position = torch.arange(32.0) - 16
    shift_x, shift_y = (m @ position / out.sum((1, 2)) for m in (across, along))
    assert (shift_y.abs() <= shift_x.abs() + 0.1).all() and shift_y.std() > 0.2


@pytest.mark.parametrize("name", ["defocus_blur", "motion_blur", "pixelate", "jpeg", "contrast"])
def test_a_plain_image_stays_plain(name):
    plain = torch.full((2, 3, 32, 32), 77, dtype=torch.uint8)
    assert (corrupt(plain, name, 5).int() - 77).abs().max() <= 1


@pytest.mark.parametrize("severity", [1, 3, 5])
def test_pixelate_is_pillow_s_box_filter(severity):
    from PIL import Image

    small = int(32 * (0.95, None, 0.85, None, 0.65)[severity - 1])
    for image, ours in zip(IMAGES[:4], corrupt(IMAGES[:4], "pixelate", severity), strict=True):
        theirs = Image.fromarray(image.permute(1, 2, 0).numpy()).resize((small, small), Image.Resampling.BOX)
        theirs = np.array(theirs.resize((32, 32), Image.Resampling.BOX))
        assert np.abs(ours.permute(1, 2, 0).numpy().astype(int) - theirs).max() <= 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_jpeg_is_what_torchvision_reads_back_from_a_jpeg_of_that_quality():
    from torchvision.io import decode_jpeg, encode_jpeg

    for image, ours in zip(IMAGES[:4], corrupt(IMAGES[:4], "jpeg", 5), strict=True):
        assert (ours.int() - decode_jpeg(encode_jpeg(image, 40)).int()).abs().float().mean() < 3


def test_fog_pulls_everything_up_towards_the_brightest_value():
    dark = torch.zeros(4, 3, 32, 32, dtype=torch.uint8)
    dark[:, :, 0, 0] = 255
    out = corrupt(dark, "fog", 5)[:, :, 1:, 1:].float() / 255
    assert out.mean() > 0.15 and out.max() <= 1.5 / 2.5 + 0.01  # c m / (m + c)
    assert out.std((1, 2, 3)).min() > 0.05  # and is uneven


def test_large_batches_do_not_depend_on_the_chunk():
    many = IMAGES[:1].expand(600, -1, -1, -1)
    assert same_images(corrupt(many, "contrast", 2)[599], corrupt(many[:1], "contrast", 2)[0])


def test_unknown_names_and_severities_are_refused_with_the_right_ones():
    with pytest.raises(Problem, match="did you mean 'motion_blur'"):
        corrupt(IMAGES, "motion-blur", 1)
    with pytest.raises(Problem, match="gaussian_noise, shot_noise.*fog"):
        corrupt(IMAGES, "xyz", 1)
    for severity in (0, 6, 2.5, "3"):
        with pytest.raises(Problem, match="1, 2, 3, 4 or 5"):
            corrupt(IMAGES, "fog", severity)
