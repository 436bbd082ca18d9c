"""CLSP's ablations: one setting changes, everything else is as in one finished run of notebook 07.

    study = Study(runs, {0: train}, val, {0: test}, judge, config)
    rows = study.answers("candidates", 2, positives[:, :2], seed=0)

Every seed has its own drawing of images, so that an interval speaks of other drawings too. A setting may be chosen by
kNN accuracy on validation images; the result is linear accuracy on test images.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core import runtime
from synpos_lib.core.files import safe_name
from synpos_lib.data import positives
from synpos_lib.data.images import Images, take
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.evaluate.judge import Judge
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.evaluate.probes import knn_probe
from synpos_lib.experiments import answers, quiet, train
from synpos_lib.results import evaluations, tables
from synpos_lib.results.claims import claim
from synpos_lib.train.pretrain import Config, load_encoder

CODE = ("synpos_lib.evaluate.linear_and_knn",)
PULL = "pull_weight"  # the hyperparameter that weighs the pull
ENOUGH = 32  # candidates: the paper's greatest number, which teach no more than 8
ENDS = 0.01, 1.6  # the paper's least and greatest weight of the pull
JUDGED = 300  # anchors whose positives the judge labels


@dataclass
class Study:
    """What all trainings have in common."""

    runs: Path  # the folder of all runs
    images: Mapping[int, Images]  # of each seed
    val: Images
    test: Mapping[int, Images]
    judge: Judge
    config: Config

    def answers(
        self,
        setting: str,
        at: object,  # the value of that setting
        store: Tensor,  # the positives of the images
        *,
        seed: int,
        method: str = "",  # empty: that of the config
        views: tuple[str, str] | None = None,
        **hyperparameters: Any,
    ) -> pd.DataFrame:
        """Train, then evaluate as notebook 07 does: a row for each factor, its linear accuracy on test images.

        Further columns are `setting`, `at`, `validation` (kNN accuracy on validation images), `run` and `warning`.
        """
        images, test, method = self.images[seed], self.test[seed], method or self.config.method
        name = images.name
        own = self.config.hyperparameters | hyperparameters
        config = replace(
            self.config,
            method=method,
            views=views or self.config.views,
            hyperparameters={key: own[key] for key in own if key in methods.hyperparameters(method)},
            seed=seed,
        )
        folder = self.runs / safe_name(f"ssl-{name}-{method}-{setting}={at}-seed{seed}")
        about = {"dataset": name, "target": name, "method": method, "variant": f"{setting}={at}", "seed": seed}
        protocol = {"train": images.fingerprint, "test": test.fingerprint, "learning_rate": 1.0, "seed": seed}
        with quiet():
            run = train(folder, config, images, store, knn_probe(images, self.val))

            def measure() -> list[dict]:
                return linear_and_knn(load_encoder(run), images, test, seed=seed)

            evaluation = evaluations.evaluate(self.runs, "linear", run, protocol, measure, CODE, **about)
        rows = answers(evaluation, run, setting=setting, at=at, validation=run.results["knn"])
        return rows[rows.metric == "linear"]

    def store(self, name: str, generator: BottleneckMixing, *, seed: int, k: int = 1) -> tuple[Tensor, dict]:
        """k positives for each image, made once, and the `facts` about them."""
        run = positives.make(
            self.runs / safe_name(name), self.images[seed], generator, k=k, seed=runtime.derive(seed, name)
        )
        store = positives.read(run.folder, self.images[seed])
        return store, self.facts(store, seed, k * len(store) / max(run.results["seconds"], 0.01))

    def facts(self, store: Tensor, seed: int, images_per_second: float) -> dict[str, float]:
        """How many of the first positives keep the species and scene of their anchors, and how fast they were made."""
        anchors = take(self.images[seed], slice(JUDGED))
        shares = self.judge.agreement(store[: len(anchors), 0], anchors)
        return {f"{row['kept']} kept": row["value"] for row in shares} | {"images per second": images_per_second}


def claims(rows: pd.DataFrame, usual: Mapping[str, Any]) -> pd.DataFrame:
    """What CLSP claims about each setting, against its `usual` value; see `claims.claim`."""
    most, pull, w, method = (usual[name] for name in ("candidates", "lambda", "w", "method"))
    what = rows[(rows.factor == "what") & (rows.method == method)]
    others = {name: [at for at in what["at"][what.setting == name] if at != usual[name]] for name in ("lambda", "w")}
    weak = min((value for value in others["lambda"] if value < pull), default=ENDS[0])
    strong = max((value for value in others["lambda"] if value > pull), default=ENDS[1])
    own = max(others["w"])
    sentences = [
        (f"{most} candidates teach more than 1", "candidates", (most, 1), "above 0", "candidates"),
        (f"{ENOUGH} candidates teach what 8 do", "candidates", (ENOUGH, 8), "within 0.01", "candidates-enough"),
        (f"λ = {pull:g} is better than {weak:g}", "lambda", (pull, weak), "above 0", "lambda"),
        (f"λ = {pull:g} is better than {strong:g}", "lambda", (pull, strong), "above 0", "lambda-too-large"),
        (f"w = {w:g} is better than {own:g}", "w", (w, own), "above 0", "w"),
        (f"{method} is better with augmentation", "noaug", ("augmented", "plain"), "above 0", "noaug"),
    ]
    return pd.DataFrame(
        claim(text, "CLSP", tables.gain(what[what.setting == setting], *pair, "at"), rule, f"clsp-{of}")
        for text, setting, pair, rule, of in sentences
    )
