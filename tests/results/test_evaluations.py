"""Evaluations are kept once, verified when read, and made again when the training is."""

import math
from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import open_run
from synpos_lib.results import evaluations

ROW = {"dataset": "scenes", "target": "scenes", "method": "simclr", "variant": "", "seed": 0}
ROWS = [
    {**ROW, "factor": factor, "metric": "linear", "value": v, "n": 9} for factor, v in (("what", 0.6), ("where", 0.3))
]
CODE = ("synpos_lib.evaluate.knn",)


def training(folder, name="ssl-scenes-simclr-seed0", weight=1.0):
    with open_run(folder / name, {"weight": weight}) as run:
        if not run.done:
            run.save({"weight": torch.tensor([weight])})
            run.finish(loss=weight)
    return run


def evaluate(folder, run, rows=ROWS, **config):
    asked = []

    def ask():
        asked.append(1)
        return rows

    evaluations.evaluate(folder, "linear", run, config, ask, CODE)
    return len(asked)


def test_a_training_is_asked_once_until_it_the_settings_or_the_code_change(tmp_path, monkeypatch):
    run = training(tmp_path)
    assert evaluate(tmp_path, run, n=5) == 1 and evaluate(tmp_path, run, n=5) == 0
    assert evaluate(tmp_path, run, n=6) == 1
    assert evaluate(tmp_path, training(tmp_path, weight=2.0), n=6) == 1
    monkeypatch.setattr("synpos_lib.core.runs.code_fingerprint", lambda *names: "other code")
    assert evaluate(tmp_path, training(tmp_path, weight=2.0), n=6) == 1


def test_a_training_with_the_same_weights_and_other_code_is_asked_again(tmp_path):
    run = training(tmp_path)
    assert evaluate(tmp_path, run) == 1 and evaluate(tmp_path, run) == 0
    run.config["code"] = {"train/pretrain.py": "other"}  # how the encoder is loaded, say
    assert evaluate(tmp_path, run) == 1


def test_rows_come_back_with_the_runs_they_rest_on(tmp_path):
    evaluate(tmp_path, training(tmp_path))
    evaluate(tmp_path, training(tmp_path, "ssl-digits-simclr-seed0"), [{**ROWS[0], "dataset": "digits"}])
    frame = evaluations.collect(tmp_path, "linear", "ssl-scenes-")
    kept = pd.DataFrame(ROWS).assign(run="ssl-scenes-simclr-seed0", evaluation="linear-ssl-scenes-simclr-seed0")
    pd.testing.assert_frame_equal(frame, kept)
    assert len(evaluations.collect(tmp_path, "linear")) == 3 and evaluations.collect(tmp_path, "transfer").empty


def test_a_row_with_a_wrong_column_is_refused(tmp_path):
    with pytest.raises(Problem, match="accuracy, value"):
        row = {key: value for key, value in ROWS[0].items() if key != "value"}
        evaluate(tmp_path, training(tmp_path), [{**row, "accuracy": 0.5}])
    assert evaluate(tmp_path, training(tmp_path)) == 1
    assert len(evaluations.collect(tmp_path, "linear")) == 2  # nothing is left of the first attempt


@pytest.mark.parametrize("harm", ["edited", "deleted"])
def test_touched_results_are_refused_every_time(tmp_path, harm):
    evaluate(tmp_path, training(tmp_path))
    metrics = tmp_path / "linear-ssl-scenes-simclr-seed0" / "metrics.jsonl"
    if harm == "edited":
        metrics.write_text(metrics.read_text().replace("0.6", "0.9"))
    else:
        metrics.unlink()
    for _ in range(2):
        with pytest.raises(Problem, match="cannot be believed|is not finished"):
            evaluations.collect(tmp_path, "linear")
    assert evaluate(tmp_path, training(tmp_path)) == 1 and len(evaluations.collect(tmp_path, "linear")) == 2


def test_an_evaluation_of_earlier_weights_is_refused(tmp_path):
    evaluate(tmp_path, training(tmp_path))
    training(tmp_path, weight=2.0)
    with pytest.raises(Problem, match="other weights than ssl-scenes-simclr-seed0 has now"):
        evaluations.collect(tmp_path, "linear")


def test_an_unfinished_evaluation_is_said_and_left_out(tmp_path, capsys):
    with open_run(tmp_path / "linear-ssl-scenes-byol-seed0", {"of": "ssl-scenes-byol-seed0"}) as run:
        run.log(**ROWS[0])
    assert evaluations.collect(tmp_path, "linear").empty
    assert "linear-ssl-scenes-byol-seed0 is not finished" in capsys.readouterr().out


def test_runs_on_one_table_share_their_settings(tmp_path):
    for seed, epochs in enumerate((14, 14, 14, 20)):
        with open_run(tmp_path / f"run{seed}", {"epochs": epochs, "seed": seed, "views": [1, 2]}) as run:
            run.finish(loss=1)
    assert evaluations.shared_settings(tmp_path, ["run0", "run1", "run0"], "epochs", "views") == {
        "epochs": 14,
        "views": [1, 2],
    }
    with pytest.raises(Problem, match="differ in epochs: it is 20 in run3, unlike in others"):
        evaluations.shared_settings(tmp_path, ["run0", "run1", "run3"], "views", "epochs")
    with pytest.raises(Problem, match="there is no evaluated run"):
        evaluations.shared_settings(tmp_path, [], "epochs")


def test_an_untrained_network_is_asked_once_for_all_trainings_that_start_from_it(tmp_path):
    rows = [{**row, "method": "untrained"} for row in ROWS]
    asked = []

    def ask():
        asked.append(1)
        return rows

    for _ in ("simclr", "byol"):
        evaluations.evaluate(tmp_path, "untrained", "scenes-small-seed0", {"encoder": "small"}, ask, CODE)
    frame = evaluations.collect(tmp_path, "untrained", "scenes-small-seed")
    assert len(asked) == 1 and set(frame.run) == {"scenes-small-seed0"} and list(frame.value) == [0.6, 0.3]
    assert set(frame.evaluation) == {"untrained-scenes-small-seed0"}


def test_the_last_quarter_is_the_end_minus_the_last_probe_before_it():
    rows = [{"epoch": e, **({"knn": e / 100} if e % 3 == 0 else {})} for e in range(1, 13)]  # 3, 6, 9 and 12 are probed
    assert evaluations.last_quarter(SimpleNamespace(metrics=lambda: rows)) == pytest.approx(0.12 - 0.09)
    assert math.isnan(evaluations.last_quarter(SimpleNamespace(metrics=lambda: [{"epoch": 4, "knn": 0.5}])))
