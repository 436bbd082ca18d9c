"""Shifted test sets, and what an encoder's one head says of them, against naive transcriptions."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from nearly import same_shares
from PIL import Image
from scipy import ndimage

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog, views
from synpos_lib.data.corruptions import CORRUPTIONS, corrupt
from synpos_lib.evaluate import linear, robustness
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.train import encoders
from synpos_lib.train.frozen import Frozen


@pytest.fixture
def encoder(full_precision):
    """A small random network."""
    torch.manual_seed(0)
    return Frozen(*encoders.small_encoder((8, 8, 16)), *views.NORMALIZATION["other"])


def rows(errors: dict) -> pd.DataFrame:
    found = [{"target": f"+{c}-{s}", "seed": 0, "value": 1 - e, "n": 10} for (c, s), e in errors.items()]
    return pd.DataFrame([{"target": "clean", "seed": 0, "value": 0.9, "n": 10}, *found])


def test_the_mean_corruption_error_is_its_formula():
    rng = np.random.default_rng(0)
    errors, reference = ({(c, s): rng.random() for c in ("fog", "shot_noise") for s in range(1, 6)} for _ in range(2))
    plain = relative = 0.0
    for c in ("fog", "shot_noise"):
        ours, theirs = sum(errors[c, s] for s in range(1, 6)), sum(reference[c, s] for s in range(1, 6))
        plain, relative = plain + ours / 5 / 2, relative + ours / theirs / 2
    frame = pd.concat([rows(errors).assign(method="ours"), rows(reference).assign(method="theirs")])
    shares = robustness.corruption_errors(frame, "theirs", []).set_index("method").value
    assert shares["ours"] == pytest.approx(relative) and shares["theirs"] == 1
    one = robustness.shifts(rows(errors)).set_index("target")
    assert one.loc["corruptions", "value"] == pytest.approx(1 - plain) and one.loc["corruptions", "n"] == 100
    assert list(one.index) == ["clean", "corruptions"] and one.loc["clean", "value"] == 0.9


def test_errors_and_accuracies_are_compared_with_the_baseline_of_their_group():
    frame = pd.concat(
        [
            rows({("fog", s): error for s in range(1, 6)}).assign(method=method, base=base, seed=seed)
            for (method, base, seed), error in {
                ("Real", "a", 0): 0.2,
                ("Mix", "a", 0): 0.1,
                ("Real", "a", 1): 0.4,
                ("Mix", "a", 1): 0.4,
                ("Real", "b", 0): 0.5,
                ("Mix", "b", 0): 0.6,
            }.items()
        ],
        ignore_index=True,
    )
    found = robustness.corruption_errors(frame, "Real", ["base"]).set_index(["base", "method", "seed"]).value
    assert found["a", "Mix", 0] == pytest.approx(0.5) and found["a", "Mix", 1] == pytest.approx(1.0)
    assert found["b", "Mix", 0] == pytest.approx(1.2) and (found.xs("Real", level="method") == 1).all()
    shares = robustness.in_shares_of(robustness.shifts(frame), "Real", ["base", "target"])
    shares = shares[shares.target == "corruptions"].set_index(["base", "method", "seed"]).value
    assert shares["a", "Mix", 0] == pytest.approx(0.9 / 0.7) and shares["b", "Mix", 0] == pytest.approx(0.4 / 0.5)


def test_every_shift_of_the_embedded_data_keeps_its_labels_and_changes_its_images():
    sets = robustness.test_sets(
        "scenes", n=30, corrupted=10, judge=lambda images: {"what": torch.rand(len(images), 10)}
    )
    clean = sets["clean"]()
    names = ["clean", "unseen scenes", "sketch", "re-sampled", "hard", "style"]
    assert list(sets)[:6] == names and len(sets) == 6 + 5 * len(CORRUPTIONS)
    for name in names[1:]:
        shifted = sets[name]()
        assert len(shifted) == 30 and shifted.classes == clean.classes
        assert (shifted.images != clean.images).flatten(1).any(1).all(), name
    for name in ("unseen scenes", "sketch", "style"):  # the very same fish
        assert torch.equal(sets[name]().labels, clean.labels)
    few = catalog.load("scenes", "test", n=10)
    assert torch.equal(sets["+fog-4"]().images, corrupt(few.images, "fog", 4))
    assert torch.equal(sets["+fog-4"]().labels, few.labels)


def test_another_style_is_a_median_four_shades_and_exchanged_channels():
    images = catalog.load("scenes", "test", n=6).images
    styled = robustness.restyle(images, seed=3).numpy()
    for image, made in zip(images.numpy(), styled, strict=True):
        smooth = np.stack([ndimage.median_filter(channel, 3, mode="nearest") for channel in image])
        shades = (smooth // 64 * 85).astype(np.uint8)
        matches = [i for channel in made for i in range(3) if np.array_equal(channel, shades[i])]
        assert sorted(set(matches)) == [0, 1, 2]
    assert len({tuple(made.mean((1, 2)).argsort()) for made in styled}) > 1


def test_the_hardest_are_those_the_judge_believes_least():
    pool = catalog.load("scenes", "test", n=40)
    p = torch.rand(40, 10, generator=torch.Generator().manual_seed(0))
    hard = robustness.hardest(pool, lambda images: {"what": p}, 7)
    worst = sorted(range(40), key=lambda i: p[i, pool.labels[i]])[:7]
    assert torch.equal(hard.images, pool.images[sorted(worst)])
    assert torch.equal(hard.labels, pool.labels[sorted(worst)]) and torch.equal(hard.where, pool.where[sorted(worst)])


def test_the_clean_row_is_the_linear_protocol(encoder):
    labelled, test = catalog.load("scenes", "train", n=200), catalog.load("scenes", "test", n=100)
    found = robustness.measure(encoder, labelled, {"clean": lambda: test}, seed=2)
    assert found == [{"target": "clean"} | linear_and_knn(encoder, labelled, test, seed=2)[0]]


def tree(folder, images, labels, classes):
    for i, (image, y) in enumerate(zip(images, labels.tolist(), strict=True)):
        path = folder / classes[y] / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)


def test_a_folder_of_shifts_is_read_and_unknown_classes_are_left_out(encoder, tmp_path, monkeypatch):
    """Trees with some of the classes and a stranger's, in another order; trees of corruptions; CIFAR-10.1's arrays."""
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path / "cache"))
    labelled, test = catalog.load("scenes", "train", n=200), catalog.load("scenes", "test", n=60)
    some = test.labels < 4
    names = ["zebra", "star", "eel", "ray"]  # of the tree; 'zebra' is in no training set
    tree(tmp_path / "shifts" / "renditions", test.images[some], test.labels[some], names)
    tree(tmp_path / "shifts" / "worse" / "rain" / "3", test.images, test.labels, test.classes)
    (tmp_path / "shifts" / "cifar-10.1").mkdir()
    np.save(tmp_path / "shifts" / "cifar-10.1" / "cifar10.1_v6_data.npy", test.images.permute(0, 2, 3, 1).numpy())
    np.save(tmp_path / "shifts" / "cifar-10.1" / "cifar10.1_v6_labels.npy", test.labels.numpy().astype(np.int32))

    sets = robustness.test_sets("scenes", n=60, folder=str(tmp_path / "shifts"))
    assert not any(name.startswith("+fog") for name in sets)
    before = robustness.settings(labelled, sets)
    tree(tmp_path / "shifts" / "worse" / "rain" / "3", 255 - test.images, test.labels, test.classes)
    changed = robustness.settings(labelled, robustness.test_sets("scenes", n=60, folder=str(tmp_path / "shifts")))
    assert {name for name, digest in changed["sets"].items() if digest != before["sets"][name]} == {"+rain-3"}
    tree(tmp_path / "shifts" / "worse" / "rain" / "3", test.images, test.labels, test.classes)
    found = {row["target"]: row for row in robustness.measure(encoder, labelled, sets)}
    assert found["cifar-10.1"]["value"] == found["clean"]["value"]
    assert same_shares(found["+rain-3"]["value"], found["clean"]["value"], 60)  # in another order

    weight, bias = linear.fit(encoder(labelled.images), encoder(labelled.images, flip=True), labelled.labels)
    right = asked = 0
    for image, y in zip(test.images, test.labels.tolist(), strict=True):
        if y < 4 and names[y] != "zebra":
            logits = encoder(image[None])[0] @ weight.T + bias
            allowed = {name: logits[labelled.classes.index(name)] for name in names[1:]}
            right, asked = right + (max(allowed, key=allowed.get) == names[y]), asked + 1
    assert found["renditions"]["n"] == asked and same_shares(found["renditions"]["value"], right / asked, asked)


def test_folders_that_cannot_be_used_get_one_clear_sentence(encoder, tmp_path, monkeypatch):
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path / "cache"))
    with pytest.raises(Problem, match="no folder .*one folder for each shift"):
        robustness.test_sets("scenes", folder=str(tmp_path / "nowhere"))
    (tmp_path / "shifts").mkdir()
    with pytest.raises(Problem, match="holds no folder"):
        robustness.test_sets("scenes", folder=str(tmp_path / "shifts"))
    (tmp_path / "shifts" / "cifar-10.1").mkdir()
    np.save(tmp_path / "shifts" / "cifar-10.1" / "cifar10.1_v6_data.npy", np.zeros((2, 32, 32, 3), np.uint8))
    with pytest.raises(Problem, match="without cifar10.1_v6_labels.npy"):
        robustness.test_sets("scenes", folder=str(tmp_path / "shifts"))["cifar-10.1"]()
    strangers = SimpleNamespace(name="animals", classes=("cat", "dog"), labels=torch.tensor([0, 1]))
    with pytest.raises(Problem, match="'animals' has none of the classes"):
        robustness.measure(encoder, catalog.load("scenes", "train", n=20), {"animals": lambda: strangers})
