"""DiffuseMix's comparison: one classifier for each task, augmentation and seed.

    study = Study(runs, epochs=240, batch=20, recipe="embedded")
    rows = study.answers(Task("general", train, test, edited, fractals), "cutmix", seed=0)

Within a task every training has the same images, the same number of epochs and the same recipe, which is never tuned;
the last epoch counts. What differs is the augmentation, on top of the flips and small shifts that all have.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from synpos_lib import mixing
from synpos_lib.core import runtime
from synpos_lib.core.arrays import gather
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.files import safe_name
from synpos_lib.core.fingerprint import weights_fingerprint
from synpos_lib.core.runs import Run, read_run
from synpos_lib.data import views
from synpos_lib.data.images import Images, images_fingerprint, take
from synpos_lib.evaluate.adversarial import attacks
from synpos_lib.evaluate.classifier import accuracy
from synpos_lib.experiments import quiet
from synpos_lib.results import evaluations, tables
from synpos_lib.results.claims import claim
from synpos_lib.train import classify, encoders
from synpos_lib.train.frozen import Frozen
from synpos_lib.train.pretrain import load_encoder

ACCURACY_CODE, ATTACK_CODE = ("synpos_lib.evaluate.classifier",), ("synpos_lib.evaluate.adversarial",)
CLAIMS = {"general": "classification", "fine-grained": "fine-grained", "fine-tuning": "fine-tuning"}  # task: its claim


@dataclass(frozen=True)
class Task:
    """What is learned: training images with their edits, and test images."""

    name: str
    train: Images
    test: Images
    edited: Tensor  # (N, K, 3, H, W) uint8, one edit for each training image and prompt
    fractals: Tensor  # (V, 3, H, W) uint8
    encoder: str | Frozen = "tiny"  # a name, to train from the beginning, or a trained one, to fine-tune
    shifts: dict[str, Images] = field(default_factory=dict)  # further test sets by name
    attack: dict[str, Any] = field(default_factory=dict)  # settings of `adversarial.attacks`; empty: no attack

    def classifier(self, seed: int) -> classify.Classifier:
        """An untrained classifier."""
        torch.manual_seed(runtime.derive(seed, "classifier"))
        classes = {"what": len(self.train.classes)}
        if isinstance(self.encoder, str):
            return classify.Classifier(*encoders.by_name(self.encoder), classes)
        frozen = self.encoder
        network = copy.deepcopy(frozen.network).requires_grad_(True)
        return classify.Classifier(network, frozen.width, classes, frozen.mean, frozen.std)


def few(task: Task, per_class: int, seed: int) -> Task:
    """The task `<k> per class`: k training images of each class, drawn anew for each seed."""
    labels = task.train.truth
    smallest = int(labels.bincount(minlength=len(task.train.classes)).min())
    if per_class > smallest:
        raise Problem(f"a class of '{task.train.name}' has {smallest} images, not {per_class}: lower per_class")
    shuffled = torch.randperm(len(labels), generator=runtime.generator(seed, "few"))
    rows = torch.cat([shuffled[labels[shuffled] == c][:per_class] for c in range(len(task.train.classes))])
    rows = rows.sort().values
    train, edited = take(task.train, rows), gather(task.edited, rows)
    return replace(task, name=f"{per_class} per class", train=train, edited=edited, shifts={}, attack={})


def only(task: Task, classes: Sequence[str]) -> Task:
    """The task `fine-grained`: only these classes, which are alike, in training and test."""
    for name in classes:
        if name not in task.train.classes:
            raise Problem(f"'{task.train.name}' has no class '{name}' ({suggest(name, task.train.classes)})")
    number = torch.full((len(task.train.classes),), -1)
    number[[task.train.classes.index(name) for name in classes]] = torch.arange(len(classes))

    def part(images: Images) -> tuple[Images, Tensor]:
        rows = (number[images.truth] >= 0).nonzero()[:, 0]
        return replace(take(images, rows), labels=number[images.truth[rows]], classes=tuple(classes)), rows

    (train, rows), (test, _) = part(task.train), part(task.test)
    edited = gather(task.edited, rows)
    return replace(task, name="fine-grained", train=train, test=test, edited=edited, shifts={}, attack={})


def tasks(
    whole: Task,
    seed: int,
    per_class: Sequence[int],
    alike: Sequence[str] = (),  # classes of the task `fine-grained`; empty: no such task
    start: Frozen | None = None,  # where fine-tuning starts; None: no such task
) -> list[Task]:
    """The kinds of training with the images of one seed; fine-tuning has the first number of images per class."""
    kinds = [whole]
    if alike:
        kinds.append(only(whole, alike))
    kinds += [few(whole, k, seed) for k in per_class]
    if start and per_class:
        kinds.append(replace(kinds[-len(per_class)], name="fine-tuning", encoder=start))
    return kinds


def trained_encoder(name: str, folder: Path) -> Frozen:
    """Where fine-tuning starts: a run of notebook 07 in this folder, or a file with torchvision's ResNet-50."""
    if (folder / name).is_dir():
        return load_encoder(read_run(folder / name))
    network, width = encoders.by_name("resnet50-imagenet")
    try:
        state = torch.load(Path(name).expanduser(), map_location="cpu", weights_only=True)
        network.load_state_dict({key: value for key, value in state.items() if not key.startswith("fc.")})
    except Exception as error:  # torch.load raises nearly anything on a file of another kind
        raise Problem(
            f"{name} does not hold torchvision's weights of ResNet-50 ({str(error).splitlines()[0]}): give the file "
            f"that torchvision downloads, or name a run of notebook 07"
        ) from error
    return Frozen(network, width, *views.NORMALIZATION["imagenet"])


