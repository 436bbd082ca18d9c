"""Which augmentation teaches a classifier best? One training per task, augmentation and seed, and what is asked of it.

    task = Task("general", train, test, edited, fractals)
    rows = teach(folder, task, "cutmix", seed=0)

Within a task every training has the same images, the same optimiser steps and the same recipe, which is never tuned;
the last epoch counts. What differs is the augmentation, on top of the flips and small shifts that all have.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pandas as pd
import torch
from torch import Tensor

from synpos_lib import mixing
from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import Run, read_run
from synpos_lib.data import views
from synpos_lib.data.catalog import Images, take
from synpos_lib.data.images import images_fingerprint
from synpos_lib.diffusion.unet import weights_fingerprint
from synpos_lib.evaluate.adversarial import robustness
from synpos_lib.results import evaluations
from synpos_lib.results.tables import Estimate, paired
from synpos_lib.train import classify, encoders
from synpos_lib.train.frozen import Frozen
from synpos_lib.train.pretrain import load_encoder

CODE = ("synpos_lib.experiments.diffusemix",)


@dataclass(frozen=True)
class Task:
    """What is learned, with the edits of each training image, and the images that are asked about."""

    name: str
    train: Images
    test: Images
    edited: Tensor  # (N, K, 3, H, W) uint8, one edit for each training image and prompt
    fractals: Tensor  # (V, 3, H, W) uint8
    encoder: str | Frozen = "tiny"  # by name, trained from nothing; or one that is trained already

    @cached_property
    def ingredients(self) -> dict[str, str]:
        """Which edits and fractals these are."""
        return {"edits": images_fingerprint(self.edited)[:16], "fractals": images_fingerprint(self.fractals)[:16]}

    def classifier(self, seed: int) -> classify.Classifier:
        """A classifier before its first step."""
        torch.manual_seed(runtime.derive(seed, "classifier"))
        classes = {"what": len(self.train.classes)}
        if isinstance(self.encoder, str):
            return classify.Classifier(*encoders.by_name(self.encoder), classes)
        frozen = self.encoder
        network = copy.deepcopy(frozen.network).requires_grad_(True)
        return classify.Classifier(network, frozen.width, classes, frozen.mean, frozen.std)


def few(task: Task, per_class: int, seed: int) -> Task:
    """The task `<k> per class`: so many training images of each class, drawn anew for each seed."""
    labels = task.train.labels
    smallest = int(labels.bincount(minlength=len(task.train.classes)).min())
    if per_class > smallest:
        raise Problem(f"{per_class} images per class were asked for, and a class of '{task.train.name}' has {smallest}")
    shuffled = torch.randperm(len(labels), generator=runtime.generator(seed, "few"))
    rows = torch.cat([shuffled[labels[shuffled] == c][:per_class] for c in range(len(task.train.classes))])
    rows = rows.sort().values
    return replace(task, name=f"{per_class} per class", train=take(task.train, rows), edited=task.edited[rows.numpy()])


def only(task: Task, classes: Sequence[str]) -> Task:
    """The task `fine-grained`: these classes alone, which differ in one detail, in training and test."""
    for name in classes:
        if name not in task.train.classes:
            raise Problem(f"'{task.train.name}' has no class '{name}' ({suggest(name, task.train.classes)})")
    index = [task.train.classes.index(name) for name in classes]
    number = torch.full((len(task.train.classes),), -1)
    number[index] = torch.arange(len(index))

    def part(images: Images) -> Images:
        rows = (number[images.labels] >= 0).nonzero()[:, 0]
        return replace(take(images, rows), labels=number[images.labels[rows]], classes=tuple(classes))

    rows = (number[task.train.labels] >= 0).nonzero()[:, 0]
    edited = task.edited[rows.numpy()]
    return replace(task, name="fine-grained", train=part(task.train), test=part(task.test), edited=edited)


def tuning(task: Task, start: Frozen) -> Task:
    """The task `fine-tuning`: the same images, and an encoder that is trained already."""
    return replace(task, name="fine-tuning", encoder=start)


def trained_encoder(name: str, folder: Path) -> Frozen:
    """Where fine-tuning starts: a run of notebook 07 in this folder, by name, or torchvision's weights in a file."""
    return load_encoder(read_run(folder / name)) if (folder / name).is_dir() else torchvision_encoder(name)


def torchvision_encoder(weights: str | Path, name: str = "resnet50-imagenet") -> Frozen:
    """torchvision's ResNet with the weights in a file, as torchvision offers them for download."""
    network, width = encoders.by_name(name)
    try:
        state = torch.load(Path(weights).expanduser(), map_location="cpu", weights_only=True)
        network.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    except Exception as error:  # torch.load raises nearly anything on a file that is not its own
        raise Problem(
            f"{weights} does not hold torchvision's weights of {name} ({str(error).splitlines()[0]}): give the file "
            f"that torchvision downloads, or name a run of notebook 07"
        ) from error
    return Frozen(network, width, *views.NORMALIZATION["imagenet"])


# --------------------------------------------------------------------------------------- train and ask


