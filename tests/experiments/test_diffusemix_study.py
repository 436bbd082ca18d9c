"""One task, several augmentations: what each training may differ in, and what is asked of it."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.experiments import diffusemix
from synpos_lib.experiments.diffusemix import Study, Task
from synpos_lib.results import evaluations, published, tables
from synpos_lib.train.frozen import Frozen


def short(folder) -> Study:
    return Study(folder, epochs=1, batch=10)


@pytest.fixture(scope="module")
def task():
    train, test = catalog.load("scenes", "train", n=40), catalog.load("scenes", "test", n=30)
    edited = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (40, 3, 3, 32, 32), dtype=np.uint8))
    fractals = torch.randint(0, 256, (4, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return Task("general", train, test, edited, fractals)


def test_every_augmentation_has_the_same_length(tmp_path, task):
    runs = {}
    for name in ("none", "cutmix", "diffusemix"):
        run, _ = short(tmp_path).train(task, name, seed=3)
        runs[name] = run
    config = {name: dict(run.config) for name, run in runs.items()}
    assert all(one["epochs"] == 1 and one["batch"] == 10 for one in config.values())
    own = ("augmentation", "functions", "code", "edits", "fractals", "diffusemix", "prompts")
    for one in config.values():
        for key in own:
            one.pop(key, None)
    assert config["none"] == config["cutmix"] == config["diffusemix"]
    assert len({run.results["loss"] for run in runs.values()}) == 3


def test_a_training_without_edits_does_not_depend_on_them(tmp_path, task):
    plain, _ = short(tmp_path).train(task, "none", seed=0)
    other = dataclasses.replace(task, edited=task.edited.flip(0))
    assert short(tmp_path).train(other, "none", seed=0)[0].config == plain.config
    mixed, _ = short(tmp_path).train(task, "diffusemix", seed=0)
    again, _ = short(tmp_path / "other").train(other, "diffusemix", seed=0)
    assert mixed.config["edits"] != again.config["edits"] and mixed.results["loss"] != again.results["loss"]


def test_the_parts_of_diffusemix_are_part_of_the_run(tmp_path, task):
    parts = dict(prompts=[2], masks="nothing", weight=0.0)
    run, _ = short(tmp_path).train(task, "diffusemix", seed=0, variant="only crayon", **parts)
    assert run.name == "classify-scenes-general-only_crayon-seed0" and run.config["prompts"] == [2]
    assert run.config["diffusemix"] == {"masks": "nothing", "weight": 0.0, "share": 0.5, "prompts": 1}


def test_accuracy_and_attacks_become_rows(tmp_path, task):
    upside_down = dataclasses.replace(task.test, images=task.test.images.flip(2), fingerprint="other")
    attack = {"n": 12, "epsilons": [4 / 255], "steps": 2, "restarts": 1}
    whole = dataclasses.replace(task, shifts={"upside down": upside_down}, attack=attack)
    rows = short(tmp_path).answers(whole, "none", seed=1)
    run, model = short(tmp_path).train(task, "none", seed=1)
    right = model(task.test.images / 255)["what"].argmax(1) == task.test.labels
    assert rows.metric.tolist() == ["accuracy", "accuracy", "clean", "FGSM 4", "PGD 4"]
    assert rows.target.tolist() == ["scenes", "upside down", "scenes", "scenes", "scenes"]
    assert rows.n.tolist() == [30, 30, 12, 12, 12]
    assert rows.value[0] == pytest.approx(right.double().mean().item(), abs=0.04)
    assert rows.value[2] == pytest.approx(right[:12].double().mean().item(), abs=0.09)
    assert (rows.run == run.name).all() and (rows.seconds == run.results["seconds"]).all()
    stored = evaluations.collect(tmp_path, "accuracy", "classify-")
    assert stored.value.tolist() == rows.value[:2].tolist() and (stored.variant == "general").all()
    assert diffusemix.few(whole, 1, seed=0).shifts == diffusemix.only(whole, ["crab"]).attack == {}


def test_an_example_is_what_training_sees(task):
    assert torch.equal(diffusemix.example(task, "none", 5), task.train.images[:5])
    mixed = diffusemix.example(task, "diffusemix", 5, seed=3)
    source = diffusemix.mixing.DiffuseMix(task.train.images, task.edited, task.fractals, share=1.0)
    assert torch.equal(mixed, source(torch.arange(5), torch.Generator().manual_seed(3)))
    assert not torch.equal(diffusemix.example(task, "cutout", 5), task.train.images[:5])


def test_few_images_are_as_many_of_each_class_with_their_own_edits(task):
    part = diffusemix.few(task, 2, seed=0)
    assert part.name == "2 per class"
    assert part.train.labels.bincount().tolist() == [2] * 10
    for image, edit in zip(part.train.images, part.edited, strict=True):
        row = (task.train.images == image).flatten(1).all(1).nonzero().item()
        assert (task.edited[row] == edit).all()
    assert diffusemix.few(task, 2, seed=1).train.fingerprint != part.train.fingerprint
    smallest = int(task.train.labels.bincount().min())
    with pytest.raises(Problem, match=f"a class of 'scenes' has {smallest} images"):
        diffusemix.few(task, smallest + 1, seed=0)


def test_some_classes_alone_are_numbered_anew(task):
    part = diffusemix.only(task, ("squid", "crab"))
    names = [task.train.classes[i] for i in task.test.labels.tolist()]
    expected = [("squid", "crab").index(name) for name in names if name in ("squid", "crab")]
    assert part.test.labels.tolist() == expected and part.train.classes == ("squid", "crab")
    assert len(part.edited) == len(part.train) and set(part.train.labels.tolist()) == {0, 1}
    with pytest.raises(Problem, match="no class 'squit' .did you mean 'squid'"):
        diffusemix.only(task, ["squit"])


def test_the_tasks_of_a_seed(task):
    frozen = Frozen(task.classifier(0).encoder.requires_grad_(False), 64, (0.5,) * 3, (0.25,) * 3)
    whole = dataclasses.replace(task, shifts={"-sketch": task.test}, attack={"n": 3})
    found = {one.name: one for one in diffusemix.tasks(whole, 1, [1, 2], ["squid", "crab"], frozen)}
    assert {name: len(one.train) for name, one in found.items()} == {
        "general": 40,
        "fine-grained": sum(whole.train.classes[c] in ("squid", "crab") for c in whole.train.truth),
        "1 per class": 10,
        "2 per class": 20,
        "fine-tuning": 10,
    }
    assert found["fine-grained"].train.classes == found["fine-grained"].test.classes == ("squid", "crab")
    assert found["fine-tuning"].encoder is frozen and found["1 per class"].encoder == "tiny"
    assert found["fine-tuning"].train.fingerprint == found["1 per class"].train.fingerprint
    assert [name for name, one in found.items() if one.shifts or one.attack] == ["general"]
    assert [one.name for one in diffusemix.tasks(task, 0, [1])] == ["general", "1 per class"]


def test_under_attack_counts_what_is_left_of_the_right_answers():
    rows = [
        ("none", 0, "accuracy", 0.9),
        ("none", 0, "clean", 0.8),
        ("none", 0, "PGD 2", 0.6),
        ("none", 1, "clean", 0.4),
        ("none", 1, "PGD 2", 0.3),
        ("diffusemix", 0, "clean", 1.0),
        ("diffusemix", 0, "PGD 2", 0.7),
    ]
    frame = diffusemix.under_attack(pd.DataFrame(rows, columns=["method", "seed", "metric", "value"]))
    assert set(frame.metric) == {"PGD 2"}  # and better without an attack is not better under it
    assert frame.value.tolist() == pytest.approx([0.75, 0.75, 0.7])


def test_a_trained_encoder_is_where_training_starts_and_stays_as_it_is(tmp_path, task):
    given = task.classifier(9).encoder
    frozen = Frozen(given.requires_grad_(False), 64, (0.5,) * 3, (0.25,) * 3)
    tuned = dataclasses.replace(task, name="fine-tuning", encoder=frozen)
    before = [value.clone() for value in given.state_dict().values()]
    run, model = short(tmp_path).train(tuned, "none", seed=0)
    assert all(torch.equal(a, b) for a, b in zip(before, given.state_dict().values(), strict=True))
    start = tuned.classifier(0)
    assert torch.equal(next(start.encoder.parameters()), next(given.parameters()))
    assert not torch.equal(next(model.encoder.parameters()), next(given.parameters()))
    x = torch.rand(2, 3, 32, 32)
    assert torch.allclose(start.eval().features(x), given.eval()((x - 0.5) / 0.25), atol=1e-5)


def test_torchvisions_weights_are_read_from_their_file(tmp_path):
    from torchvision import models

    for network in (models.resnet50, models.resnet18):
        torch.save(network().state_dict(), tmp_path / f"{network.__name__}.pth")
    frozen = diffusemix.trained_encoder(str(tmp_path / "resnet50.pth"), tmp_path)
    assert frozen.width == 2048 and frozen.mean == (0.485, 0.456, 0.406)
    for name in ("resnet18.pth", "nothing.pth"):
        with pytest.raises(Problem, match="does not hold torchvision's weights of ResNet-50"):
            diffusemix.trained_encoder(str(tmp_path / name), tmp_path)


def test_all_have_the_start_of_their_seed_and_their_own_edits(tmp_path, task, monkeypatch):
    starts = []
    monkeypatch.setattr(
        diffusemix.classify, "train", lambda path, model, *a, **k: starts.append(next(model.parameters()).clone())
    )
    for name, seed in (("none", 0), ("cutmix", 0), ("none", 1)):
        short(tmp_path).train(task, name, seed=seed)
    assert torch.equal(starts[0], starts[1]) and not torch.equal(starts[0], starts[2])
    part = diffusemix.only(task, ("squid", "crab"))
    for image, edit in zip(part.train.images, part.edited, strict=True):
        assert (task.edited[(task.train.images == image).flatten(1).all(1).nonzero().item()] == edit).all()


def test_every_claim_is_a_paired_difference_under_its_own_id():
    def rows(variant, metric="accuracy", **methods):
        common = {"dataset": "scenes", "target": "scenes", "variant": variant, "metric": metric}
        return [
            {**common, "method": method.replace("_", " "), "seed": seed, "value": value}
            for method, values in methods.items()
            for seed, value in enumerate(values)
        ]

    general = rows("general", none=(0.5, 0.6), diffusemix=(0.7, 0.7), cutmix=(0.6, 0.6))
    scarce = rows("5 per class", none=(0.3, 0.4), diffusemix=(0.2, 0.2))
    attack = rows("general", "PGD 2", none=(0.1, 0.1), diffusemix=(0.3, 0.4))
    attack += rows("general", "clean", none=(0.5, 0.5), diffusemix=(0.6, 0.8))
    shift = [row | {"target": "-sketch", "value": 0} for row in general]
    parts = pd.DataFrame(rows("5 per class", none=(0.3, 0.4), edits_only=(0.1, 0.2), diffusemix=(0.2, 0.2)))
    frame = pd.DataFrame([*general, *scarce, *attack, *shift])
    table = diffusemix.claims(frame, parts, tables.share(95, 100), 2, "embedded").set_index("of")
    measured = table.measured.round(3).to_dict()
    assert {of.removeprefix("diffusemix-"): value for of, value in measured.items() if value == value} == {
        "generated-only": -0.2,
        "labels": 0.95,
        "classification": 0.15,
        "scarcity": -0.15,
        "attack": 0.3,
    }
    absent = table[table.n == 0]
    assert set(absent.verdict) == {"not attempted"}
    assert [of.removeprefix("diffusemix-") for of in absent.index] == ["compatible", "concatenation", "fractals"]
    fine = diffusemix.claims(frame, parts, tables.share(95, 100), 2, "fine-grained")
    assert fine.of[fine.claim == "DiffuseMix above none: general (scenes)"].tolist() == ["diffusemix-fine-grained"]
    assert set(table.index) | set(fine.of) <= set(published.load("claims").id)
