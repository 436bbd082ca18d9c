"""MixDiff's comparison: pairs of two real views, of two synthetic ones, or of one each, as ordinary runs.

    arms = Arms(runs, train, variations, config, {"simclr": 2e-3}, sets)
    rows = arms.answers("Mix", "simclr", seed=0)  # trained or reused, then asked about every test set

Whatever the images, the trainings take (nearly) equally many steps, of the warm-up too: fewer images mean more passes
over them.
"""

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.core.runs import Run, read_run
from synpos_lib.data.catalog import Images
from synpos_lib.evaluate import robustness
from synpos_lib.evaluate import transfer as transfers
from synpos_lib.results import evaluations, published, tables
from synpos_lib.results.claims import claim
from synpos_lib.train.pretrain import Config, load_encoder, pretrain

METHOD = {"Real": "{}", "Syn": "synthetic-{}", "Mix": "mixdiff-{}"}  # what a method with such pairs is called
COLOURS = {"Real": "#777777", "Syn": "#AA4499", "Mix": "#117733"}
NAMES = {"simclr": "SimCLR", "barlow": "Barlow Twins", "dino": "DINO"}
PLAIN = ("plain", "plain")  # the views without augmentation
COMPARABLE = "above -0.02"  # not more than two points below
WITH, WITHOUT = "with augmentation", "without augmentation"


@dataclass(frozen=True)
class Recipe:
    """How all methods of a comparison are trained, with AdamW."""

    hyperparameters: dict  # of every method that has them
    warmup: float  # share of the epochs
    weight_decay: float | None = None  # None: each method's own
    fitted: bool = False  # queues and prototypes in proportion to the images


_RELEASED = {"hidden": 2048, "out": 512, "temperature": 0.5, "lambda_": 0.005, "tau_t": 0.04, "prototypes": 65536}
RECIPES = {
    "embedded": Recipe({"hidden": 512, "out": 256}, warmup=1 / 5, fitted=True),
    "own": Recipe({}, warmup=1 / 5),  # each method's, as in notebook 07
    "released": Recipe(_RELEASED, warmup=1 / 3, weight_decay=4e-5),  # MixDiff's code, as far as notebook 11 says
}


def recipe(name: str) -> Recipe:
    """How a comparison of that name is trained."""
    if name not in RECIPES:
        raise Problem(f"unknown recipe '{name}' ({suggest(name, RECIPES)})")
    return RECIPES[name]


@dataclass
class Arms:
    """Trainings that differ in their pairs, and what their frozen encoders answer."""

    runs: Path  # the folder of all runs
    images: Images
    variations: Tensor  # (N, 1, 3, H, W): one synthetic image for each
    config: Config  # what the trainings have in common
    rates: dict[str, float]  # the learning rate of each method
    sets: dict[str, robustness.Load]  # the test sets, as from robustness.test_sets
    recipe: Recipe = RECIPES["own"]

    def __post_init__(self):
        self.described = robustness.described(self.images, self.sets)

    def train(self, arm: str, base: str, variant: str, seed: int, images, variations, views, settings: dict) -> Run:
        """One training, named after what it is; reused when it is done."""
        if arm not in METHOD:
            raise Problem(f"unknown arm '{arm}' ({suggest(arm, METHOD)})")
        method = METHOD[arm].format(base)
        more = len(self.images) / len(images)
        epochs, warmup = round(self.config.epochs * more), self.config.warmup and round(self.config.warmup * more)
        changed = dict(method=method, epochs=epochs, warmup=warmup, learning_rate=self.rates[base])
        changed |= dict(views=views, seed=seed, hyperparameters=self._hyperparameters(method, len(images)) | settings)
        config = replace(self.config, **changed)
        name = f"mix-{self.images.name}-{method}-{variant}-seed{seed}".replace("/", "_").replace(":", "_")
        made = variations if methods.recipe(method).needs_positives else None
        return pretrain(self.runs / name, config, images, made)

    def answers(
        self,
        arm: str,
        base: str,
        *,
        seed: int,
        variant: str = "",  # what sets this one apart from others of its arm, method and seed
        images: Images | None = None,  # fewer, with their variations
        variations: Tensor | None = None,
        views: tuple[str, str] | None = None,
        **settings,  # hyperparameters, such as the ratio of mixed pairs
    ) -> pd.DataFrame:
        """Train, then ask through one head, fitted on clean real images: a row for every test set.

        Columns as in `results`, with the arm as `method`, and `base` (the method's name), `augmentation` and `run`.
        """
        images = self.images if images is None else images
        variations = self.variations if variations is None else variations
        views = views or self.config.views
        variant = variant or ("noaug" if views == PLAIN else "aug")
        with contextlib.redirect_stdout(io.StringIO()):  # what it says of each epoch is in its metrics
            run = self.train(arm, base, variant, seed, images, variations, views, settings)
            about = {"dataset": self.images.name, "method": run.config["method"], "variant": variant, "seed": seed}

            def ask() -> list[dict]:
                return [about | row for row in robustness.ask(load_encoder(run), self.images, self.sets, seed=seed)]

            code = ("synpos_lib.evaluate.robustness",)
            asked = evaluations.evaluate(self.runs, "shift", run, self.described, ask, code)
        how = WITHOUT if views == PLAIN else WITH
        found = {"method": arm, "base": NAMES.get(base, base), "augmentation": how, "run": run.name}
        return pd.DataFrame([row | found for row in asked.metrics()])

    def transfer(self, trained: pd.DataFrame, to: Sequence[transfers.Target]) -> pd.DataFrame:
        """The same encoders on other tasks: a row for each training (`answers` about one test set) and target."""
        found = []
        for row in trained.to_dict("records"):
            run = read_run(self.runs / row["run"])
            about = {key: row[key] for key in ("dataset", "variant", "seed")} | {"method": run.config["method"]}

            def ask(run=run, about=about) -> list[dict]:
                return transfers.rows(load_encoder(run), to, about)

            code = ("synpos_lib.evaluate.transfer",)
            with contextlib.redirect_stdout(io.StringIO()):
                asked = evaluations.evaluate(
                    self.runs, "transfer", run, {"targets": [place.fingerprints for place in to]}, ask, code
                )
            same = {key: row[key] for key in ("method", "base", "augmentation", "run")}
            found += [answer | same for answer in asked.metrics()]
        return pd.DataFrame(found)

    def _hyperparameters(self, method: str, images: int) -> dict:
        """Those of the recipe that this method has, and its queues and prototypes in proportion."""
        own = methods.hyperparameters(method)
        sizes = methods.fitted(method, images=images, batch=self.config.batch) if self.recipe.fitted else {}
        return sizes | {key: value for key, value in self.recipe.hyperparameters.items() if key in own}