def learn(
    folder: Path,  # …/runs
    task: Task,
    augmentation: str,
    *,
    seed: int = 0,
    steps: int = 150,  # of the optimiser, the same for every augmentation
    batch: int = 25,
    recipe: str = "embedded",
    prompts: Sequence[int] | None = None,  # of DiffuseMix: which of the edits; None: all
    variant: str = "",  # a name for what deviates from DiffuseMix's defaults
    **settings: object,  # of DiffuseMix: masks, weight, share
) -> tuple[Run, classify.Classifier]:
    """Train, continue or reuse one classifier."""
    if len(task.train) < batch:
        raise Problem(f"the task '{task.name}' has {len(task.train)} images, fewer than a batch of {batch}")
    model = task.classifier(seed)
    edited = task.edited if prompts is None else task.edited[:, list(prompts)]
    source = mixing.DiffuseMix(task.train.images, edited, task.fractals, **settings)
    how = mixing.by_name(augmentation, encoder=model.encoder, fractals=task.fractals, source=source)
    config = {
        "images": task.train.fingerprint,
        "encoder": task.encoder if isinstance(task.encoder, str) else weights_fingerprint(task.encoder.network),
        "augmentation": augmentation,
        "classes": len(task.train.classes),
    }
    if how:
        config |= task.ingredients
    if "source" in how:
        config |= {"diffusemix": source.settings, "prompts": list(prompts or range(task.edited.shape[1]))}
    epochs = max(1, round(steps / (len(task.train) // batch)))
    path = folder / run_name(task.train.name, task.name, variant or augmentation, seed)
    recipe_of = classify.SETTINGS[recipe] | {"epochs": epochs, "batch": batch, "save_every": max(1, epochs // 5)}
    run = classify.train(
        path, model, task.train.images, {"what": task.train.labels}, config, seed=seed, **recipe_of, **how
    )
    return run, model


def run_name(dataset: str, task: str, augmentation: str, seed: int) -> str:
    """What a training is called among the runs."""
    words = "-".join(["classify", dataset, task, augmentation])
    return "".join(c if c.isalnum() or c in "-.=" else "_" for c in words) + f"-seed{seed}"


def teach(
    folder: Path,
    task: Task,
    augmentation: str,
    tests: dict[str, Images] | None = None,  # further test sets
    *,
    seed: int = 0,
    variant: str = "",
    attack: dict | None = None,  # of `robustness`, with the number of images under `n`; None: it is not attacked
    **how: object,  # of `learn`
) -> list[dict]:
    """Train a classifier and ask it: rows of results with the training's name and seconds.

    The metric is `accuracy`, or an attack and its radius in grey levels, such as `FGSM 2`.
    """
    run, model = learn(folder, task, augmentation, seed=seed, variant=variant, **how)
    named = {"dataset": task.train.name, "method": variant or augmentation, "variant": task.name, "seed": seed}
    rows = accuracy(folder, run, model, {task.test.name: task.test} | (tests or {}), **named).metrics()
    if attack:
        few = take(task.test, torch.arange(len(task.test))[: attack["n"]])
        rows += attacks(folder, run, model, few, attack, **named).metrics()
    return [{**row, "run": run.name, "seconds": run.results["seconds"]} for row in rows]


def accuracy(folder: Path, run: Run, model: classify.Classifier, tests: dict[str, Images], **named: object) -> Run:
    """How many images of each test set it gets right, as rows of the protocol `accuracy`."""

    def ask() -> list[dict]:
        rows = []
        for target, test in tests.items():
            right = classify.predict(model, test.images)["what"].argmax(1) == test.labels
            rows.append(_row(named, target, "accuracy", right.double().mean().item(), len(test)))
        return rows

    config = {"tests": {target: test.fingerprint for target, test in tests.items()}, **named}
    return evaluations.evaluate(folder, "accuracy", run, config, ask, CODE)


def attacks(folder: Path, run: Run, model: classify.Classifier, test: Images, attack: dict, **named: object) -> Run:
    """Accuracy under attack, as rows of the protocol `attack`."""

    def ask() -> list[dict]:
        how = {name: value for name, value in attack.items() if name != "n"}
        rows = []
        for found in robustness(model, test.images, test.labels, **how):
            metric = f"{found['attack']} {255 * found['epsilon']:g}".removesuffix(" 0")
            rows.append(_row(named, test.name, metric, found["value"], found["n"]))
        return rows

    return evaluations.evaluate(folder, "attack", run, {"test": test.fingerprint, **attack, **named}, ask, CODE)


def _row(named: dict, target: str, metric: str, value: float, n: int) -> dict:
    return {**named, "target": target, "factor": "what", "metric": metric, "value": value, "n": n}


def minus(rows: pd.DataFrame, one: str, other: str) -> Estimate | None:
    """One method minus another, paired over seeds; None where one of them was not trained."""
    values = rows.pivot_table(index="seed", columns="method", values="value")
    return paired(values[one], values[other]) if {one, other} <= set(values) else None


def example(task: Task, augmentation: str, n: int, *, seed: int = 0) -> Tensor:
    """What a training sees of the first n images, unless they are left as they are: uint8 (n, 3, H, W)."""
    rows, draw = torch.arange(n), torch.Generator().manual_seed(seed)
    source = mixing.DiffuseMix(task.train.images, task.edited, task.fractals, share=1.0)
    how = mixing.by_name(augmentation, encoder=None, fractals=task.fractals, source=source)
    x = how["source"](rows, draw) if "source" in how else task.train.images[rows]
    if "mix" in how:
        y = torch.nn.functional.one_hot(task.train.labels[rows]).float()
        x = (how["mix"](x / 255, y, draw)[0] * 255).round().to(torch.uint8)
    return x
