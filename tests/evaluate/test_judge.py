"""The judge learns from training images, is tested on others, and its labels are compared with known truth."""

from dataclasses import replace

import pytest
import torch

from synpos_lib.data import catalog, scenes
from synpos_lib.evaluate import judge as judges
from synpos_lib.results import tables

WIDTHS = (16, 32, 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("judge")


@pytest.fixture(scope="module")
def train():
    return catalog.load("scenes", "train", n=3000)


@pytest.fixture(scope="module")
def held_out():
    return catalog.load("scenes", "val", n=400)


@pytest.fixture(scope="module")
def judge(folder, train, held_out):
    """A small judge: far from chance for the species and the scene."""
    return judges.train_judge(folder / "judge", train, held_out, epochs=10, widths=WIDTHS)


def test_probabilities_sum_to_one_and_labels_are_the_most_probable(judge, held_out):
    answer, labels = judge(held_out.images), judge.labels(held_out.images)
    assert answer["what"].shape == (400, 10) and answer["where"].shape == (400, 9)
    assert len(answer["features"]) == 400 and set(labels) == {"what", "where"}
    for factor, chosen in labels.items():
        assert torch.allclose(answer[factor].sum(1), torch.ones(400), atol=1e-5)
        assert chosen.tolist() == [max(range(len(p)), key=p.__getitem__) for p in answer[factor].tolist()]


def test_accuracy_is_on_held_out_images_and_training_is_reused(judge, folder, train, held_out):
    hits = [a == b for a, b in zip(judge.labels(held_out.images)["where"].tolist(), held_out.where, strict=True)]
    assert judge.accuracy["where"] == pytest.approx(sum(hits) / 400) and judge.accuracy["where"] > 0.5
    assert f"where {judge.accuracy['where']:.1%}" in str(judge)
    before = (folder / "judge" / "done.json").stat().st_mtime_ns
    wrong = replace(held_out, where=(held_out.where + 1) % 9)  # the same images with wrong labels
    other = judges.train_judge(folder / "judge", train, wrong, epochs=10, widths=WIDTHS)
    assert (folder / "judge" / "done.json").stat().st_mtime_ns == before
    assert torch.equal(other(held_out.images)["what"], judge(held_out.images)["what"])
    assert other.accuracy["where"] < 0.15 and other.accuracy["what"] == judge.accuracy["what"]


def test_agreement_is_right_where_the_truth_is_known(judge):
    """The same species in other scenes, then the same scenes with other species: only the shared factor agrees."""
    anchors = catalog.load("scenes", "test", n=300)
    moved = scenes.render(300, seed=3, what=anchors.labels, where=(anchors.where + 1) % 9)
    changed = scenes.render(300, seed=4, what=(anchors.labels + 1) % 10, where=anchors.where)
    for images, what, where in ((moved, anchors.labels, moved.where), (changed, changed.what, anchors.where)):
        labels = judge.labels(images.images)
        accuracy = {f: (labels[f] == y).double().mean().item() for f, y in (("what", what), ("where", where))}
        rows = {row["kept"]: row for row in judge.agreement(images.images, anchors)}
        for factor, same in (("what", images is moved), ("where", images is changed)):
            if same:
                assert rows[factor]["value"] == pytest.approx(accuracy[factor]) and rows[factor]["value"] > 0.3
            else:
                assert rows[factor]["value"] <= 1 - accuracy[factor]
            assert rows[factor]["low"] <= rows[factor]["value"] <= rows[factor]["high"] and rows[factor]["n"] == 300


def test_factors_unknown_to_the_anchors_are_left_out(judge, held_out):
    anchors = replace(held_out, where=None, scenes=())
    assert [row["kept"] for row in judge.agreement(held_out.images, anchors)] == ["what"]


def test_a_judge_trained_on_shuffled_labels_reports_chance(tmp_path, train, held_out):
    order = torch.randperm(len(train), generator=torch.Generator().manual_seed(0))
    shuffled = replace(train, where=train.where[order], fingerprint="shuffled")
    guess = judges.train_judge(tmp_path / "judge", shuffled, held_out, epochs=3, widths=WIDTHS)
    hits = guess.labels(held_out.images)["where"] == held_out.where
    assert tables.share(hits.tolist()).low < 1 / 9 < 0.2 and guess.accuracy["where"] < 0.2


def test_the_judge_of_a_dataset_learns_from_train_and_is_tested_on_val(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(judges, "train_judge", lambda *args, **settings: calls.append((*args, settings)))
    judges.get_judge(tmp_path, "scenes+fog-3", n=20, epochs=2)
    ((folder, train, held_out, settings),) = calls
    assert folder == tmp_path / "runs" / "judge-scenes+fog-3"
    assert (train.split, len(train), held_out.split, settings) == ("train", 20, "val", {"epochs": 2})
