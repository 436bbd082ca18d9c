"""Labels: what training draws and learns, guidance against its formula, and that without classes nothing changed."""

import dataclasses
from types import SimpleNamespace

import pytest
import tiny
import torch
from nearly import same_images, same_numbers

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem
from synpos_lib.data import positives
from synpos_lib.diffusion import model, schedule, training
from synpos_lib.diffusion.features import pooled
from synpos_lib.diffusion.generators import ClassConditional
from synpos_lib.diffusion.sampling import sample
from synpos_lib.diffusion.unet import UNet

PLAIN = tiny.unet(image_size=16, patch=2, skips=(0,), prediction="v_prediction")
CLASSES = dataclasses.replace(PLAIN, classes=3)
NONE = 3  # the index of "no class"

pytestmark = pytest.mark.usefixtures("full_precision")


def network(config=CLASSES, seed=0) -> UNet:
    torch.manual_seed(seed)
    return UNet(config).eval().requires_grad_(False)


def recipe(unet=CLASSES, **changes):
    return training.TrainingConfig(unet=unet, **{"steps": 4, "batch": 8, "warmup": 2, **changes})


def some_images(n=40, labels=None):
    images = torch.randint(0, 256, (n, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return SimpleNamespace(images=images, labels=labels, fingerprint="f" * 64)


@pytest.fixture
def labelled():
    return some_images(labels=torch.arange(40) % 3)


# --------------------------------------------------------------------------------------------- training


def test_labels_change_no_other_draw_and_are_dropped_image_by_image():
    images = some_images()
    images.images[:] = torch.arange(40)[:, None, None, None].to(torch.uint8)  # every image says which one it is
    config, labels = recipe(batch=512), torch.arange(40) % 3
    plain = training.draw(images.images, 7, config)
    told = training.draw(images.images, 7, config, labels=labels)
    assert plain.labels is None
    assert all(torch.equal(a, b) for a, b in zip(plain[:3], told[:3], strict=True))
    kept = told.labels != NONE
    which = ((told.x0[:, 0, 0, 0] + 1) * 127.5).round().long()
    assert torch.equal(told.labels[kept], labels[which[kept]])
    assert 0.05 < (~kept).double().mean() < 0.15
    assert torch.equal(told.labels, training.draw(images.images, 7, config, labels=labels).labels)


def test_the_loss_is_that_of_the_network_told_the_labels(labelled):
    unet = network()
    batch = training.draw(labelled.images, 0, recipe(), labels=labelled.labels)
    x_t = schedule.q_sample(batch.x0, batch.t, batch.noise)
    wanted = schedule.target(batch.x0, batch.t, batch.noise, "v_prediction")
    expected = (unet(x_t, batch.t, batch.labels) - wanted).square().mean((1, 2, 3))
    assert same_numbers(training.losses(unet, batch), expected)
    other = batch._replace(labels=(batch.labels + 1) % 3)
    assert not same_numbers(training.losses(unet, other), expected)


def test_parts_of_a_batch_share_labels_with_their_images(labelled):
    batch = training.draw(labelled.images, 0, recipe(), labels=labelled.labels)
    parts = [batch.part(rank, 2) for rank in range(2)]
    for rank, part in enumerate(parts):
        assert torch.equal(part.labels, batch.labels[rank::2]) and torch.equal(part.x0, batch.x0[rank::2])


def test_a_run_knows_which_labels_it_learned(tmp_path, labelled):
    what = training.train(tmp_path / "what", labelled, recipe(steps=1))
    where = training.train(tmp_path / "where", labelled, recipe(steps=1), labels=labelled.labels.flip(0))
    again = training.train(tmp_path / "again", labelled, recipe(steps=1), labels=labelled.labels)
    assert what.config == again.config and what.config["labels"] != where.config["labels"]
    assert what.final()["unet"]["unet.class_embedding.weight"].shape[0] == 4


@pytest.mark.parametrize(
    ("unet", "labels", "message"),
    [
        (CLASSES, None, "a network with 3 classes needs labels, and these images have none"),
        (CLASSES, torch.arange(40) % 4, "the labels run from 0 to 3, but a network with 3 classes knows 0 to 2"),
        (CLASSES, torch.arange(40) % 3 - 1, "the labels run from -1 to 1"),
        (CLASSES, torch.arange(30) % 3, "there are 30 labels for 40 images"),
        (PLAIN, torch.arange(40) % 3, "labels were given to a network without classes"),
    ],
)
def test_labels_that_do_not_fit_get_one_clear_sentence(tmp_path, unet, labels, message):
    with pytest.raises(Problem, match=message):
        training.train(tmp_path / "run", some_images(), recipe(unet), labels=labels)
    assert not (tmp_path / "run").exists()


def test_the_papers_training_runs(tmp_path, labelled):
    small = {"steps": 1, "batch": 4}
    for name, unet in (("paper", PLAIN), ("paper-conditional", CLASSES)):
        run = training.train(tmp_path / name, labelled, model.recipe(name, unet=unet, **small))
        assert run.results["images_seen"] == 4


def test_recipes_become_conditional_by_their_number_of_classes():
    assert model.recipe("embedded", classes=9).unet.classes == 9
    assert model.recipe("embedded").unet.classes == 0 and model.recipe("paper-conditional").unet.classes == 10
    assert model.recipe("paper-conditional", classes=100, steps=3).unet.dropout == 0.15


def test_a_trained_network_draws_what_its_label_says(tmp_path):
    """Two classes, dark and bright, learned in a few seconds."""
    labels = torch.arange(64) % 2
    images = some_images(64)
    images.images = (images.images // 8 + 32 + 160 * labels[:, None, None, None]).to(torch.uint8)
    unet = dataclasses.replace(PLAIN, classes=2, channels=(16, 16))
    config = recipe(unet, steps=80, batch=16, ema=0.9, learning_rate=5e-3)
    training.train(tmp_path / "runs" / "diffusion-lamp", images, config, labels=labels)
    lamp = model.load("lamp", tmp_path)
    made = ClassConditional(lamp, steps=10).generate(images.images[:8], 2, 0, labels[:8])
    brightness = made.double().mean((1, 2, 3, 4))
    assert brightness[labels[:8] == 0].max() < 100 and brightness[labels[:8] == 1].min() > 150


def test_pictures_while_training_change_nothing_in_it(tmp_path, labelled):
    drawn = model.draw_samples(tmp_path / "with")
    with_pictures = training.train(tmp_path / "with", labelled, recipe(), save_every=2, on_save=drawn)
    without = training.train(tmp_path / "without", labelled, recipe(), save_every=2)
    assert [path.name for path in sorted((tmp_path / "with").glob("*.png"))] == [
        "samples-000002.png",
        "samples-000004.png",
    ]
    assert with_pictures.metrics() == without.metrics()
    one, two = with_pictures.final(), without.final()
    for part in ("unet", "ema"):
        assert all(torch.equal(one[part][name], two[part][name]) for name in two[part])


# --------------------------------------------------------------------------------------------- sampling


def test_guidance_is_its_formula_and_the_same_for_v_and_noise():
    unet, labels = network(), torch.tensor([0, 2])
    made = sample(unet, 2, labels=labels, guidance=1.8, steps=1, seed=4)
    x, t = torch.randn(2, 3, 16, 16, generator=runtime.generator(4, "sample")), torch.full((2,), 999)
    with_label, without = unet(x, t, labels), unet(x, t, torch.tensor([NONE, NONE]))
    a = schedule.alpha_bar()[999]
    x0 = a.sqrt() * x - (1 - a).sqrt() * (2.8 * with_label - 1.8 * without)
    assert torch.allclose(made, x0.clamp(-1, 1), atol=1e-5)
    eps = 2.8 * (a.sqrt() * with_label + (1 - a).sqrt() * x) - 1.8 * (a.sqrt() * without + (1 - a).sqrt() * x)
    assert torch.allclose(((x - (1 - a).sqrt() * eps) / a.sqrt()), x0, atol=1e-2)


def test_guidance_zero_is_the_plain_network_and_no_labels_mean_no_class():
    unet, labels = network(), torch.tensor([0, 2])
    told = []
    plain = sample(unet, 2, labels=labels, steps=5, seed=1)
    unet.unet.class_embedding.register_forward_pre_hook(lambda module, inputs: told.append(inputs[0].tolist()))
    assert torch.equal(sample(unet, 2, labels=labels, guidance=0.0, steps=5, seed=1), plain)
    assert told == [[0, 2]] * 10  # for the encoder and for the decoder
    told.clear()
    free = sample(unet, 2, steps=5, seed=1)
    anchors = torch.zeros(2, 3, 16, 16)
    assert torch.equal(sample(unet, anchors=anchors, w=1.0, steps=5, seed=1), free) and not torch.equal(free, plain)
    sample(unet, anchors=anchors, w=0.1, steps=5, seed=1)
    assert all(row == [NONE] for row in told)  # one for all images


@pytest.mark.parametrize(
    ("unet", "how", "message"),
    [
        (PLAIN, dict(labels=torch.tensor([0, 1])), "this network was trained without labels"),
        (CLASSES, dict(labels=torch.tensor([0, 5])), "the labels run from 0 to 5"),
        (CLASSES, dict(labels=torch.tensor([0])), "there are 1 labels for 2 images"),
        (CLASSES, dict(guidance=1.8), "needs labels to guide towards"),
    ],
)
def test_bad_conditions_get_one_clear_sentence(unet, how, message):
    with pytest.raises(Problem, match=message):
        sample(network(unet), 2, steps=5, **how)


# ------------------------------------------------------------------------------------------- generators


def test_only_its_own_anchors_label_reaches_a_candidate():
    generator, anchors = ClassConditional(network(), steps=2), some_images(3).images
    made = generator.generate(anchors, 4, 0, torch.tensor([0, 1, 2]))
    assert made.shape == (3, 4, 3, 16, 16) and made.dtype == torch.uint8
    other = generator.generate(anchors, 4, 0, torch.tensor([0, 2, 2]))
    same = [same_images(made[i, j], other[i, j]) for i in range(3) for j in range(4)]
    assert same == [True] * 4 + [False] * 4 + [True] * 4
    assert torch.equal(made, generator.generate(255 - anchors, 4, 0, torch.tensor([0, 1, 2])))


def test_the_store_gives_every_chunk_and_shard_its_labels(tmp_path, monkeypatch):
    monkeypatch.setattr(positives, "CHUNK", 8)
    anchors = some_images(20, torch.arange(20) % 3)
    generator = ClassConditional(network(), steps=1)
    positives.make(tmp_path / "whole", anchors, generator, k=2, labels=anchors.labels)
    for i in range(2):
        positives.make(tmp_path / f"{i}", anchors, generator, k=2, labels=anchors.labels, shard=(i, 2))
    positives.merge([tmp_path / "0", tmp_path / "1"], tmp_path / "merged")
    whole, merged = (positives.read(tmp_path / name, anchors) for name in ("whole", "merged"))
    assert (whole == merged).all()
    rows, seed = slice(8, 16), runtime.derive(0, "positives", 8)
    expected = generator.generate(anchors.images[rows], 2, seed, anchors.labels[rows])
    assert torch.equal(whole[rows], expected)


def test_a_generator_of_classes_needs_classes_and_labels():
    with pytest.raises(Problem, match="knows no classes"):
        ClassConditional(network(PLAIN))
    with pytest.raises(Problem, match="need their anchors' labels"):
        ClassConditional(network()).generate(some_images(2).images, 1, 0)


# ----------------------------------------------------------------------- starting from other weights


def test_without_labels_a_network_is_told_no_class():
    unet, x, t = network(), torch.randn(2, 3, 16, 16), torch.tensor([10, 900])
    expected = unet(x, t, torch.tensor([NONE, NONE]))
    assert torch.equal(unet(x, t), expected)
    assert torch.equal(unet.decode(*unet.encode(x, t), t), expected)
    found = pooled(unet, some_images(4).images, 100, ["mid"])
    assert found["mid"].shape == (4, 16)


def test_classes_added_to_trained_weights_change_nothing_at_first(tmp_path, labelled):
    plain = network(PLAIN, seed=5)
    config = recipe(steps=1, learning_rate=0.0)
    run = training.train(tmp_path / "run", labelled, config, init=plain)
    state = run.final()["unet"]
    assert not state["unet.class_embedding.weight"].any() and state["unet.class_embedding.weight"].shape[0] == 4
    unet = network()
    unet.load_state_dict(state)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([10, 900])
    for labels in (None, torch.tensor([0, 2])):
        assert torch.allclose(unet(x, t, labels), plain(x, t), atol=1e-6)


def test_the_start_is_part_of_the_run_and_is_left_alone(tmp_path, labelled):
    plain = network(PLAIN, seed=5)
    before = [value.clone() for value in plain.state_dict().values()]
    first = training.train(tmp_path / "first", labelled, recipe(), init=plain)
    other = training.train(tmp_path / "other", labelled, recipe(), init=network(PLAIN, seed=6))
    assert first.config["init"] != other.config["init"] and first.metrics() != other.metrics()
    assert all(torch.equal(a, b) for a, b in zip(before, plain.state_dict().values(), strict=True))
    embedding = first.final()["unet"]["unet.class_embedding.weight"]
    assert embedding.any(), "what starts at zero learns"


def test_weights_of_another_network_are_refused(tmp_path, labelled):
    wider = network(dataclasses.replace(PLAIN, channels=(16, 16)))
    with pytest.raises(Problem, match="init is a network with .*channels=.16, 16.*: give one that fits"):
        training.train(tmp_path / "run", labelled, recipe(), init=wider)
    with pytest.raises(Problem, match="init is a network"):
        training.train(tmp_path / "run", labelled, recipe(PLAIN), init=network())
