"""The arms are the methods they say, take equal steps, and their claims are differences over seeds."""

import dataclasses
from collections.abc import Iterator

import pandas as pd
import pytest
import torch

from synpos_lib import methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.data.images import images_fingerprint, take
from synpos_lib.evaluate import robustness
from synpos_lib.experiments import collapses, differences, mixdiff
from synpos_lib.methods import short
from synpos_lib.results import evaluations, tables
from synpos_lib.train.pretrain import Config

WIDE = mixdiff.Training({"hidden": 16, "out": 8, "tau_t": 0.04}, warmup=0.5, short=True)


@pytest.fixture
def small(tmp_path) -> Iterator[mixdiff.Study]:
    """Forty images, and black variations of them."""
    train = catalog.load("scenes", "train", n=40)
    clean = catalog.load("scenes", "test", n=20)
    sets = {"clean": lambda: clean, "+fog-1": lambda: clean}
    black = torch.zeros(40, 1, 3, 32, 32, dtype=torch.uint8)
    config = Config(encoder="small", epochs=2, batch=8, optimizer="adamw", views=mixdiff.PLAIN)
    with pytest.MonkeyPatch.context() as patch:  # whatever a search has chosen
        for name, knob in (("simclr", "temperature"), ("dino", "tau_t")):
            patch.setitem(short.CHOICES, name, (2e-3, knob, 1.0))
        yield mixdiff.Study(tmp_path, train, black, config, {"simclr": 1e-3, "dino": 5e-4}, sets, WIDE)


def test_each_arm_is_an_ordinary_run_of_its_method(small):
    for arm, method in {"Real": "simclr", "Syn": "synthetic-simclr", "Mix": "mixdiff-simclr"}.items():
        rows = small.answers(arm, "simclr", seed=1)
        run = read_run(small.runs / rows.run[0])
        assert run.config["method"] == method and run.config["learning_rate"] == 1e-3 and run.config["seed"] == 1
        assert run.config["hyperparameters"] == {"hidden": 16, "out": 8}
        assert list(rows.target) == ["clean", "+fog-1"] and set(rows.method) == {arm} and set(rows.base) == {"SimCLR"}
        assert set(rows.augmentation) == {mixdiff.WITHOUT} and run.name == f"mix-scenes-{method}-noaug-seed1"
    frame = evaluations.collect(small.runs, "shift", "mix-scenes-")
    assert len(frame) == 6 and set(frame.seed) == {1}


def test_a_recipe_gives_each_method_what_it_has(small):
    dino = read_run(small.runs / small.answers("Real", "dino", seed=0).run[0]).config["hyperparameters"]
    sizes = {"prototypes": 8, "tau": [0.0, 1.0]}  # as many as a batch, on so few images; no memory in so few steps
    assert dino == {"hidden": 16, "out": 8, "tau_t": 0.04, **sizes}


def test_a_method_has_the_rate_that_was_searched_unless_one_is_given(small):
    small.rates = {}
    found = read_run(small.runs / small.answers("Mix", "simclr", seed=0).run[0]).config
    rate, changes = short.settings("simclr", width=128, images=40, batch=8, steps=10)
    assert found["learning_rate"] == rate and found["hyperparameters"] == changes | {"hidden": 16, "out": 8}


def test_a_recipe_sets_nothing_that_no_method_has():
    known = set().union(*(methods.hyperparameters(base) for base in mixdiff.NAMES))
    assert all(set(recipe.hyperparameters) <= known for recipe in mixdiff.TRAININGS.values())
    with pytest.raises(Problem, match="unknown recipe 'relaesed' .*released"):
        mixdiff.training("relaesed")


def test_a_second_asking_trains_nothing(small, monkeypatch):
    first = small.answers("Mix", "simclr", seed=0)
    monkeypatch.setattr(robustness, "measure", None)
    assert small.answers("Mix", "simclr", seed=0).equals(first)


