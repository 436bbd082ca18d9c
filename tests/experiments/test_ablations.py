"""A setting changes one thing, its answers are those of the linear protocol, and claims are paired differences."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch

from synpos_lib.core.runs import read_run
from synpos_lib.data import catalog
from synpos_lib.data.images import draw_images
from synpos_lib.evaluate.linear_and_knn import linear_and_knn
from synpos_lib.experiments import ablations
from synpos_lib.results import evaluations, published
from synpos_lib.train.pretrain import Config, load_encoder


class Mirror:
    """A generator whose candidate is the anchor, upside down."""

    settings = {"generator": "mirror"}

    def generate(self, anchors, k, seed):
        return anchors.flip(2)[:, None].expand(-1, k, -1, -1, -1)


@pytest.fixture
def study(tmp_path) -> ablations.Study:
    """Forty images, and a judge who knows the share of pixels that an image has in common with its anchor."""
    whole = catalog.load("scenes", "train", n=60)
    images = {k: draw_images(whole, 40, k) for k in (0, 1)}
    val, test = catalog.load("scenes", "val", n=30), {k: catalog.load_test("scenes", 30, k) for k in (0, 1)}

    def kept(images, anchors):
        return [{"kept": "what", "value": (images == anchors.images).double().mean().item()}]

    own = {"hidden": 16, "out": 8, ablations.PULL: 1.0}
    config = Config(epochs=1, batch=8, views=("vicreg", "vicreg"), hyperparameters=own, probe_every=1)
    return ablations.Study(tmp_path, images, val, test, SimpleNamespace(agreement=kept), config)


@pytest.fixture
def stores(study):
    """One candidate for each image of each seed."""
    return [study.store(f"mirrored-seed{k}", Mirror(), seed=k)[0] for k in (0, 1)]


def test_a_setting_is_an_ordinary_run_with_one_thing_changed(study, stores):
    rows = study.answers("lambda", 0.2, stores[1], seed=1, **{ablations.PULL: 0.2})
    usual = study.answers("candidates", 1, stores[1], seed=1)
    run, other = (read_run(study.runs / frame.run.iloc[0]) for frame in (rows, usual))
    assert run.name == "ssl-scenes-clsp-simclr-lambda=0.2-seed1"
    changed = {key for key in run.config if run.config[key] != other.config[key]}
    assert changed == {"hyperparameters"} and run.config["hyperparameters"][ablations.PULL] == 0.2
    assert set(rows.setting) == {"lambda"} and set(rows["at"]) == {0.2} and set(rows.validation) == {run.results["knn"]}
    assert (rows.warning == "").all() and set(rows.variant) == {"lambda=0.2"}


def test_the_answers_are_the_linear_protocol_on_test_images(study, stores):
    rows = study.answers("candidates", 1, stores[0], seed=0)
    encoder = load_encoder(read_run(study.runs / rows.run.iloc[0]))
    expected = {
        row["factor"]: row["value"]
        for row in linear_and_knn(encoder, study.images[0], study.test[0], seed=0)
        if row["metric"] == "linear"
    }
    assert dict(zip(rows.factor, rows.value, strict=True)) == expected and (rows.n == 30).all()
    assert len(evaluations.collect(study.runs, "linear", "ssl-scenes-")) == 4  # kNN of both factors too


def test_another_method_leaves_out_the_hyperparameters_that_it_lacks(study):
    rows = study.answers("noaug", "plain", None, seed=0, method="simclr", views=("plain", "plain"))
    config = read_run(study.runs / rows.run.iloc[0]).config
    assert config["hyperparameters"] == {"hidden": 16, "out": 8} and config["views"] == ["plain", "plain"]


def test_a_store_is_what_the_generator_makes_and_what_the_judge_sees(study):
    store, facts = study.store("mirrored", Mirror(), seed=1, k=3)
    anchors = study.images[1].images
    assert store.shape[1] == 3 and torch.equal(store[:, 2], anchors.flip(2))
    same = (anchors == anchors.flip(2)).double().mean().item()
    assert facts["what kept"] == pytest.approx(same) and facts["images per second"] > 0


def test_every_seed_has_its_own_images_and_its_own_drawing_of_positives(study):
    class Noise(Mirror):
        settings = {"generator": "noise"}

        def generate(self, anchors, k, seed):
            draw = torch.Generator().manual_seed(seed)
            return torch.randint(256, (len(anchors), k, *anchors.shape[1:]), generator=draw, dtype=torch.uint8)

    first, second = (study.store(f"noise-seed{k}", Noise(), seed=k)[0] for k in (0, 1))
    again = study.store("more-seed0", Noise(), seed=0)[0]
    assert not torch.equal(first, second) and not torch.equal(first, again)  # candidates 9 to 32 are not 1 to 8 again
    runs = [study.answers("noaug", "plain", None, seed=k, method="simclr").run.iloc[0] for k in (0, 1)]
    assert len({read_run(study.runs / name).config["images"] for name in runs}) == 2
    tested = {evaluations.collect(study.runs, "linear", name).evaluation.iloc[0] for name in runs}
    assert len({read_run(study.runs / name).config["test"] for name in tested}) == 2


def test_claims_compare_the_usual_value_with_others():
    values = {
        ("candidates", 4): (0.6, 0.7),
        ("candidates", 1): (0.5, 0.5),
        ("lambda", 1.0): (0.6, 0.7),
        ("lambda", 0.01): (0.6, 0.6),
        ("lambda", 1.6): (0.8, 0.8),
        ("w", 0.1): (0.5, 0.5),
        ("w", 0.5): (0.9, 0.9),
        ("w", 1.0): (0.2, 0.3),
        ("noaug", "plain"): (0.2, 0.2),
        ("noaug", "augmented"): (0.6, 0.7),
    }
    rows = [
        {"setting": s, "at": at, "seed": k, "value": v, "method": "clsp-simclr", "factor": "what"}
        for (s, at), pair in values.items()
        for k, v in enumerate(pair)
    ]
    rows += [{**row, "method": "simclr", "value": 0.0} for row in rows]
    rows += [{**row, "factor": "where", "value": 1.0} for row in rows]
    usual = {"method": "clsp-simclr", "candidates": 4, "lambda": 1.0, "w": 0.1}
    table = ablations.claims(pd.DataFrame(rows), usual).set_index("of")
    measured = {"candidates": 0.15, "lambda": 0.05, "lambda-too-large": -0.15, "w": 0.25, "noaug": 0.45}
    for of, value in measured.items():
        assert table.measured[f"clsp-{of}"] == pytest.approx(value) and table.n[f"clsp-{of}"] == 2
    assert table.verdict["clsp-candidates-enough"] == "not attempted"
    assert set(table.index) <= set(published.load("claims").id)
    strong = [row for row in rows if (row["setting"], row["at"]) != ("lambda", 0.01)]  # no weaker pull was tried
    table = ablations.claims(pd.DataFrame(strong), usual).set_index("of")
    assert table.verdict["clsp-lambda"] == "not attempted" and "0.01" in table.claim["clsp-lambda"]
    assert table.measured["clsp-lambda-too-large"] == pytest.approx(-0.15)
