"""One task, several augmentations: what each training may differ in, and what is asked of it."""

import dataclasses

import numpy as np
import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.experiments import diffusemix as augmentations
from synpos_lib.experiments.diffusemix import Task
from synpos_lib.results import evaluations
from synpos_lib.train.frozen import Frozen

SHORT = dict(steps=4, batch=10)


@pytest.fixture(scope="module")
def task():
    train, test = catalog.load("scenes", "train", n=40), catalog.load("scenes", "test", n=30)
    edited = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 3, 32, 32), dtype=np.uint8))
    fractals = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Task("general", train, test, edited, fractals)


def test_every_augmentation_has_the_same_steps(tmp_path, task):
    runs = {}
    for name in ("none", "cutmix", "diffusemix"):
        run, _ = augmentations.learn(tmp_path, task, name, seed=3, **SHORT)
        runs[name] = run
    config = {name: dict(run.config) for name, run in runs.items()}
    assert all(one["epochs"] == 1 and one["batch"] == 10 for one in config.values())
    own = ("augmentation", "code", "edits", "fractals", "diffusemix", "prompts")
    for one in config.values():
        for key in own:
            one.pop(key, None)
    assert config["none"] == config["cutmix"] == config["diffusemix"]
    assert len({run.results["loss"] for run in runs.values()}) == 3


def test_a_training_without_edits_does_not_depend_on_them(tmp_path, task):
    plain, _ = augmentations.learn(tmp_path, task, "none", **SHORT)
    other = dataclasses.replace(task, edited=task.edited.flip(0))
    assert augmentations.learn(tmp_path, other, "none", **SHORT)[0].config == plain.config
    mixed, _ = augmentations.learn(tmp_path, task, "diffusemix", **SHORT)
    again, _ = augmentations.learn(tmp_path / "other", other, "diffusemix", **SHORT)
    assert mixed.config["edits"] != again.config["edits"] and mixed.results["loss"] != again.results["loss"]


def test_the_parts_of_diffusemix_are_part_of_the_run(tmp_path, task):
    run, _ = augmentations.learn(
        tmp_path, task, "diffusemix", prompts=[2], masks="nothing", weight=0.0, variant="only crayon", **SHORT
    )
    assert run.name == "classify-scenes-general-only_crayon-seed0" and run.config["prompts"] == [2]
    assert run.config["diffusemix"] == {"masks": "nothing", "weight": 0.0, "share": 0.5, "prompts": 1}


def test_accuracy_and_attacks_become_rows(tmp_path, task):
    upside_down = dataclasses.replace(task.test, images=task.test.images.flip(2), fingerprint="other")
    attack = {"n": 12, "epsilons": [4 / 255], "steps": 2, "restarts": 1}
    rows = augmentations.teach(tmp_path, task, "none", {"upside down": upside_down}, seed=1, attack=attack, **SHORT)
    run, model = augmentations.learn(tmp_path, task, "none", seed=1, **SHORT)
    right = model(task.test.images / 255)["what"].argmax(1) == task.test.labels
    assert [row["metric"] for row in rows] == ["accuracy", "accuracy", "clean", "FGSM 4", "PGD 4"]
    assert [row["target"] for row in rows] == ["scenes", "upside down", "scenes", "scenes", "scenes"]
    assert [row["n"] for row in rows] == [30, 30, 12, 12, 12]
    assert rows[0]["value"] == pytest.approx(right.double().mean().item(), abs=0.04)
    assert rows[2]["value"] == pytest.approx(right[:12].double().mean().item(), abs=0.09)
    assert all(row["run"] == run.name and row["seconds"] == run.results["seconds"] for row in rows)
    kept = evaluations.collect(tmp_path, "accuracy", "classify-")
    assert kept.value.tolist() == [row["value"] for row in rows[:2]] and (kept.variant == "general").all()


