"""The classifier is scikit-learn's, lambda is chosen on validation images only, and wins are counted as by hand."""

import numpy as np
import pandas as pd
import pytest
import torch
from nearly import same_shares
from scipy import stats
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog, views
from synpos_lib.data.images import Images
from synpos_lib.evaluate import linear, transfer
from synpos_lib.results import evaluations, tables
from synpos_lib.train import encoders
from synpos_lib.train.frozen import Frozen


def features(n, seed, classes=4, width=6):
    draw = torch.Generator().manual_seed(seed)
    y = torch.randint(classes, (n,), generator=draw)
    centres = torch.randn(classes, width, generator=torch.Generator().manual_seed(99))
    return (centres[y] + 1.5 * torch.randn(n, width, generator=draw)).double(), y


@pytest.mark.parametrize("lambda_", [10.0, 1.0, 1e-2, 1e-4])
def test_the_fit_is_scikit_learns(lambda_):
    z, y = features(300, 0)
    layer = linear.minimum(z, y, lambda_, torch.zeros(4, 7, dtype=torch.float64))
    theirs = LogisticRegression(C=1 / (lambda_ * len(z)), tol=1e-8, max_iter=5000).fit(z.numpy(), y.numpy())
    ours = (z @ layer[:, :-1].T + layer[:, -1]).softmax(1)
    np.testing.assert_allclose(ours, theirs.predict_proba(z.numpy()), atol=2e-3)
    tight = layer[:, :-1] - layer[:, :-1].mean(0)
    np.testing.assert_allclose(tight, theirs.coef_ - theirs.coef_.mean(0), atol=0.02)


def test_where_it_starts_makes_no_difference():
    z, y = features(300, 0)
    zero, far = torch.zeros(4, 7, dtype=torch.float64), torch.randn(4, 7, dtype=torch.float64)
    ours, theirs = (linear.minimum(z, y, 0.01, start) for start in (zero, far))
    ours, theirs = ((z @ layer[:, :-1].T + layer[:, -1]).softmax(1) for layer in (ours, theirs))
    torch.testing.assert_close(ours, theirs, atol=0.003, rtol=0)


class Made:
    """A target whose images are features already."""

    def __init__(self, metric="accuracy", **parts):
        self.metric = metric
        for name, (z, y) in parts.items():
            setattr(self, name, Images(z.float(), y, None, tuple("abcd"), "made", name, ""))


def naive(to, lambdas):
    """The protocol, spelled out with scikit-learn, each lambda from the beginning."""

    def scaled(z, like):
        like = like.numpy()
        return (z.numpy() - like.mean(0)) / np.sqrt(((like - like.mean(0)) ** 2).mean())

    def asked(train, y, test, truth, lambda_):
        model = LogisticRegression(C=1 / (lambda_ * len(y)), tol=1e-6, max_iter=5000)
        return model.fit(scaled(train, train), y).predict(scaled(test, train)) == truth.numpy()

    tried = [asked(to.train.images, to.train.labels, to.val.images, to.val.labels, v).mean() for v in lambdas]
    best = lambdas[int(np.argmax(tried))]
    both = torch.cat([to.train.images, to.val.images]), torch.cat([to.train.labels, to.val.labels])
    return asked(*both, to.test.images, to.test.labels, best).mean(), tried


def test_the_protocol_is_the_one_spelled_out():
    to = Made(train=features(120, 0), val=features(80, 1), test=features(500, 2))
    value, tried = naive(to, transfer.LAMBDAS)
    found = transfer.transfer(lambda images: images, to)
    assert len(transfer.LAMBDAS) == 45 and list(found.validation) == list(transfer.LAMBDAS)
    scores = list(found.validation.values())[1:]  # at 1e5 scikit-learn stops before it has learned the bias
    np.testing.assert_allclose(scores, tried[1:], atol=0.026)  # two of 80 images
    assert found.value == pytest.approx(value, abs=0.01)
    assert tried[transfer.LAMBDAS.index(found.lambda_)] >= max(tried) - 0.026


def test_test_images_have_no_part_in_the_choice():
    train, val, (z, y) = features(120, 0), features(80, 1), features(500, 2)
    found = [transfer.transfer(lambda i: i, Made(train=train, val=val, test=(z, t))) for t in (y, (y + 1) % 4)]
    assert found[0].lambda_ == found[1].lambda_ and found[0].validation == found[1].validation
    assert found[0].value > 0.5 > found[1].value


def test_the_scale_of_the_features_makes_no_difference():
    parts = {name: features(n, seed) for name, n, seed in (("train", 120, 0), ("val", 80, 1), ("test", 200, 2))}
    large = {name: (1000 * z + 7, y) for name, (z, y) in parts.items()}
    ours, theirs = (transfer.transfer(lambda i: i, Made(**p)) for p in (parts, large))
    assert ours.value == pytest.approx(theirs.value, abs=0.01)
    tried = zip(ours.validation.values(), theirs.validation.values(), strict=True)
    assert all(same_shares(*scores, 80) for scores in tried)


