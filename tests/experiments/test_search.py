"""Eight tries for every row, decided by validation images alone, and the library trains by what was recorded."""

import math
from dataclasses import replace

import pytest

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.data.images import images_fingerprint
from synpos_lib.experiments import search
from synpos_lib.lab import recorded
from synpos_lib.methods.short import CHOICES
from synpos_lib.train import pretrain
from synpos_lib.train.pretrain import Config

CONFIG = Config(encoder="tiny", epochs=1, batch=8, optimizer="adamw", views=("vicreg", "vicreg"), seed=5)
ROWS = search.rows()


def study(folder, split="val", n=30):
    return search.Search(folder, catalog.load("scenes", "train", n=40), catalog.load("scenes", split, n=n), CONFIG)


def test_each_try_is_a_step_from_the_best_so_far_that_has_one_left(tmp_path):
    table = study(tmp_path).tries("barlow")
    tries = list(zip(table.learning_rate, table.factor, table.knn, strict=True))
    assert len(tries) == search.TRIES and tries[0][:2] == search.START
    for i, (rate, factor, _) in enumerate(tries[1:], start=1):
        reached = {(r * by, f) for r, f, _ in tries[:i] for by in (4, 1 / 4)}
        reached |= {(r, f * by) for r, f, _ in tries[:i] for by in (2, 1 / 2)}
        assert (rate, factor) in reached - {(r, f) for r, f, _ in tries[:i]}
    tried = [read_run(tmp_path / name) for name in table.run]
    assert [run.results["knn"] for run in tried] == list(table.knn)
    lambdas = [run.config["hyperparameters"].get("lambda_", 0.0051) for run in tried]
    assert lambdas == pytest.approx([0.0051 * factor for factor in table.factor])
    assert list(table.index[table.chosen]) == [list(table.knn).index(max(table.knn))]


def climb(height, tries=search.TRIES):
    """The places that a search visits on a landscape, in order."""
    done = {search.START: height(*search.START)}
    while len(done) < tries:
        point = search.further(done)
        done[point] = height(*point)
    return list(done)


def test_the_walk_finds_a_top_that_three_rates_would_miss():
    def height(rate, factor):  # best at rate 0.128 and twice the knob
        return -abs(math.log(rate / 0.128, 4)) - abs(math.log2(factor / 2))

    assert (0.128, 2.0) in climb(height)
    assert climb(lambda rate, factor: 0.0)[:5] == [search.START, *search.neighbours(*search.START)]  # on level ground


def test_a_training_that_diverges_is_a_try_of_no_worth(tmp_path, monkeypatch):
    def break_down(folder, config, *rest, **more):
        if config.learning_rate > search.START[0]:
            raise pretrain.Diverged("the loss became nan")
        return real(folder, config, *rest, **more)

    real = pretrain.pretrain
    monkeypatch.setattr(search, "pretrain", break_down)
    table = study(tmp_path).tries("simclr")
    assert list(table.knn == 0) == list(table.learning_rate > search.START[0]) and (table.knn == 0).any()
    assert not table.chosen[table.knn == 0].any()


def test_only_validation_images_decide(tmp_path):
    for split in ("train", "test"):
        with pytest.raises(Problem, match=f"not by those of '{split}'"):
            study(tmp_path, split)
    images, other = study(tmp_path / "a"), study(tmp_path / "b", n=25)  # other validation images, other numbers
    assert list(images.tries("simclr").knn) != list(other.tries("simclr").knn)


def test_the_test_images_are_not_even_loaded(tmp_path, monkeypatch):
    """The cells of notebook 06b that load images and search, run with a catalogue that has no test split."""
    from synpos_lib.lab import parameters

    def load(name, split, **options):
        assert split != "test", "a search looked at test images"
        return real(name, split, **options)

    real = catalog.load
    monkeypatch.setattr(catalog, "load", load)
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    monkeypatch.setenv("MPLBACKEND", "agg")
    variables = {key: each.default for key, each in parameters.notebook_parameters("06b_search").items()}
    variables |= {"profile": "smoke", "images": 60, "anchors": 40, "epochs": 1, "batch": 8, "val_images": 30}
    for cell in parameters.code_cells("06b_search"):
        exec(cell, variables)  # noqa: S102 (the notebook's own code)
        if "tries" in variables:
            return
    raise AssertionError("no cell has searched")


def test_every_row_is_a_method_with_a_knob_and_the_kind_of_positives_that_it_needs():
    assert set(CHOICES) == set(ROWS)
    for row in ROWS:
        method, _, kind = row.partition(" ")
        assert CHOICES[row][1] == search.knob(row) and search.knob(row) in methods.hyperparameters(method)
        assert search.positives_of(row) == (kind or "positives" * methods.recipe(method).needs_positives)


def test_the_library_trains_by_what_the_recorded_search_found():
    tries = recorded.load("06b_search.tries")
    assert set(tries.method) == set(ROWS)
    assert set(tries.groupby("method").size()) == {search.TRIES}
    for name, rows in tries.groupby("method"):
        best = rows.loc[rows.knn.idxmax()]
        assert (best.learning_rate, best.knob, best.factor) == CHOICES[name]


def test_a_row_with_positives_learns_from_them(tmp_path):
    tries = study(tmp_path)
    store = tries.images.images.flip(2)[:, None]
    run = read_run(tmp_path / tries.tries("clsp-simclr oracle", store).run[0])
    assert run.name == "search-scenes-clsp-simclr-oracle-0.008-temperaturex1"
    assert run.config["method"] == "clsp-simclr" and run.config["positives"] == images_fingerprint(store)


def test_the_configuration_of_a_try_differs_only_in_what_is_searched(tmp_path):
    table = study(tmp_path).tries("simclr")
    configs = [read_run(tmp_path / name).config for name in table.run]
    differ = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert differ == {"learning_rate", "hyperparameters", "recipe"}
    assert replace(CONFIG, method="simclr").seed == configs[0]["seed"] == 5
