"""Five tries for every row, decided by validation images alone, and the library trains by what was recorded."""

import math

import pytest

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.data.images import draw_images, images_fingerprint
from synpos_lib.evaluate import linear
from synpos_lib.experiments import search
from synpos_lib.lab import recorded
from synpos_lib.methods.short import CHOICES
from synpos_lib.train import pretrain
from synpos_lib.train.pretrain import Config

CONFIG = Config(encoder="tiny", epochs=1, batch=8, optimizer="adamw", views=("vicreg", "vicreg"))
ROWS = search.rows()


def study(folder, split="val", n=30, seeds=(5, 6)):
    whole = catalog.load("scenes", "train", n=80)
    draws = {seed: draw_images(whole, 40, seed) for seed in seeds}
    return search.Search(folder, draws, catalog.load("scenes", split, n=n), CONFIG)


def steps(point):
    """Four times or a quarter of the rate, twice or half the knob."""
    rate, factor = point
    return {(4 * rate, factor), (rate / 4, factor), (rate, 2 * factor), (rate, factor / 2)}


def test_each_try_is_a_step_from_the_best_before_it_that_has_one_left(tmp_path):
    table = study(tmp_path).trainings("barlow")
    means = table.groupby(["learning_rate", "factor"], sort=False).knn.mean()
    tries = list(means.index)
    assert len(tries) == search.TRIES and tries[0] == search.START
    for i in range(1, len(tries)):
        before = set(tries[:i])
        reached = {point: steps(point) - before for point in before}
        best = max(means[point] for point in before if reached[point])
        assert tries[i] in set().union(*(reached[point] for point in before if means[point] == pytest.approx(best)))
    trained = [read_run(tmp_path / name) for name in table.run]
    assert [run.results["knn"] for run in trained] == list(table.knn)
    assert [run.config["seed"] for run in trained] == list(table.seed)
    lambdas = [run.config["hyperparameters"].get("lambda_", 0.0051) for run in trained]
    assert lambdas == pytest.approx([0.0051 * factor for factor in table.factor])
    best = table[table.chosen]
    assert set(zip(best.learning_rate, best.factor, strict=True)) == {means.idxmax()}


def test_arms_and_seeds_go_round_until_each_was_used_equally_often():
    assert search.schedule("byol", [5, 6, 7]) == [("byol", "", 5), ("byol", "", 6), ("byol", "", 7)]
    pulls = search.schedule("clsp-simclr", [5, 6, 7])
    assert [seed for *_, seed in pulls] == [5, 6, 7, 5, 6, 7] and len(set(pulls)) == len(search.ARMS["clsp-simclr"])
    arms = [("clsp-mocov2", "positives"), ("mocov2-aug", "")]
    assert set(search.schedule("clsp-mocov2", [5, 6, 7])) == {(*arm, seed) for arm in arms for seed in (5, 6, 7)}
    for row in ROWS:
        for method, kind, _ in search.schedule(row, [5]):
            assert bool(kind) == methods.recipe(method).needs_positives


def test_the_walk_finds_a_top_that_three_rates_would_miss():
    def height(point):  # best at rate 0.128 and twice the knob
        return -abs(math.log(point[0] / 0.128, 4)) - abs(math.log2(point[1] / 2))

    assert max(search.walk(height), key=height) == (0.128, 2.0)
    level = list(search.walk(lambda point: 0.0))
    assert level[0] == search.START and set(level[1:5]) == steps(search.START)


def test_a_training_that_diverges_counts_as_none_right(tmp_path, monkeypatch):
    def step(self, *arguments):
        loss, parts = real(self, *arguments)
        lost = self.config.learning_rate > limit and self.config.seed in unstable
        return (loss * math.nan, parts) if lost else (loss, parts)

    real, limit, unstable = pretrain.Training.step, search.START[0], {6}
    monkeypatch.setattr(pretrain.Training, "step", step)
    table = study(tmp_path).trainings("simclr")
    lost = (table.learning_rate > search.START[0]) & (table.seed == 6)
    assert lost.any() and list(table.knn == 0) == list(table["rank"].isna()) == list(lost)
    means = table.groupby("try").knn.mean()  # of both seeds
    assert set(table["try"][table.chosen]) == {means.idxmax()}

    limit, unstable = 0.0, {5, 6}
    with pytest.raises(Problem, match="every training of 'simclr' diverged"):
        study(tmp_path / "all").trainings("simclr")


def test_only_validation_images_decide(tmp_path):
    for split in ("train", "test"):
        with pytest.raises(Problem, match=f"not by those of '{split}'"):
            study(tmp_path, split)
    images, other = study(tmp_path / "a"), study(tmp_path / "b", n=25)  # other validation images, other numbers
    assert list(images.trainings("simclr").knn) != list(other.trainings("simclr").knn)


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
    variables |= {"profile": "smoke", "images": 60, "anchors": 40, "epochs": 1, "batch": 8}
    variables |= {"val_images": 30, "seeds": [5]}
    for cell in parameters.code_cells("06b_search"):
        exec(cell, variables)  # noqa: S102 (the notebook's own code)
        if "tries" in variables:
            return
    raise AssertionError("no cell has searched")


def test_every_row_is_a_method_with_a_knob():
    assert set(CHOICES) == set(ROWS)
    for row in ROWS:
        assert CHOICES[row][1] == search.knob(row) and search.knob(row) in methods.hyperparameters(row)


def test_the_library_trains_by_what_the_recorded_search_found():
    trainings = recorded.load("06b_search.tries").query("recorded == 'thorough-search'")
    assert set(trainings["row"]) == set(ROWS)
    for row, part in trainings.groupby("row"):
        tries = part.groupby(["learning_rate", "knob", "factor"], sort=False).knn
        assert set(tries.size()) == {len(search.schedule(row, [100, 101, 102]))} and tries.ngroups == search.TRIES
        assert tries.mean().idxmax() == CHOICES[row]


def test_the_penalty_of_the_linear_layer_is_the_best_of_the_recorded_table():
    table = recorded.load("06b_search.penalty").query("recorded == 'thorough-search'").set_index("lambda")
    assert table["mean"].idxmax() == linear.LAMBDA
    assert table["mean"].tolist() == pytest.approx(((table.untrained + table.simclr) / 2).tolist(), abs=1e-4)


def test_an_arm_with_positives_learns_from_those_of_its_kind_and_seed(tmp_path):
    tries = study(tmp_path)
    kinds = [arm.partition(" ")[2] for arm in search.ARMS["clsp-simclr"]]
    wanted = [(kind, seed) for kind in kinds if kind for seed in (5, 6)]
    stores = {(kind, seed): tries.draws[seed].images.roll(i, 3)[:, None] for i, (kind, seed) in enumerate(wanted)}
    table = tries.trainings("clsp-simclr", stores)
    for name, arm, seed in zip(table.run, table.arm, table.seed, strict=True):
        config, (method, _, kind) = read_run(tmp_path / name).config, arm.partition(" ")
        positives = images_fingerprint(stores[kind, seed]) if kind else None
        assert config["method"] == method and config["positives"] == positives
    assert "search-scenes-clsp-simclr-oracle-0.008-temperaturex1-seed5" in set(table.run)


def test_the_configuration_of_a_try_differs_only_in_what_is_searched(tmp_path):
    table = study(tmp_path, seeds=(5,)).trainings("simclr")
    configs = [read_run(tmp_path / name).config for name in table.run]
    differ = {key for config in configs for key in config if config[key] != configs[0][key]}
    assert differ == {"learning_rate", "hyperparameters", "recipe"}
