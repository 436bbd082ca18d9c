"""Evaluations of trained encoders, each a run of its own, and the table of all their rows.

evaluations.evaluate(folder, "linear", run, {"images": test.fingerprint}, measure, ("synpos_lib.evaluate.linear",))
rows = evaluations.collect(folder, "linear", "ssl-scenes-")

A row is flat: dataset (trained on), target (tested on), method, variant, seed, factor, metric, value (0 to 1), n.
"""

import json
from collections.abc import Callable, Iterable
from pathlib import Path

import pandas as pd

from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import Run, open_run, read_config, read_mark, read_run

COLUMNS = ("dataset", "target", "method", "variant", "seed", "factor", "metric", "value", "n")
Measure = Callable[[], list[dict]]


def evaluate(
    folder: Path, protocol: str, of: Run | str, config: dict, measure: Measure, code: tuple[str, ...], **about: object
) -> Run:
    """Evaluate a finished training once: the rows that measure() returns become the run `<protocol>-<of.name>`.

    A network that no run has trained has just a name, and is evaluated once for all trainings that start from it.

    `config` is what they depend on beside the weights; `about` holds the columns that are equal in all of them.
    """
    settings = {**config, **about, "of": of if isinstance(of, str) else of.name}
    if isinstance(of, Run):
        settings |= {"weights": of.weights, "training": of.config.get("code")}
    with open_run(folder / f"{protocol}-{settings['of']}", settings, code) as evaluation:
        if not evaluation.done:
            evaluation.load()  # drops the rows of an attempt that was interrupted
            rows = measure()
            for row in rows:
                row = about | row
                if wrong := sorted(set(row) ^ set(COLUMNS)):
                    raise Problem(f"a row of {evaluation.name} lacks or adds {', '.join(wrong)}: give {COLUMNS}")
                evaluation.log(**row)
            evaluation.finish(rows=len(rows))
    return evaluation


def collect(folder: Path, protocol: str, prefix: str = "") -> pd.DataFrame:
    """Rows of every finished evaluation of trainings or networks named `prefix…`; column `run` has that name.

    An edited or damaged evaluation is refused, and so is one whose run has been trained again since.
    """
    rows = []
    for path in sorted(folder.glob(f"{protocol}-{prefix}*/config.json")):
        if not (path.parent / "done.json").exists() and not (path.parent / "done.json.damaged").exists():
            print(f"{path.parent.name} is not finished and left out")
            continue
        evaluation = read_run(path.parent)
        run = evaluation.config["of"]
        training = read_mark(folder / run) if (folder / run / "done.json").exists() else None
        if training and training["files"].get("checkpoint.safetensors") != evaluation.config["weights"]:
            raise Problem(f"{evaluation.name} was made with other weights than {run} has now: evaluate that run again")
        rows += [{**row, "run": run, "evaluation": evaluation.name} for row in evaluation.metrics()]
    return pd.DataFrame(rows, columns=[*COLUMNS, "run", "evaluation"])


def last_quarter(training: Run) -> float:
    """What the last quarter of a training has added to its kNN accuracy; nan where that was measured only once."""
    knn = pd.DataFrame(training.metrics()).dropna(subset="knn").set_index("epoch").knn
    before = knn[knn.index <= 0.75 * knn.index[-1]]
    return float(knn.iloc[-1] - before.iloc[-1]) if len(before) else float("nan")


def shared_settings(folder: Path, runs: Iterable[str], *fields: str) -> dict:
    """The common settings of runs in one table; refused where one of them differs."""
    configs = {run: read_config(folder / run) for run in dict.fromkeys(runs)}
    if not configs:
        raise Problem(f"there is no evaluated run in {folder}: train some with notebook 07")
    for field in fields:
        values = pd.Series({run: json.dumps(config.get(field)) for run, config in configs.items()})
        if values.nunique() > 1:
            rare = values.value_counts().idxmin()
            runs = ", ".join(values.index[values == rare][:3])
            raise Problem(
                f"runs in one table differ in {field}: it is {rare} in {runs}, unlike in others; "
                f"train these again with the settings of the others, or remove their folders from {folder}"
            )
    first = next(iter(configs.values()))
    return {field: first.get(field) for field in fields}
