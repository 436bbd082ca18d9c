"""The judge learns from training images, is chosen on nothing, and compares each factor with its own."""

from types import SimpleNamespace

import torch

from synpos_lib.evaluate import judge


def test_it_learns_from_training_images_and_compares_each_factor(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(
        judge, "train_judge", lambda folder, train, held_out, epochs: asked.append((train.split, held_out.split))
    )
    judge.get_judge(tmp_path, "scenes", n=20)
    assert asked == [("train", "val")]
    one = judge.Judge(None, {}, None)
    anchors = SimpleNamespace(labels=torch.tensor([0, 1, 2, 3]), where=torch.tensor([5, 6, 7, 8]))
    one.labels = lambda images: {"what": torch.tensor([0, 1, 2, 0]), "where": torch.tensor([5, 0, 0, 0])}
    assert [(row["kept"], row["value"]) for row in one.kept(None, anchors)] == [("what", 0.75), ("where", 0.25)]