def test_an_example_is_what_training_sees(task):
    assert torch.equal(augmentations.example(task, "none", 5), task.train.images[:5])
    mixed = augmentations.example(task, "diffusemix", 5, seed=3)
    source = augmentations.mixing.DiffuseMix(task.train.images, task.edited, task.fractals, share=1.0)
    assert torch.equal(mixed, source(torch.arange(5), torch.Generator().manual_seed(3)))
    assert not torch.equal(augmentations.example(task, "cutout", 5), task.train.images[:5])


def test_few_images_are_as_many_of_each_class_with_their_own_edits(task):
    part = augmentations.few(task, 2, seed=0)
    assert part.name == "2 per class"
    assert part.train.labels.bincount().tolist() == [2] * 10
    for image, edit in zip(part.train.images, part.edited, strict=True):
        row = (task.train.images == image).flatten(1).all(1).nonzero().item()
        assert (task.edited[row] == edit).all()
    assert augmentations.few(task, 2, seed=1).train.fingerprint != part.train.fingerprint
    smallest = int(task.train.labels.bincount().min())
    with pytest.raises(Problem, match=f"a class of 'scenes' has {smallest}"):
        augmentations.few(task, smallest + 1, seed=0)


def test_some_classes_alone_are_numbered_anew(task):
    part = augmentations.only(task, ("stripes", "bars"))
    names = [task.train.classes[i] for i in task.test.labels.tolist()]
    expected = [("stripes", "bars").index(name) for name in names if name in ("stripes", "bars")]
    assert part.test.labels.tolist() == expected and part.train.classes == ("stripes", "bars")
    assert len(part.edited) == len(part.train) and set(part.train.labels.tolist()) == {0, 1}
    with pytest.raises(Problem, match="no class 'strips' .did you mean 'stripes'"):
        augmentations.only(task, ["strips"])


def test_a_trained_encoder_is_where_training_starts_and_stays_as_it_is(tmp_path, task):
    given = task.classifier(9).encoder
    frozen = Frozen(given.requires_grad_(False), 64, (0.5,) * 3, (0.25,) * 3)
    tuned = augmentations.tuning(task, frozen)
    before = [value.clone() for value in given.state_dict().values()]
    run, model = augmentations.learn(tmp_path, tuned, "none", **SHORT)
    assert all(torch.equal(a, b) for a, b in zip(before, given.state_dict().values(), strict=True))
    start = tuned.classifier(0)
    assert torch.equal(next(start.encoder.parameters()), next(given.parameters()))
    assert not torch.equal(next(model.encoder.parameters()), next(given.parameters()))
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(start.eval().features(x), given.eval()((x - 0.5) / 0.25), atol=1e-5)


def test_torchvisions_weights_are_read_from_their_file(tmp_path):
    from torchvision import models

    torch.save(models.resnet18().state_dict(), tmp_path / "resnet18.pth")
    frozen = augmentations.torchvision_encoder(tmp_path / "resnet18.pth", "resnet18-imagenet")
    assert frozen.width == 512 and frozen.mean == (0.485, 0.456, 0.406)
    with pytest.raises(Problem, match="does not hold torchvision's weights of resnet50-imagenet"):
        augmentations.torchvision_encoder(tmp_path / "resnet18.pth")
    with pytest.raises(Problem, match="does not hold torchvision's weights"):
        augmentations.torchvision_encoder(tmp_path / "nothing.pth")


def test_all_have_the_start_of_their_seed_and_their_own_edits(tmp_path, task, monkeypatch):
    starts = []
    monkeypatch.setattr(
        augmentations.classify, "train", lambda path, model, *a, **k: starts.append(next(model.parameters()).clone())
    )
    for name, seed in (("none", 0), ("cutmix", 0), ("none", 1)):
        augmentations.learn(tmp_path, task, name, seed=seed, steps=4, batch=10)
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    part = augmentations.only(task, ("stripes", "bars"))
    for image, edit in zip(part.train.images, part.edited, strict=True):
        assert (task.edited[(task.train.images == image).flatten(1).all(1).nonzero().item()] == edit).all()