def test_fewer_images_take_as_many_steps(small):
    rows = torch.arange(0, 40, 2)
    part = take(small.images, rows)
    found = small.answers("Mix", "simclr", seed=0, variant="half", images=part, variations=small.variations[rows])
    assert read_run(small.runs / found.run[0]).config["epochs"] * (20 // 8) == 2 * (40 // 8)


def test_all_mixed_none_mixed_and_some_mixed_pairs_differ_by_their_ratio(small):
    """At ratio 0 the mixed arm is the real one, weight for weight."""
    none = small.answers("Mix", "simclr", seed=0, variant="ratio-0", ratio=0.0)
    real, mixed = small.answers("Real", "simclr", seed=0), small.answers("Mix", "simclr", seed=0)
    weights = [read_run(small.runs / rows.run[0]).final()["method"] for rows in (none, real, mixed)]
    for name, value in weights[1].items():
        assert torch.equal(weights[0][f"base.{name}"], value)
    assert any(not torch.equal(weights[2][f"base.{name}"], value) for name, value in weights[1].items())


def test_each_study_has_runs_of_its_own_beside_the_usual_ones(small):
    white = torch.full_like(small.variations, 255)
    others = {"variation": (0.8, None), "2-steps": (0.4, white), "noise-and-denoise": (0.2, white)}
    small.config = dataclasses.replace(small.config, views=("vicreg", "vicreg"))
    table = small.studies("simclr", seed=0, others=others, shares=[0.5])
    assert set(table.target) == {"clean"} and set(table.seed) == {0}
    points = set(table[["study", "x", "method", "variant"]].itertuples(index=False, name=None))
    assert points == {
        ("ratio", 0.0, "Real", "aug"),
        ("ratio", 0.5, "Mix", "ratio-0.5"),
        ("ratio", 1.0, "Mix", "aug"),
        ("quality", 0.8, "Mix", "aug"),
        ("quality", 0.4, "Mix", "2-steps"),
        ("generator", 0.2, "Mix", "noise-and-denoise"),
        *[("share", 0.5, arm, "share-0.5") for arm in ("Real", "Mix")],
        *[("share", 1.0, arm, "aug") for arm in ("Real", "Mix")],
    }
    assert table[table.variant != "aug"].run.is_unique
    folders = table.groupby("variant").run.last()
    other, half = (read_run(small.runs / folders[variant]).config for variant in ("2-steps", "share-0.5"))
    assert (
        half["epochs"] * (20 // 8) == other["epochs"] * (40 // 8)
        and half["images"] != other["images"] == small.images.fingerprint
    )
    assert other["positives"] == images_fingerprint(white) != half["positives"]


def test_an_unknown_arm_is_refused(small):
    with pytest.raises(Problem, match="unknown arm 'Real2'"):
        small.answers("Real2", "simclr", seed=0)


def test_a_collapsed_training_is_named(small, monkeypatch):
    healthy = small.answers("Real", "simclr", seed=0)
    assert (healthy.warning == "").all() and collapses(healthy) == "0 of 1 trainings collapsed"
    monkeypatch.setattr(torch.nn.Module, "__call__", constant_features(torch.nn.Module.__call__))
    flat = small.answers("Real", "simclr", seed=1)
    monkeypatch.undo()
    again = small.answers("Real", "simclr", seed=1)  # reused, and named all the same
    for rows in (flat, again):
        assert rows.warning.str.startswith("collapsed: all images have nearly the same features").all()
    name = "mix-scenes-simclr-noaug-seed1"
    assert collapses(pd.concat([healthy, again])) == f"1 of 2 trainings collapsed: {name}"


def constant_features(call):
    """Every network in evaluation mode gives the same features for all images."""

    def flat(self, *inputs, **options):
        out = call(self, *inputs, **options)
        return out if self.training or not isinstance(out, torch.Tensor) or out.ndim != 2 else out[:1].expand_as(out)

    return flat


def test_why_a_run_is_not_reused_is_shown_and_one_line_for_each_training(small, capsys):
    small.answers("Real", "simclr", seed=0)
    small.rates["simclr"] = 2e-3
    small.answers("Real", "simclr", seed=0)
    lines = capsys.readouterr().out.splitlines()
    assert any("not reused, since learning_rate was 0.001 and is now 0.002" in line for line in lines)
    assert [line.split("epoch ")[1][:3] for line in lines if "epoch" in line] == ["2/2"] * 2
    small.answers("Real", "simclr", seed=0)
    assert capsys.readouterr().out == ""


def rows(values: dict, **columns) -> pd.DataFrame:
    return pd.DataFrame(
        {"method": method, "seed": seed, "value": value, **columns}
        for method, by_seed in values.items()
        for seed, value in by_seed.items()
    )


def test_the_claims_are_paired_differences():
    usual = {"base": "SimCLR", "augmentation": mixdiff.WITH}
    real, mix = {0: 0.50, 1: 0.60, 2: 0.55}, {0: 0.58, 1: 0.66, 2: 0.62}
    clean = rows({"Real": real, "Syn": {0: 0.4, 1: 0.5, 2: 0.6}, "Mix": mix}, target="clean", **usual)
    foggy = rows({"Real": real, "Mix": {0: 0.4, 1: 0.5, 2: 0.45}}, target="fog", **usual)
    bare = rows({"Mix": {0: 0.49, 1: 0.59, 2: 0.54}}, target="clean", base="SimCLR", augmentation=mixdiff.WITHOUT)
    tasks = rows({"Real": real, "Mix": real}, target="digits", **usual)
    worst = rows({"Mix": mix}, study="quality", x=0.2, variant="2-steps")
    better = rows({"Mix": {0: 0.1, 1: 0.2}}, study="quality", x=0.4, variant="5-steps")
    other = rows({"Mix": {0: 0.51, 1: 0.62}}, study="generator", x=0.1, variant="noise-and-denoise")
    half = rows({"Mix": {0: 0.3}, "Real": {0: 0.1}}, study="share", x=0.5, variant="share-0.5")
    more = rows({"Mix": real, "Real": real}, study="share", x=0.75, variant="share-0.75")
    studies = pd.concat([worst, better, other, half, more])
    table = mixdiff.claims(pd.concat([clean, foggy, bare]), tasks, studies).set_index("of")
    expected = tables.mean([0.08, 0.06, 0.07])
    found = table.loc["mixdiff-real"]
    assert (found.measured, found.low, found.n) == pytest.approx((expected.value, expected.low, 3))
    assert found.verdict == table.loc["mixdiff-quality", "verdict"] == "holds on these images"
    assert table.loc["mixdiff-quality", "measured"] == pytest.approx(0.07)
    assert table.loc["mixdiff-generators", "measured"] == pytest.approx(0.015)
    assert table.loc["mixdiff-synthetic-only", "verdict"] == "undecided: interval crosses"
    assert table.loc["mixdiff-shift", "verdict"] == "does not hold on these images"
    assert table.loc["mixdiff-transfer", "verdict"] == "does not hold on these images"
    assert table.loc["mixdiff-noaug", "measured"] == pytest.approx(-0.01)
    assert table.loc["mixdiff-noaug", "verdict"] == "holds on these images"
    assert (
        table.loc["mixdiff-less-data", "measured"] == pytest.approx(-0.2) and table.loc["mixdiff-less-data", "n"] == 1
    )
    control = table.loc[""]
    assert control.measured == pytest.approx(0.1 - 0.5) and control.n == 1 and "Real of 50%" in control.claim
    assert table.loc["mixdiff-imagenet", "verdict"] == "not attempted" and "4.56" in table.claim["mixdiff-imagenet"]


def test_the_mean_of_all_methods_is_taken_over_the_seeds_that_all_have():
    about = {"augmentation": mixdiff.WITH, "target": "fog"}
    first = rows({"Real": {0: 0.5, 1: 0.5, 2: 0.5}, "Mix": {0: 0.6, 1: 0.6, 2: 0.6}}, base="SimCLR", **about)
    second = rows({"Real": {0: 0.5, 1: 0.5}, "Mix": {0: 0.2, 1: 0.3}}, base="DINO", **about)
    shifts = pd.concat([first, second])
    table = mixdiff.claims(
        pd.concat([shifts.assign(target="clean"), shifts]), shifts[:0], first[:0].assign(study="", x=0.0, variant="")
    ).set_index("of")
    assert table.measured["mixdiff-shift"] == pytest.approx((0.1 + (-0.3 - 0.2) / 2) / 2)
    assert table.n["mixdiff-shift"] == 2 and table.n["mixdiff-real"] == 3


def test_studies_that_were_not_made_are_not_attempted():
    usual = {"base": "SimCLR", "augmentation": mixdiff.WITH, "target": "clean"}
    clean = rows({"Real": {0: 0.5, 1: 0.6}, "Syn": {0: 0.4, 1: 0.5}, "Mix": {0: 0.6, 1: 0.7}}, **usual)
    ratio = rows({"Mix": {0: 0.3}}, study="ratio", x=0.5, variant="ratio-0.5")
    table = mixdiff.claims(clean, clean, ratio).set_index("of")
    for study in ("quality", "generators", "less-data"):
        assert table.loc[f"mixdiff-{study}", "verdict"] == "not attempted"


def test_where_fewer_images_cost_nothing_no_claim_about_them_is_judged():
    usual = {"base": "SimCLR", "augmentation": mixdiff.WITH, "target": "clean"}
    clean = rows({"Real": {0: 0.5, 1: 0.6}, "Mix": {0: 0.6, 1: 0.7}}, **usual)
    for loss, verdict in ((0.0, "cannot show it here"), (0.1, "holds on these images")):
        few = {"Real": {0: 0.5 - loss, 1: 0.601 - loss}, "Mix": {0: 0.6, 1: 0.7}}
        less = rows(few, study="share", x=0.1, variant="share-0.1")
        table = mixdiff.claims(clean, clean, less).set_index("of")
        assert table.loc["mixdiff-less-data", "verdict"] == verdict


def test_a_title_says_the_paired_differences():
    values = {"Real": {0: 0.5, 1: 0.6}, "Mix": {0: 0.6, 1: 0.65}}
    both = pd.concat([rows(values, base="SimCLR"), rows({"Real": {0: 0.4}, "Mix": {0: 0.36}}, base="DINO")])
    assert differences(both, "base", "Mix", "Real") == "Mix − Real: SimCLR +7.5, DINO -4.0 points (n = 2)"
