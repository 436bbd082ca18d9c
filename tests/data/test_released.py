"""The published positives: whose they are is decided by pixels, and a file in another order is found out."""

import numpy as np
import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.data.positives import make, read
from synpos_lib.data.released import Released, check_classes, original_images
from tests.real_formats import write_cifar10


@pytest.fixture
def cifar(tmp_path, monkeypatch):
    """A small CIFAR-10 as torchvision keeps it, and its training images in the order of the files."""
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *about: True)
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path / "data"))
    return write_cifar10(tmp_path / "data")


@pytest.fixture
def file(cifar, tmp_path):
    """Positives whose first pixel is the row of their image in the files, and whose second is k."""
    array = np.zeros((len(cifar), 3, 32, 32, 3), np.uint8)
    array[:, :, 0, 0, 0], array[:, :, 0, 0, 1] = (np.arange(len(cifar))[:, None] // part for part in (1, 256))
    array[:, :, 0, 1, 0] = np.arange(3)
    np.save(tmp_path / "released.npy", array)
    return tmp_path / "released.npy"


def test_every_anchor_gets_the_positives_of_its_own_row(cifar, file, tmp_path):
    anchors = catalog.load("cifar10", "train")
    assert not np.array_equal(anchors.images[0].permute(1, 2, 0), cifar[0])  # another order, or this shows nothing
    run = make(tmp_path / "store", anchors, Released(file, original_images("cifar10")), k=2)
    store = read(run.folder, anchors)
    assert store.shape == (len(anchors), 2, 3, 32, 32)
    for n in range(len(anchors)):
        row = int(store[n, 0, 0, 0, 0]) + 256 * int(store[n, 0, 1, 0, 0])
        assert np.array_equal(cifar[row], anchors.images[n].permute(1, 2, 0))
    assert store[:, :, 0, 0, 1].unique(dim=0).tolist() == [[0, 1]]


def test_more_than_are_published_are_refused(cifar, file):
    generator = Released(file, original_images("cifar10"))
    with pytest.raises(Problem, match="3 positives are published for each image, not 4"):
        generator.generate(torch.from_numpy(cifar[:2]).permute(0, 3, 1, 2).contiguous(), 4, 0)


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.zeros((399, 2, 32, 32, 3), np.uint8), r"uint8 of shape \(399, .*need uint8 of shape \(400, K, 32, 32, 3\)"),
        (np.zeros((400, 2, 32, 32, 3), np.float32), "float32 of shape"),
        (np.zeros((400, 2, 3, 32, 32), np.uint8), "need uint8"),
        (np.zeros((400, 32, 32, 3), np.uint8), "need uint8"),
        (b"no array", r"not a complete \.npy file"),
        (b"PK\x03\x04 no archive", r"not a complete \.npy file"),
        (None, "there is no file"),
    ],
)
def test_another_array_is_refused(cifar, tmp_path, array, words):
    file = tmp_path / "other.npy"
    if isinstance(array, bytes):
        file.write_bytes(array)
    elif array is not None:
        np.save(file, array)
    with pytest.raises(Problem, match=words):
        Released(file, original_images("cifar10"))


def test_half_a_file_is_refused(cifar, file):
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(Problem, match=r"not a complete \.npy file .*download it again"):
        Released(file, original_images("cifar10"))


def test_a_tree_has_lost_the_order(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path))
    for part, name, i in ((part, name, i) for part in ("train", "test") for name in ("cat", "dog") for i in range(10)):
        place = tmp_path / "cifar10" / part / name / f"{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (32, 32), (i, 9 * i, 99)).save(place)
    with pytest.raises(Problem, match="has lost the original order"):
        original_images("cifar10")


@pytest.mark.parametrize("name", ["scenes", "cifar10+fog-3"])
def test_other_images_have_no_published_positives(name):
    with pytest.raises(Problem, match="published for cifar10 and cifar100, not for '"):
        original_images(name)


def test_several_arrays_in_one_file_are_refused(cifar, tmp_path):
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    with pytest.raises(Problem, match="several arrays"):
        Released(tmp_path / "other.npz", original_images("cifar10"))


@pytest.mark.parametrize("right", [0.35, 0.9])
@pytest.mark.parametrize("uneven", [False, True])
def test_positives_of_other_images_are_refused_and_weak_ones_are_not(right, uneven, tmp_path):
    """Rows are shuffled whole, so that the positives of one anchor stay together and are right or wrong together."""
    rng, n, k, classes = np.random.default_rng(0), 500, 8, 10
    chances = 2.0 ** np.arange(classes) if uneven else np.ones(classes)
    chances /= chances.sum()
    labels = torch.from_numpy(rng.choice(classes, n, p=chances))
    anything = torch.from_numpy(rng.choice(classes, (n, k), p=chances))
    answers = torch.where(torch.from_numpy(rng.random((n, k)) < right), labels[:, None], anything)
    check_classes(answers, labels, torch.from_numpy(chances), tmp_path / "f.npy")
    believed = 0
    for _ in range(200):  # three standard errors: one or two of 1,000 pass by chance
        other = torch.from_numpy(rng.choice(classes, n, p=chances))
        try:
            check_classes(answers, other, torch.from_numpy(chances), tmp_path / "f.npy")
            believed += 1
        except Problem as error:
            assert "is chance" in str(error)
    assert believed <= 2


def test_anchors_of_one_class_are_compared_with_the_chance_among_all(tmp_path):
    labels = torch.zeros(40, dtype=torch.long)
    chances = torch.full((10,), 0.1)
    check_classes(labels[:, None], labels, chances, tmp_path / "f.npy")
    with pytest.raises(Problem, match="is chance"):
        check_classes(torch.arange(40)[:, None] % 10, labels, chances, tmp_path / "f.npy")
