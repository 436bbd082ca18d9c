"""MixDiff's comparison: pairs of two real views, of two synthetic ones, or of one of each.

    study = Study(runs, train, variations, config, {"simclr": 2e-3}, sets)
    rows = study.answers("Mix", "simclr", seed=0)

All trainings take (nearly) the same number of steps, warm-up included: fewer images mean more passes over them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.files import safe_name
from synpos_lib.core.runs import read_run
from synpos_lib.data.images import Images, take
from synpos_lib.data.trees import stratified
from synpos_lib.evaluate import collapse, robustness
from synpos_lib.evaluate import transfer as transfers
from synpos_lib.experiments import answers, quiet, scale, train
from synpos_lib.methods import short
from synpos_lib.results import evaluations, published, tables
from synpos_lib.results.claims import CANNOT, FAILS, HOLDS, claim, verdict
from synpos_lib.train.pretrain import Config, load_encoder

CODE = ("synpos_lib.evaluate.robustness",)
METHOD = {"Real": "{}", "Syn": "synthetic-{}", "Mix": "mixdiff-{}"}  # the name of a method with such pairs
COLOURS = {"Real": "#777777", "Syn": "#AA4499", "Mix": "#117733"}
NAMES = {"simclr": "SimCLR", "barlow": "Barlow Twins", "dino": "DINO"}
PLAIN = ("plain", "plain")  # the views without augmentation
OTHER_GENERATOR = "noise-and-denoise"  # the variant whose variations come from another generator
COMPARABLE = "above -0.02"  # not more than two points below
WITH, WITHOUT = "with augmentation", "without augmentation"


@dataclass(frozen=True)
class Training:
    """How all methods of a comparison are trained, with AdamW."""

    hyperparameters: dict  # of every method that has them
    warmup: float  # share of the epochs
    weight_decay: float | None = None  # None: each method's own
    short: bool = False  # with the rate and the hyperparameters of `methods.short`


_RELEASED = {"hidden": 2048, "out": 512, "temperature": 0.5, "lambda_": 0.005, "tau_t": 0.04, "prototypes": 65536}
TRAININGS = {
    "embedded": Training({}, warmup=1 / 10, short=True),
    "own": Training({}, warmup=1 / 5),  # each method's, as in notebook 07
    "released": Training(_RELEASED, warmup=1 / 3, weight_decay=4e-5),  # MixDiff's code, as far as notebook 11 says
}


def training(name: str) -> Training:
    """The recipe of that name."""
    if name not in TRAININGS:
        raise Problem(f"unknown recipe '{name}' ({suggest(name, TRAININGS)})")
    return TRAININGS[name]


@dataclass
class Study:
    """What all trainings have in common."""

    runs: Path  # the folder of all runs
    images: Images
    variations: Tensor  # (N, 1, 3, H, W): a synthetic image for each of them
    config: Config
    rates: dict[str, float]  # the learning rate of a method, where it is not the recipe's
    sets: dict[str, robustness.Load]  # the test sets, as from robustness.test_sets
    training: Training

    def answers(
        self,
        arm: str,
        base: str,
        *,
        seed: int,
        variant: str = "",  # distinguishes this training from others of its arm, method and seed
        images: Images | None = None,  # fewer, with their variations
        variations: Tensor | None = None,
        views: tuple[str, str] | None = None,
        **hyperparameters: Any,  # such as the ratio of mixed pairs
    ) -> pd.DataFrame:
        """Train, then evaluate with one head, fitted on clean real images: a row for every test set.

        The arm is the `method`; further columns are `base` (the method's name), `augmentation`, `run` and `warning`.
        """
        if arm not in METHOD:
            raise Problem(f"unknown arm '{arm}' ({suggest(arm, METHOD)})")
        method, name = METHOD[arm].format(base), self.images.name
        images = self.images if images is None else images
        variations = self.variations if variations is None else variations
        views = views or self.config.views
        augmentation = WITHOUT if views == PLAIN else WITH
        variant = variant or ("noaug" if views == PLAIN else "aug")
        batch = self.config.batch
        passes = (len(self.images) // batch) / max(1, len(images) // batch)  # over fewer images, for as many steps
        epochs = round(self.config.epochs * passes)
        config = replace(self.config, method=method, epochs=epochs, views=views, probe_every=epochs, seed=seed)
        rate, changes = self._settings(config, len(images))
        rate = self.rates.get(base, rate)
        if rate is None:
            raise Problem(f"the recipe sets no learning rate for {base}: give one for each method in learning_rates")
        warmup = self.config.warmup and round(self.config.warmup * passes)
        config = replace(config, warmup=warmup, learning_rate=rate, hyperparameters=changes | hyperparameters)
        folder = self.runs / safe_name(f"mix-{name}-{method}-{variant}-seed{seed}")
        about = {"dataset": name, "method": method, "variant": variant, "seed": seed}
        some = images.images[:1000]
        with quiet():
            run = train(folder, config, images, variations, lambda f: collapse.probe(f(some), f(some, flip=True)))

            def measure() -> list[dict]:
                return robustness.measure(load_encoder(run), self.images, self.sets, seed=seed)

            evaluation = evaluations.evaluate(self.runs, "shift", run, self.protocol, measure, CODE, **about)
        return answers(evaluation, run, method=arm, base=NAMES.get(base, base), augmentation=augmentation)

    def studies(
        self,
        base: str,
        *,
        seed: int,
        others: dict[str, tuple[float, Tensor | None]],  # variations by name: their quality; None: the usual ones
        shares: Sequence[float],  # of the images
        ratios: Sequence[float] = (0.5,),  # of mixed pairs, between none and all
    ) -> pd.DataFrame:
        """Mix with a share of the pairs mixed and with other variations, Real and Mix with fewer images: as `answers`.

        Further columns are `study` (ratio, quality, generator or share) and `x`. Beside them stand the usual trainings,
        those of the variant `aug`. Only the clean test images count.
        """
        jobs: list[tuple] = [("ratio", 0.0, "Real", {}), ("ratio", 1.0, "Mix", {})]
        jobs += [("ratio", ratio, "Mix", {"variant": f"ratio-{ratio:g}", "ratio": ratio}) for ratio in ratios]
        for name, (quality, variations) in others.items():
            study = "generator" if name == OTHER_GENERATOR else "quality"
            other = {} if variations is None else {"variant": name, "variations": variations}
            jobs.append((study, quality, "Mix", other))
        for share in (*shares, 1.0):
            rows = torch.from_numpy(stratified(self.images.truth.numpy(), round(share * len(self.images)), seed))
            part = {"images": take(self.images, rows), "variations": self.variations[rows]}
            change: dict[str, Any] = {**part, "variant": f"share-{share:g}"} if share < 1 else {}
            jobs += [("share", share, arm, change) for arm in ("Real", "Mix")]
        frames = [self.answers(arm, base, seed=seed, **change).assign(study=name, x=x) for name, x, arm, change in jobs]
        frame = pd.concat(frames, ignore_index=True)
        return frame[frame.target == robustness.CLEAN]

    @cached_property
    def protocol(self) -> dict:
        """The settings of every evaluation: which images the test sets hold."""
        return robustness.settings(self.images, self.sets)

    def transfer(self, rows: pd.DataFrame, to: Sequence[transfers.Target]) -> pd.DataFrame:
        """The encoders of `rows` (answers on one test set) on other tasks: a row for each encoder and target."""
        frames = []
        for row in rows.to_dict("records"):
            run = read_run(self.runs / row["run"])
            about = {key: row[key] for key in ("dataset", "variant", "seed")} | {"method": run.config["method"]}
            with quiet():
                evaluation = transfers.evaluate(self.runs, "transfer", run, load_encoder, to, **about)
            result = {key: row[key] for key in ("method", "base", "augmentation", "run")}
            frames.append(pd.DataFrame(evaluation.metrics()).assign(**result))
        return pd.concat(frames, ignore_index=True)

    def _settings(self, config: Config, images: int) -> tuple[float | None, dict]:
        """The learning rate (None: the recipe sets none) and the hyperparameters that the recipe sets for a method."""
        own, rate, changes = methods.hyperparameters(config.method), None, dict[str, Any]()
        if self.training.short:
            rate, changes = short.settings(config.method, **scale(config, images))
        return rate, changes | {key: value for key, value in self.training.hyperparameters.items() if key in own}


def claims(shifts: pd.DataFrame, tasks: pd.DataFrame, studies: pd.DataFrame) -> pd.DataFrame:
    """What MixDiff claims, from the answers under shift, on other tasks and in the studies; see `claims.claim`.

    `studies` has the answers' columns and two more, `study` (quality, generator, share or ratio) and `x`; the lowest
    quality and the smallest share are judged. The method of its rows and of those of `tasks` is the first in `shifts`.
    """
    name = shifts.base.iloc[0]
    usual, bare = (shifts[shifts.augmentation == augmentation] for augmentation in (WITH, WITHOUT))
    clean, hard = usual[usual.target == "clean"], usual[usual.target != "clean"]
    bases = hard.groupby("seed").base.transform("nunique")
    hard = hard[bases == hard.base.nunique()]  # of the seeds that all methods have, so that all count alike
    first, bare = clean[clean.base == name], bare[(bare.target == "clean") & (bare.base == name)]
    changed = studies[studies.variant != "aug"]
    part = {study: changed[changed.study == study] for study in ("quality", "generator", "share")}
    poor, less = (rows[rows.x == rows.x.min()] for rows in (part["quality"], part["share"]))
    share = f"{less.x.min():.0%}" if len(less) else "fewer images"

    def above_real(rows: pd.DataFrame, arm: str = "Mix") -> tables.Estimate | None:
        """An arm under other conditions minus *Real*, with all images and with augmentation."""
        sides = {"ours": rows[rows.method == arm], "real": first[first.method == "Real"]}
        frame = pd.concat(part.assign(side=side) for side, part in sides.items())
        return tables.gain(frame, "ours", "real", "side")

    ids = {name: "real"}  # the claim about the first method; the others share one
    small = f"Real of {share}, Real of all images, {name}: what fewer images cost without mixing"
    rows = [
        *[
            (f"Mix beats Real, {base}, clean", tables.gain(part, "Mix", "Real"), "above 0", ids.get(base, "methods"))
            for base, part in clean.groupby("base", sort=False)
        ],
        (f"Real beats Syn, {name}, clean", tables.gain(first, "Real", "Syn"), "above 0", "synthetic-only"),
        ("Mix beats Real, mean of all shifts and methods", tables.gain(hard, "Mix", "Real"), "above 0", "shift"),
        (f"Mix without augmentation, Real with, {name}", above_real(bare), COMPARABLE, "noaug"),
        (f"Mix of {share}, Real of all images, {name}", above_real(less), COMPARABLE, "less-data"),
        (f"Mix beats Real, {name}, poor variations", above_real(poor), "above 0", "quality"),
        (f"Mix beats Real, {name}, another generator", above_real(part["generator"]), "above 0", "generators"),
    ]
    if len(tasks):
        text = f"Mix beats Real, {name}, mean of {tasks.target.nunique()} other tasks"
        rows.append((text, tables.gain(tasks, "Mix", "Real"), "above 0", "transfer"))
    without = above_real(less, "Real")
    headline = f"SimCLR gains {published.load('mixdiff').percent[0]} % on ImageNet-1K"
    rows += [(small, without, COMPARABLE, ""), (headline, None, "above 0", "imagenet")]
    table = pd.DataFrame(claim(text, "MixDiff", gain, rule, of and f"mixdiff-{of}") for text, gain, rule, of in rows)
    if verdict(without, COMPARABLE) == HOLDS:  # fewer images cost nothing by themselves: there is nothing to replace
        table.loc[(table.of == "mixdiff-less-data") & (table.verdict != FAILS), "verdict"] = CANNOT
    return table