@dataclass
class Study:
    """What all trainings have in common."""

    runs: Path  # the folder of all runs
    epochs: int = 240  # the same for every task and augmentation
    batch: int = 20
    recipe: str = "embedded"

    def answers(self, task: Task, augmentation: str, *, seed: int, variant: str = "", **parts: Any) -> pd.DataFrame:
        """Train, then evaluate: a row for every test set, and for every attack that the task has.

        The augmentation (or variant) is the `method`, the task the `variant`; further columns are `run` and `seconds`.
        """
        about = {"dataset": task.train.name, "method": variant or augmentation, "variant": task.name, "seed": seed}
        tests = {task.test.name: task.test} | task.shifts
        with quiet():
            run, model = self.train(task, augmentation, seed=seed, variant=variant, **parts)
            config: dict[str, Any] = {"tests": {target: test.fingerprint for target, test in tests.items()}}
            measure = partial(accuracy, model, tests)
            rows = evaluations.evaluate(self.runs, "accuracy", run, config, measure, ACCURACY_CODE, **about).metrics()
            if task.attack:
                config = {"test": task.test.fingerprint, **task.attack}
                measure = partial(attacks, model, task.test, **task.attack)
                rows += evaluations.evaluate(self.runs, "attack", run, config, measure, ATTACK_CODE, **about).metrics()
        return pd.DataFrame(rows).assign(run=run.name, seconds=run.results["seconds"])

    def train(
        self,
        task: Task,
        augmentation: str,
        *,
        seed: int,
        variant: str = "",  # a name for what deviates from DiffuseMix's defaults
        prompts: Sequence[int] | None = None,  # of DiffuseMix: which of the edits; None: all
        **settings: Any,  # of DiffuseMix: masks, weight, share
    ) -> tuple[Run, classify.Classifier]:
        """Train, continue or reuse one classifier."""
        if len(task.train) < self.batch:
            raise Problem(f"the task '{task.name}' has {len(task.train)} images, fewer than a batch of {self.batch}")
        model = task.classifier(seed)
        edited = task.edited if prompts is None else gather(task.edited, torch.tensor(prompts), 1)
        source = mixing.DiffuseMix(task.train.images, edited, task.fractals, **settings)
        mix = mixing.by_name(augmentation, encoder=model.encoder, fractals=task.fractals, source=source)
        config = {
            "images": task.train.fingerprint,
            "encoder": task.encoder if isinstance(task.encoder, str) else weights_fingerprint(task.encoder.network),
            "augmentation": augmentation,
            "classes": len(task.train.classes),
        }
        if mix:
            parts = {"edits": task.edited, "fractals": task.fractals}
            config |= {name: images_fingerprint(images)[:16] for name, images in parts.items()}
        if "source" in mix:
            config |= {"diffusemix": source.settings, "prompts": list(prompts or range(task.edited.shape[1]))}
        folder = self.runs / safe_name(f"classify-{task.train.name}-{task.name}-{variant or augmentation}-seed{seed}")
        length = {"epochs": self.epochs, "batch": self.batch, "save_every": max(1, self.epochs // 5)}
        recipe: dict[str, Any] = {**classify.SETTINGS[self.recipe], **length, "seed": seed}
        targets = {"what": task.train.truth}
        return classify.train(folder, model, task.train.images, targets, config, **recipe, **mix), model


def under_attack(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of attacks, with the accuracy in shares of the same classifier's on the same images unchanged.

    Under PGD that is the share of the images right before the attack that stay right, so that a classifier which is
    merely better without an attack gains nothing.
    """
    attacks = rows[rows.metric != "accuracy"]
    clean = attacks[attacks.metric == "clean"].set_index(["method", "seed"]).value
    before = attacks.join(clean.rename("before"), on=["method", "seed"]).query("before > 0 and metric != 'clean'")
    return before.assign(value=before.value / before.before).drop(columns="before")


def claims(rows: pd.DataFrame, parts: pd.DataFrame, labels: tables.Estimate, prompts: int, recipe: str) -> pd.DataFrame:
    """What DiffuseMix claims, from the answers of all tasks and those of its parts alone; see `claims.claim`.

    `labels` is the share of edits, by so many prompts, that keep the original's label.
    """
    dataset = rows.dataset.iloc[0]
    accuracy = rows[(rows.metric == "accuracy") & (rows.target == dataset)]
    tasks = dict(list(accuracy.groupby("variant", sort=False)))
    ids = CLAIMS | ({"general": "fine-grained"} if recipe == "fine-grained" else {})
    attack = under_attack(rows).query("metric == 'PGD 2'")
    sentences = [
        *[
            (f"above none: {name}", part, "diffusemix", "none", ids.get(name, "scarcity"))
            for name, part in tasks.items()
        ],
        ("above none: of what was right, kept under PGD, radius 2", attack, "diffusemix", "none", "attack"),
        ("and CutMix above CutMix", tasks["general"], "diffusemix + cutmix", "cutmix", "compatible"),
        ("without fractals above edits alone", parts, "+ concatenation", "edits only", "concatenation"),
        ("above itself without fractals", parts, "diffusemix", "+ concatenation", "fractals"),
    ]
    judged = [
        ("Edits alone below none", tables.gain(parts, "edits only", "none"), "below 0", "generated-only"),
        (f"Edits by {prompts} prompts show the judge the original's label", labels, "above 0.9", "labels"),
        *[(f"DiffuseMix {text}", tables.gain(part, *pair), "above 0", of) for text, part, *pair, of in sentences],
    ]
    return pd.DataFrame(
        claim(f"{text} ({dataset})", "DiffuseMix", estimate, rule, f"diffusemix-{of}")
        for text, estimate, rule, of in judged
    )


def example(task: Task, augmentation: str, n: int, *, seed: int = 0) -> Tensor:
    """What a training sees of the first n images, unless they are left as they are: uint8 (n, 3, H, W)."""
    rows, draw = torch.arange(n), torch.Generator().manual_seed(seed)
    source = mixing.DiffuseMix(task.train.images, task.edited, task.fractals, share=1.0)
    mix = mixing.by_name(augmentation, encoder=nn.Identity(), fractals=task.fractals, source=source)
    x = mix["source"](rows, draw) if "source" in mix else task.train.images[rows]
    if "mix" in mix:
        y = nn.functional.one_hot(task.train.truth[rows]).float()
        x = (mix["mix"](x / 255, y, draw)[0] * 255).round().to(torch.uint8)
    return x
