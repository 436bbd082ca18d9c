"""A fair chance for every method: its learning rate and one more number, by one search, on validation images.

    tries = Search(runs, train, val, config).tries("barlow")

Five trainings for each method: three learning rates with its knob as it is, then half and twice the knob at the best
rate. What was found is kept in `methods.table.SEARCHED`, which notebook 07 trains by. Nothing here sees a test image.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.files import safe_name
from synpos_lib.data.images import Images
from synpos_lib.evaluate.probes import knn_probe
from synpos_lib.experiments import quiet
from synpos_lib.train import encoders
from synpos_lib.train.pretrain import Config, pretrain

RATES = (2e-3, 8e-3, 3.2e-2)  # of AdamW
FACTORS = (0.5, 2.0)  # on the knob
KNOBS = {
    **dict.fromkeys(("mocov2", "mocov2-ft"), "queue_size"),
    **dict.fromkeys(("vicreg", "vibcreg"), "cov_weight"),
    **{"byol": "tau", "dino": "tau_t", "barlow": "lambda_"},
}


def knob(method: str) -> str:
    """What is searched beside the learning rate."""
    return KNOBS.get(method, "temperature")


@dataclass
class Search:
    """What all tries have in common."""

    runs: Path  # the folder of all runs
    images: Images
    val: Images
    config: Config

    def __post_init__(self) -> None:
        if self.val.split != "val":
            raise Problem(f"a search is decided by validation images, not by those of '{self.val.split}': load 'val'")

    def tries(self, method: str) -> pd.DataFrame:
        """A row for each try: learning_rate, knob, factor, knn on validation images, the run, and which is chosen."""
        rows = [self._try(method, rate, 1.0) for rate in RATES]
        best = max(rows, key=lambda row: row["knn"])["learning_rate"]
        rows += [self._try(method, best, factor) for factor in FACTORS]
        table = pd.DataFrame(rows)
        return table.assign(chosen=table.index == table.knn.idxmax())

    def _try(self, method: str, rate: float, factor: float) -> dict:
        config, batch, turned = self.config, self.config.batch, knob(method)
        sizes = {"images": len(self.images), "batch": batch, "steps": config.epochs * (len(self.images) // batch)}
        own = methods.fitted(method, width=encoders.by_name(config.encoder)[1], **sizes)
        changed = methods.turned(method, own, turned, factor)
        config = replace(config, method=method, learning_rate=rate, hyperparameters=changed)
        folder = self.runs / safe_name(f"search-{self.images.name}-{method}-{rate:g}-{turned}x{factor:g}")
        with quiet():
            run = pretrain(folder, config, self.images, probe=knn_probe(self.images, self.val))
        assert run is not None  # one process
        measures = {key: run.results[key] for key in ("knn", "rank", "seconds")}
        return {"method": method, "learning_rate": rate, "knob": turned, "factor": factor, **measures, "run": run.name}
