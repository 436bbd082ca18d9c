"""Every step of a view equals torchvision's for given parameters, and what is drawn follows its recipe."""

import dataclasses

import pytest
import torch
import torchvision.transforms.v2.functional as tv
from torchvision.transforms import RandomResizedCrop

from synpos_lib.core.errors import Problem
from synpos_lib.data import views

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images():
    return torch.randint(0, 256, (12, 3, 32, 32), generator=generator(), dtype=torch.uint8)


@pytest.fixture
def x(images):
    return images.float() / 255


def each(function, x, values):
    return torch.cat([function(x[i : i + 1], values[i].item()) for i in range(len(x))])


def factor(low, high):
    return low + (high - low) * torch.rand(12, generator=generator(3))


@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_colour_changes(x, name):
    f = factor(0.2, 1.8)
    expected = each(getattr(tv, f"adjust_{name}"), x, f)
    torch.testing.assert_close(getattr(views, name)(x, f[:, None, None, None]), expected, atol=1e-5, rtol=0)


def test_hue(x):
    shift = factor(-0.5, 0.5)
    x[0] = 0.5  # grey has no hue
    expected = each(tv.adjust_hue, x, shift)
    torch.testing.assert_close(views.hue(x, shift[:, None, None, None]), expected, atol=1e-4, rtol=0)


def test_greyscale(x):
    torch.testing.assert_close(views.luma(x), tv.rgb_to_grayscale(x), atol=1e-4, rtol=0)


def test_crop_resize_and_flip(images, x):
    drawn = views.draw(12, views.AUGMENTATIONS["clsp_simclr"], 32, 32, generator())
    ours = views._crop(images, drawn.box, drawn.flip)
    for i, (top, left, height, width) in enumerate(drawn.box.tolist()):
        expected = tv.resized_crop(x[i], top, left, height, width, [32, 32], antialias=True)
        expected = expected.flip(2) if drawn.flip[i] else expected
        torch.testing.assert_close(ours[i], expected, atol=1e-5, rtol=0)


def test_blur(x):
    sigma = factor(0.3, 1.2)
    expected = torch.cat([tv.gaussian_blur(x[i : i + 1], [13, 13], [sigma[i].item()]) for i in range(12)])
    inner = (..., slice(7, -7), slice(7, -7))
    torch.testing.assert_close(views.blur(x, sigma)[inner], expected[inner], atol=1e-4, rtol=0)


def test_solarize(images):
    drawn = views.draw(12, views.Augmentation(None, 0.0, jitter_p=0.0, gray=0.0, solarize=1.0), 32, 32, generator())
    ours = views.apply(images, drawn, MEAN, STD)
    torch.testing.assert_close(ours.contiguous(), tv.solarize(images, 128).float() / 255)


def test_plain_is_only_normalised(images):
    mean, std = views.NORMALIZATION["cifar10"]
    plain = views.view(images, views.AUGMENTATIONS["plain"], generator(), mean, std)
    expected = tv.normalize(images.float() / 255, list(mean), list(std))
    torch.testing.assert_close(plain.contiguous(), expected)
    torch.testing.assert_close(views.normalize(images, mean, std).contiguous(), expected)


def test_a_batch_is_many_single_images(images):
    """Each image has its own parameters, whatever its neighbours and however the batch is cut."""
    drawn = views.draw(12, views.AUGMENTATIONS["symmetric"], 32, 32, generator())
    whole = views.apply(images, drawn, MEAN, STD)
    for i in range(12):
        alone = drawn.part(slice(i, i + 1))
        torch.testing.assert_close(whole[i], views.apply(images[i : i + 1], alone, MEAN, STD)[0])
    assert len(drawn.box.unique(dim=0)) == 12 and drawn.factors.unique(dim=1).shape[1] > 6


def test_boxes_follow_torchvisions_rule():
    boxes = views._boxes(4000, (0.08, 1.0), 32, 32, generator(), torch.device("cpu")).double()
    torch.manual_seed(0)
    theirs = [RandomResizedCrop.get_params(torch.zeros(3, 32, 32), (0.08, 1.0), (3 / 4, 4 / 3)) for _ in range(4000)]
    theirs = torch.tensor(theirs).double()
    assert (boxes[:, :2] >= 0).all() and (boxes[:, :2] + boxes[:, 2:] <= 32).all()
    torch.testing.assert_close(boxes.mean(0), theirs.mean(0), atol=0.4, rtol=0)
    torch.testing.assert_close(boxes.std(0), theirs.std(0), atol=0.4, rtol=0)


def test_probabilities():
    augmentation = dataclasses.replace(views.AUGMENTATIONS["symmetric"], solarize=0.2)
    drawn = views.draw(20000, augmentation, 32, 32, generator())
    share = {
        "flip": drawn.flip.float().mean(),
        "jitter_p": (drawn.factors[0] != 1).float().mean(),
        "gray": drawn.gray.float().mean(),
        "blur": (drawn.sigma > 0).float().mean(),
        "solarize": drawn.solarize.float().mean(),
    }
    for name, value in share.items():
        assert value.item() == pytest.approx(getattr(augmentation, name), abs=0.02), name
    assert drawn.factors[0].min() >= 0.2 - 1e-6 and drawn.factors[0].max() <= 1.8 + 1e-6
    assert drawn.factors[3].abs().max() <= 0.2 + 1e-6


def test_views_repeat_with_their_seed_and_leave_the_global_state_alone(images):
    state = torch.get_rng_state()
    first, second, other = (
        views.view(images, views.AUGMENTATIONS["symmetric"], generator(seed), MEAN, STD) for seed in (1, 1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_unknown_recipe():
    with pytest.raises(Problem, match="did you mean 'clsp_simclr'"):
        views.by_name("clsp_simcrl")


def test_what_is_drawn_has_its_strength_its_order_and_no_ties():
    augmentation = views.AUGMENTATIONS["symmetric"]
    drawn = views.draw(20000, augmentation, 32, 32, torch.Generator().manual_seed(0))
    changed = drawn.factors[:, drawn.factors[0] != 1]
    low, high = torch.tensor([0.2, 0.2, 0.2, -0.2]), torch.tensor([1.8, 1.8, 1.8, 0.2])
    torch.testing.assert_close(changed.amin(1), low, atol=0.01, rtol=0)
    torch.testing.assert_close(changed.amax(1), high, atol=0.01, rtol=0)
    orders = {tuple(views.draw(1, augmentation, 32, 32, torch.Generator().manual_seed(s)).order) for s in range(200)}
    assert len(orders) == 24
    augmentation = dataclasses.replace(augmentation, solarize=0.3)
    d = views.draw(20000, augmentation, 32, 32, torch.Generator().manual_seed(0))
    events = torch.stack([d.flip, d.factors[0] != 1, d.gray, d.sigma > 0, d.solarize]).float()
    assert (torch.corrcoef(events) - torch.eye(5)).abs().max() < 0.03
