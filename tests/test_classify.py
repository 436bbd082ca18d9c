"""The supervised loop learns both factors, continues after a kill, and its judge knows how good it is."""

import pytest
import torch
from torch import nn

from synpos_lib import classify, runtime
from synpos_lib.data import catalog
from synpos_lib.evaluate import judge
from synpos_lib.runs import read_run


@pytest.fixture
def toy():
    """Images whose brightness is *what* and whose tint is *where*."""
    draw = torch.Generator().manual_seed(0)
    what, where = torch.randint(2, (256,), generator=draw), torch.randint(2, (256,), generator=draw)
    images = torch.randint(0, 60, (256, 3, 8, 8), generator=draw) + 120 * what.view(-1, 1, 1, 1)
    images[:, 0] += 70 * where.view(-1, 1, 1)
    return images.to(torch.uint8), {"what": what, "where": where}


def model():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return classify.Classifier(encoder, 8, {"what": 2, "where": 2})


def test_both_factors_are_learned(tmp_path, toy):
    images, targets = toy
    network = model()
    classify.train(tmp_path / "run", network, images, targets, {}, epochs=12, batch=32, learning_rate=0.02)
    seen = classify.predict(network, images)
    for factor, labels in targets.items():
        assert (seen[factor].argmax(1) == labels).double().mean() > 0.95
        assert torch.allclose(seen[factor].sum(1), torch.ones(256), atol=1e-5)


def test_a_training_cut_short_continues_to_the_same_weights(tmp_path, toy, monkeypatch):
    images, targets = toy
    whole, cut = model(), model()
    classify.train(tmp_path / "whole", whole, images, targets, {}, epochs=4, batch=32)

    class Killed(Exception):
        pass

    def stop_at_two(items, label, total=None):
        for item in items:
            if item == 2:
                raise Killed
            yield item

    monkeypatch.setattr(runtime, "progress", stop_at_two)
    with pytest.raises(Killed):
        classify.train(tmp_path / "cut", cut, images, targets, {}, epochs=4, batch=32)
    monkeypatch.undo()
    cut = model()
    classify.train(tmp_path / "cut", cut, images, targets, {}, epochs=4, batch=32)
    assert read_run(tmp_path / "whole").metrics() == read_run(tmp_path / "cut").metrics()
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), cut.parameters(), strict=True))
    again = model()
    classify.train(tmp_path / "cut", again, images, targets, {}, epochs=4, batch=32)
    assert all(torch.equal(a, b) for a, b in zip(whole.parameters(), again.parameters(), strict=True))


def test_entropy_and_chance_agreement_have_their_closed_forms():
    assert judge.entropy(torch.full((1, 10), 0.1)).item() == pytest.approx(torch.tensor(10.0).log().item(), abs=1e-5)
    assert judge.entropy(torch.eye(3)).sum() == 0
    assert judge.chance_agreement(torch.tensor([0, 0, 0, 1])) == pytest.approx(0.75**2 + 0.25**2)


def test_a_judge_says_how_good_it_is(tmp_path):
    train, held_out = catalog.load("scenes", "train", n=512), catalog.load("scenes", "val", n=200)
    one = judge.train_judge(tmp_path / "judge", train, held_out, epochs=2)
    seen = one(held_out.images)
    expected = (seen["where"].argmax(1) == held_out.where).double().mean().item()
    assert one.accuracy["where"] == pytest.approx(expected) and "where" in str(one)
