"""The supervised loop learns both factors, continues after a kill, and its judge knows how good it is."""

import pytest
import torch
from torch import nn

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.evaluate import judge
from synpos_lib.train import classify, encoders


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
    (tmp_path / "cut" / "done.json").unlink()  # killed between its last checkpoint and its end
    classify.train(tmp_path / "cut", cut, images, targets, {}, epochs=4, batch=32)
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


# ------------------------------------------------------------------------------- mixing, recipes, networks


def test_hard_labels_are_soft_labels_with_all_on_one_class(tmp_path, toy):
    images, targets = toy
    plain, same = model(), model()
    classify.train(tmp_path / "plain", plain, images, targets, {}, epochs=2, batch=32)
    classify.train(tmp_path / "same", same, images, targets, {}, epochs=2, batch=32, mix=lambda x, y, draw: (x, y))
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), same.parameters(), strict=True))


def test_a_mix_sees_images_from_0_to_1_and_the_labels_of_all_factors(tmp_path, toy):
    images, targets = toy
    seen = []

    def spy(x, y, draw):
        seen.append((x, y))
        return x, y

    classify.train(tmp_path / "run", model(), images, targets, {}, epochs=1, batch=32, mix=spy)
    x, y = seen[0]
    assert x.shape == (32, 3, 8, 8) and x.min() >= 0 and 0.5 < x.max() <= 1
    assert y.shape == (32, 4) and torch.equal(y.sum(1), torch.full((32,), 2.0))


def test_a_source_stands_for_the_images(tmp_path, toy):
    """Given images that say the opposite, the opposite is learned."""
    images, targets = toy
    asked = []

    def opposite(rows, draw):
        asked.append(rows)
        return 255 - images[rows]

    network = model()
    how = dict(epochs=12, batch=32, learning_rate=0.02)
    classify.train(tmp_path / "run", network, images, targets, {}, source=opposite, **how)
    seen = classify.predict(network, 255 - images)["what"].argmax(1)
    assert (seen == targets["what"]).double().mean() > 0.95
    assert torch.equal(torch.cat(asked[:8]).sort().values, torch.arange(256))


def test_the_loss_with_soft_labels_is_the_cross_entropy(tmp_path, toy):
    images, targets = toy
    network, half = model(), torch.full((256, 4), 0.5)
    how = dict(epochs=1, batch=256, noise=0.0, shift=0.0)
    run = classify.train(tmp_path / "run", network, images, targets, {}, mix=lambda x, y, d: (x, half), **how)
    draw = runtime.generator(0, "classify", 0)
    x = images[torch.randperm(256, generator=draw)].float() / 255
    flip = torch.rand(256, generator=draw) < 0.5
    x[flip] = x[flip].flip(3)
    logits = model()(x)
    expected = -sum(0.5 * logits[factor].log_softmax(1).sum(1).mean() for factor in targets)
    assert run.results["loss"] == pytest.approx(expected.item(), rel=1e-3)


def test_sgd_with_steps_is_torchs(tmp_path, toy):
    images, targets = toy
    network, peer = model(), model()
    how = dict(optimizer="sgd", learning_rate=0.1, decay=1e-3, steps_at=(0.5,), noise=0.0, shift=0.0)
    run = classify.train(tmp_path / "run", network, images, targets, {}, epochs=4, batch=256, **how)
    optimizer = torch.optim.SGD(peer.parameters(), 0.1, momentum=0.9, weight_decay=1e-3, nesterov=True)
    peer.train()
    for epoch in range(4):
        for group in optimizer.param_groups:
            group["lr"] = 0.1 if epoch < 2 else 0.01
        draw = runtime.generator(0, "classify", epoch)
        rows = torch.randperm(256, generator=draw)
        x, flip = images[rows].float() / 255, torch.rand(256, generator=draw) < 0.5
        x[flip] = x[flip].flip(3)
        logits = peer(x)
        loss = sum(nn.functional.cross_entropy(logits[f], targets[f][rows]) for f in targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for a, b in zip(network.parameters(), peer.parameters(), strict=True):
        assert torch.allclose(a, b, atol=2e-3)
    assert run.config["steps_at"] == [0.5]


def test_jitter_moves_every_image_on_its_own_and_mirrors_the_border():
    x = torch.rand(50, 3, 9, 7, generator=torch.Generator().manual_seed(0))
    moved = classify.jitter(x, 1 / 4, torch.Generator().manual_seed(1))
    places = set()
    for image, other in zip(x, moved, strict=True):
        padded = nn.functional.pad(image[None], [2] * 4, mode="reflect")[0]
        mirrored = nn.functional.pad(image.flip(2)[None], [2] * 4, mode="reflect")[0]
        found = [
            (flip, dy, dx)
            for flip, source in enumerate((padded, mirrored))
            for dy in range(5)
            for dx in range(5)
            if torch.equal(source[:, dy : dy + 9, dx : dx + 7], other)
        ]
        assert len(found) == 1
        places.add(found[0])
    assert len(places) > 20
    still = classify.jitter(x, 0.0, torch.Generator().manual_seed(1))
    assert all(torch.equal(a, b) or torch.equal(a.flip(2), b) for a, b in zip(x, still, strict=True))


def test_a_batch_larger_than_the_data_and_an_unknown_optimizer_are_named(tmp_path, toy):
    images, targets = toy
    with pytest.raises(Problem, match="a batch of 500 is more than the 256 images"):
        classify.train(tmp_path / "run", model(), images, targets, {}, batch=500)
    with pytest.raises(Problem, match="unknown optimizer 'sdg' .did you mean 'sgd'"):
        classify.train(tmp_path / "run", model(), images, targets, {}, optimizer="sdg")


def test_training_images_are_moved_and_noisy(tmp_path):
    images, seen = torch.randint(0, 256, (32, 3, 16, 16), dtype=torch.uint8), []

    class Spy(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Linear(3, 4)

        def forward(self, x):
            if self.training:
                seen.append(x.clone())
            return self.w(x.float().mean((2, 3)))

    for noise, shift in ((0.0, 0.25), (0.5, 0.0)):
        network = classify.Classifier(Spy(), 4, {"what": 2})
        classify.train(
            tmp_path / f"{noise}",
            network,
            images,
            {"what": torch.arange(32) % 2},
            {},
            epochs=1,
            batch=32,
            noise=noise,
            shift=shift,
        )
    x = [((part * 0.5 + 0.5) * 255) for part in seen]
    known = {im.numpy().tobytes() for im in torch.cat([images, images.flip(3)])}
    assert sum(im.round().byte().contiguous().numpy().tobytes() in known for im in x[0].contiguous()) < 8
    assert ((x[1] - x[1].round()).abs() > 1e-2).float().mean() > 0.5


def test_another_function_or_another_start_is_another_run(tmp_path):
    def train(mix, seed=0):
        torch.manual_seed(seed)
        model = classify.Classifier(*encoders.by_name("tiny"), {"what": 2})
        images = torch.zeros(8, 3, 32, 32, dtype=torch.uint8)
        labels = {"what": torch.arange(8) % 2}
        return classify.train(tmp_path / "run", model, images, labels, {}, mix=mix, epochs=1, batch=4).config

    first = train(lambda x, y, draw: (x, y))
    assert train(lambda x, y, draw: (0 * x, y))["functions"] != first["functions"]
    assert train(lambda x, y, draw: (x, y), seed=1)["start"] != first["start"]