def test_scores():
    said, labels = torch.tensor([0, 0, 0, 3, 3]), torch.tensor([0, 0, 0, 0, 3])
    assert transfer.score(said, labels, "accuracy") == pytest.approx(4 / 5)
    assert transfer.score(said, labels, "mean per class") == pytest.approx(balanced_accuracy_score(labels, said))


def test_embedded_targets_are_asked_end_to_end():
    torch.manual_seed(0)
    network, width = encoders.small_encoder((8, 8, 16))
    encoder = Frozen(network, width, *views.NORMALIZATION["other"])
    to, absent = transfer.targets("scenes", train=60, val=30, test=40)
    assert absent == [] and [t.name for t in to] == ["digits", "letters", "shapes", "textures", "new-species"]
    assert all([len(t.train), len(t.val), len(t.test)] == [60, 30, 40] for t in to)
    assert len({part.fingerprint for t in to for part in (t.train, t.val, t.test)}) == 15
    made = transfer.rows(encoder, to[3:])
    assert [row["target"] for row in made] == ["textures", "new-species"] and all(0 < row["value"] < 1 for row in made)
    about = {"dataset", "method", "variant", "seed"}
    assert all(set(row) | about == set(evaluations.COLUMNS) and row["n"] == 40 for row in made)
    assert made == transfer.rows(encoder, to[3:])


def test_only_a_target_that_is_not_here_is_left_out_and_it_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SYNPOS_DATA", str(tmp_path))
    assert transfer.targets("stl10") == ([], list(transfer.TARGETS["stl10"]))
    said = capsys.readouterr().out
    assert all(f"left out: no '{name}'" in said for name in transfer.TARGETS["stl10"])
    with pytest.raises(Problem, match="did you mean 'scenes'"):
        transfer.targets("scene")
    with pytest.raises(catalog.NotHere, match="no 'cars'"):  # nobody offers it any more
        catalog.load("cars", "test", root=tmp_path)
    broken = tmp_path / "cifar100" / "train" / "apple" / "broken.png"
    broken.parent.mkdir(parents=True)
    broken.write_text("no image")
    with pytest.raises(Problem, match="images in .*cifar100 cannot be read"):
        transfer.targets("stl10")


def test_targets_have_the_size_and_the_convention_that_is_usual(monkeypatch):
    asked = []

    def load(name, split, n, size):
        asked.append((name, split, n, size))
        return Made(metric="", part=features(1, 0)).part

    monkeypatch.setattr(catalog, "load", load)
    to, _ = transfer.targets("stl10", test=7)
    assert asked[:3] == [("cifar10", "train", None, 96), ("cifar10", "val", None, 96), ("cifar10", "test", 7, 96)]
    metrics = {t.name: t.metric for t in to}
    assert {name for name, metric in metrics.items() if metric == "mean per class"} == {
        "pets",
        "flowers102",
        "caltech101",
    }


def test_targets_are_sets_that_the_catalog_knows():
    known = {*catalog.EMBEDDED, *catalog.REAL}
    assert set(transfer.TARGETS) <= known
    assert all(set(targets) <= known - {source} for source, targets in transfer.TARGETS.items())
    assert set(transfer.MEAN_PER_CLASS) <= known


def differences(*rows):
    return pd.DataFrame(rows, columns=["mean", "low", "high"]).assign(n=5)


def test_wins_and_how_sure_they_are():
    clear, likely, unlikely, lost = (0.03, 0.01, 0.05), (0.01, -0.01, 0.03), (-0.01, -0.03, 0.01), (-0.03, -0.05, -0.01)
    assert transfer.wins(differences(clear, clear, likely, unlikely, lost)) == (0.6, 0.4, 0.8, 5)
    assert transfer.wins(differences(clear, clear)) == (1, 1, 1, 5)
    assert transfer.wins(differences(lost, (0, 0, 0))) == (0, 0, 0.5, 5)  # a tie is no win, and not a clear loss


def test_one_seed_makes_no_win_sure():
    single = float("nan")
    assert transfer.wins(differences((0.03, single, single), (0.01, single, single))) == (1, 0, 1, 5)


def test_wins_follow_from_paired_runs():
    """Five seeds, three targets: by hand from scipy's paired t test."""
    rng = np.random.default_rng(0)
    shape = {"ours": (0.05, 0.0, -0.05), "theirs": (0, 0, 0)}
    rows = [
        {"method": method, "seed": seed, "target": str(i), "value": 0.5 + shift + rng.normal(0, 0.02)}
        for method, shifts in shape.items()
        for seed in range(5)
        for i, shift in enumerate(shifts)
    ]
    frame = pd.DataFrame(rows)
    found = transfer.wins(tables.against(frame, "theirs", ["target"]))
    table = frame.pivot_table(index="seed", columns=["method", "target"], values="value")
    t = [stats.ttest_rel(table["ours", i], table["theirs", i]) for i in "012"]
    assert found.value == pytest.approx(np.mean([test.statistic > 0 for test in t]))
    assert found.low == pytest.approx(np.mean([test.statistic > 0 and test.pvalue < 0.05 for test in t]))
    assert found.high == pytest.approx(1 - np.mean([test.statistic < 0 and test.pvalue < 0.05 for test in t]))