def claims(shifted: pd.DataFrame, moved: pd.DataFrame, studied: pd.DataFrame) -> pd.DataFrame:
    """What MixDiff claims, from the answers under shift, on other tasks and in the studies; see `claims.claim`.

    `studied` has the columns `study` (quality or share) and `x` beside those of the answers; all its rows, and those of
    `moved`, are of the first method in `shifted`.
    """
    name = shifted.base.iloc[0]
    usual = shifted[shifted.augmentation == WITH]
    clean = usual[usual.target == "clean"]
    first, bare = clean[clean.base == name], shifted[(shifted.augmentation == WITHOUT) & (shifted.base == name)]
    bare = bare[bare.target == "clean"]
    poor, less = studied[studied.study == "quality"], studied[(studied.study == "share") & (studied.x < 1)]
    poor, less = poor[poor.x == poor.x.min()], less[less.x == less.x.max()]
    real = _arm(first, "Real")
    others = [(_arm(part, "Mix"), _arm(part, "Real"), base) for base, part in clean.groupby("base", sort=False)]
    pairs = [
        (ours, theirs, f"Mix beats Real, {b}, clean", "methods", "above 0") for ours, theirs, b in others if b != name
    ]
    hard = usual[usual.target != "clean"]
    another = studied[studied.variant == "noise-and-denoise"]
    share, variant = less.x.iloc[0], poor.variant.iloc[0]
    pairs = [
        (_arm(first, "Mix"), real, f"Mix beats Real, {name}, clean", "real", "above 0"),
        *pairs,
        (real, _arm(first, "Syn"), f"Real beats Syn, {name}, clean", "synthetic-only", "above 0"),
        (_arm(hard, "Mix"), _arm(hard, "Real"), "Mix beats Real, mean of all shifts and methods", "shift", "above 0"),
        (_arm(bare, "Mix"), real, f"Mix without augmentation, Real with, {name}", "noaug", COMPARABLE),
        (_arm(less, "Mix"), real, f"Mix of {share:.0%}, Real of all images, {name}", "less-data", COMPARABLE),
        (poor, real, f"Mix beats Real, {name}, worst variations ({variant})", "quality", "above 0"),
    ]
    if len(moved):
        tasks = f"Mix beats Real, {name}, mean of {moved.target.nunique()} other tasks"
        pairs.append((_arm(moved, "Mix"), _arm(moved, "Real"), tasks, "transfer", "above 0"))
    if len(another):
        pairs.append((another, real, f"Mix beats Real, {name}, another generator", "generators", "above 0"))
    rows = [claim(text, "MixDiff", more(ours, theirs), rule, f"mixdiff-{of}") for ours, theirs, text, of, rule in pairs]
    control = f"Real of {share:.0%}, Real of all images, {name}: what fewer images cost without mixing"
    rows.append(claim(control, "MixDiff", more(_arm(less, "Real"), real), COMPARABLE))
    headline = f"SimCLR gains {published.load('mixdiff').percent[0]} % on ImageNet-1K"
    return pd.DataFrame([*rows, claim(headline, "MixDiff", None, of="mixdiff-imagenet")])


def _arm(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    return frame[frame.method == name]


def more(ours: pd.DataFrame, theirs: pd.DataFrame) -> tables.Estimate:
    """How much more: the paired difference over the seeds that both have, each seed's mean over all its rows."""
    a, b = (frame.groupby("seed").value.mean() for frame in (ours, theirs))
    both = a.index.intersection(b.index)
    if both.empty:
        raise Problem("no seed is in both: train the two arms with the same seeds")
    return tables.paired(a[both], b[both])
