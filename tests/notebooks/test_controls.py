"""The controls of notebooks 05, 07 and 08: every training finds its store, and every difference is the one it says."""

import itertools
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from synpos_lib import experiments, methods
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import open_run
from synpos_lib.experiments import search
from synpos_lib.lab import figures, notebook, parameters
from synpos_lib.methods import short
from synpos_lib.results import claims, evaluations, published, tables
from synpos_lib.train.pretrain import Config
from synpos_lib.workflow import profiles

KINDS = ("oracle", "cut-and-paste", "blurred", "retrieved")
MINUS = "−"


def cell(name: str, which: str) -> str:
    return next("".join(c["source"]) for c in parameters.read_notebook(name)["cells"] if c["id"] == which)


def kinds_of_stores(notebook: str, p: dict) -> set[str]:
    """The stores that a job of notebook 05 or 05a makes."""
    if notebook == "05a_published_positives":
        return {"cut-and-paste", *["published"] * bool(p["model"]), *["released"] * bool(p["released"])}
    kinds = {"positives", "cut-and-paste", "blurred", "retrieved"} | ({"oracle"} if p["dataset"] == "scenes" else set())
    return kinds | ({"class-conditional"} if p["conditional_steps"] else set())


def stores_asked_for(notebook: str, p: dict) -> list[tuple]:
    """The name of each store that a job reads, with the images and the anchors that it is to belong to."""
    match notebook:
        case "05b_dose_and_response" if not p["positives"]:
            return []
        case "05b_dose_and_response" | "06_ssl_methods":
            return [(f"{p['positives']}-seed{k}", p["dataset"], p["images"], p["anchors"]) for k in p["seeds"]]
        case "06b_search":
            rows = p["search_rows"] or search.rows()
            trainings = [training for row in rows for training in search.schedule(row, p["seeds"])]
            stores = {f"{kind}-{p['dataset']}-seed{k}" for _, kind, k in trainings if kind}
            return [(name, p["dataset"], p["images"], p["anchors"]) for name in stores]
        case "07_ssl_training":
            seeds = p["seeds"] if methods.recipe(p["method"]).needs_positives else ()
            return [(f"{p['positives']}-seed{k}", p["dataset"], p["images"], p["anchors"]) for k in seeds]
        case "10_ablations":
            return [(f"{p['positives']}-seed{k}", p["dataset"], p["images"]) for k in p["seeds"]]
        case "11_mixdiff":
            seeds = [] if p["stable_diffusion"] else p["seeds"]
            return [(f"{p['positives']}-seed{seed}", p["dataset"], p["images"], p["anchors"]) for seed in seeds]
    return []


@pytest.mark.parametrize("profile", profiles.profile_names())
def test_every_job_finds_the_stores_that_it_reads(profile):
    """Made from the same drawing of as many images: the store of another one would be refused after hours."""
    jobs = profiles.jobs(profile)
    makers = ("05_synthetic_positives", "05a_published_positives")
    made = [(job.notebook, job.parameters) for job in jobs if job.notebook in makers]
    stores = {
        (f"{kind}-{p['dataset']}-seed{k}", p["dataset"], p["images"], p["anchors"])
        for notebook, p in made
        for kind, k in itertools.product(kinds_of_stores(notebook, p), p["seeds"])
    }
    assert len(stores) == sum(len(kinds_of_stores(notebook, p)) * len(p["seeds"]) for notebook, p in made), "made twice"
    stores |= {store[:3] for store in stores}  # notebook 10 takes as many anchors as there are
    wanted = {job.name: stores_asked_for(job.notebook, job.parameters) for job in jobs}
    assert sum(map(len, wanted.values())) >= 3 or not made
    for name, few in wanted.items():
        assert set(few) <= stores, name


@pytest.mark.parametrize("pieces", [["quick"], ["thorough-clsp", "thorough-controls"], ["cifar"], ["paper"]])
def test_the_controls_have_five_seeds_or_ten_where_five_did_not_decide(pieces):
    jobs = [job for piece in pieces for job in profiles.jobs(piece)]
    jobs = [job.parameters for job in jobs if job.notebook == "07_ssl_training"]
    seeds = {}
    for p in jobs:
        seeds.setdefault((p["method"], p["variant"]), set()).update(p["seeds"])
        assert (p["views"] == "weak") == (p["variant"] == "weak")
        assert p["variant"] in ("", "weak", "all-images") or p["positives"] == f"{p['variant']}-{p['dataset']}"
    embedded = pieces not in (["cifar"], ["paper"])
    kinds = [kind for kind in KINDS if embedded or kind != "oracle"]  # of photographs there is no oracle
    controls = [
        ("simclr", ""),
        ("simclr", "weak"),
        ("simclr-aug", ""),
        *(("clsp-simclr", kind) for kind in ["", *kinds]),
    ]
    if pieces == ["quick"]:  # these two are in thorough-controls
        controls = [control for control in controls if control not in {("simclr", "weak"), ("clsp-simclr", "blurred")}]
    ten = {("simclr", ""), ("simclr-aug", ""), ("clsp-simclr", ""), ("clsp-simclr", "cut-and-paste")}
    for control in controls:
        assert seeds[control] == set(range(10 if "thorough-clsp" in pieces and control in ten else 5)), control


def test_one_piece_of_thorough_has_all_that_clsp_is_to_beat():
    rivals = {method for method in published.load("clsp_linear").method if not method.startswith("clsp-")}
    pieces = {name: profiles.jobs(name) for name in profiles.profile_names() if name.startswith("thorough-")}
    for name, jobs in pieces.items():
        trained = {job.parameters["method"] for job in jobs if job.notebook == "07_ssl_training"}
        if any(job.notebook == "09_transfer" for job in jobs):
            assert {"simclr", "clsp-simclr"} <= trained, name  # the baseline, and what is compared with it
        if name == "thorough-methods":
            assert len(rivals) > 15 and trained >= rivals


@pytest.fixture
def accuracies():
    """Accuracies of what, of every method that notebook 08 subtracts, for five seeds."""
    variants = [("clsp-simclr", kind) for kind in ("", *KINDS)] + [
        ("simclr", ""),
        ("simclr", "weak"),
        ("simclr", "all-images"),
        ("simclr-aug", ""),
    ]
    variants += [("adainf-simclr", ""), ("mocov2", ""), ("mocov2-aug", ""), ("clsp-mocov2", "")]
    draw, rows = np.random.default_rng(0), []
    for (method, variant), seed, metric in itertools.product(variants, range(5), ("linear", "kNN")):
        row = {"method": method, "variant": variant, "seed": seed, "metric": metric, "value": draw.random()}
        rows.append({"dataset": "scenes", "target": "scenes", "factor": "what", "n": 100, **row, "evaluation": "e"})
    return pd.DataFrame(rows)


def test_every_difference_is_the_one_it_says(accuracies):
    kept = {}
    nb = SimpleNamespace(table=lambda frame, name, *args, **options: kept.setdefault(name, frame))
    variables = {"rows": accuracies, "pd": pd, "tables": tables, "nb": nb}
    for name in ("measure-differences", "table-differences"):
        exec(cell("08_linear_and_knn", name), variables)
    table = kept["differences"].set_index(["label", "group"])
    value = accuracies.set_index(["method", "variant", "metric"]).value.sort_index()
    wanted = {
        f"clsp-simclr {MINUS} simclr": (("clsp-simclr", ""), ("simclr", "")),
        f"clsp-simclr {MINUS} simclr-aug": (("clsp-simclr", ""), ("simclr-aug", "")),
        f"clsp-simclr {MINUS} clsp-simclr cut-and-paste": (("clsp-simclr", ""), ("clsp-simclr", "cut-and-paste")),
        f"clsp-simclr {MINUS} simclr all-images": (("clsp-simclr", ""), ("simclr", "all-images")),
        f"clsp-simclr {MINUS} clsp-simclr blurred": (("clsp-simclr", ""), ("clsp-simclr", "blurred")),
        f"clsp-simclr {MINUS} clsp-simclr retrieved": (("clsp-simclr", ""), ("clsp-simclr", "retrieved")),
        f"simclr weak {MINUS} simclr": (("simclr", "weak"), ("simclr", "")),
        f"clsp-simclr oracle {MINUS} clsp-simclr": (("clsp-simclr", "oracle"), ("clsp-simclr", "")),
    }
    for (label, (ours, theirs)), metric in itertools.product(wanted.items(), ("linear", "kNN")):
        d = value[(*ours, metric)].mean() - value[(*theirs, metric)].mean()
        assert table.loc[(label, metric), "mean"] == pytest.approx(d, abs=1e-4) and table.loc[(label, metric), "n"] == 5


def test_our_own_question_is_judged_beside_the_papers_claims(accuracies, tmp_path, monkeypatch):
    """Generated minus hand-made, with a gain of three points in every seed: the verdict is for it, and of no paper."""
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    plain = accuracies[(accuracies.method == "clsp-simclr") & (accuracies.metric == "linear")]
    generated = plain[plain.variant == ""].set_index("seed").value
    hand_made = plain[plain.variant == "cut-and-paste"].index
    accuracies.loc[hand_made, "value"] = generated.loc[accuracies.seed[hand_made]].to_numpy() - 0.03
    kept = {}
    nb = SimpleNamespace(table=lambda frame, name, *a, **o: kept.setdefault(name, frame), figure=lambda *a, **o: None)
    variables = {"rows": accuracies, "pd": pd, "tables": tables, "claims": claims, "figures": figures, "nb": nb}
    variables |= {"profile": "quick", "dataset": "scenes", "compared": {}, "sentences": {}, "least": None}
    for name in ("measure-differences", "table-differences", "fig-differences", "show-claims"):
        exec(cell("08_linear_and_knn", name), variables)
    own = kept["claims"].iloc[-1]
    assert "hand-made" in own.claim and own.of == "" and own.n == 5 and own.rule == "above 0"
    assert own.measured == pytest.approx(0.03) and own.verdict == claims.verdict(tables.Estimate(0.03, 0.02, 0.04, 5))


def test_hardness_is_the_pull_of_the_last_epoch():
    logs = {("clsp-simclr", 0): (1.9, 1.0), ("clsp-simclr", 1): (1.9, 1.2), ("simclr-aug", 0): (0.1, 0.4)}
    logs |= {("simclr-aug", 1): (0.1, 0.2), ("simclr", 0): ()}  # which has no pull
    linear = pd.DataFrame([{"method": m, "seed": k, "value": 0.9, "run": f"{m} {k}"} for m, k in logs])
    runs = {f"{m} {k}": [{"epoch": i, "pull": p} for i, p in enumerate(log)] or [{}] for (m, k), log in logs.items()}
    variables = {"linear": linear, "nb": SimpleNamespace(run_folder=str)}
    variables["read_run"] = lambda name: SimpleNamespace(metrics=lambda: runs[name])
    exec(cell("08_linear_and_knn", "pulls"), variables)
    gain = tables.gain(variables["pulls"], "clsp-simclr", "simclr-aug")
    assert gain.value == pytest.approx((0.6 + 1.0) / 2 / 4) and gain.n == 2
    assert set(variables["pulls"].method) == {"clsp-simclr", "simclr-aug"}


def test_the_best_is_judged_by_the_least_certain_of_its_differences():
    """Of eight rivals most are far behind, one near but steady, and one as near and erratic: the last decides."""
    levels = {"clsp-simclr": (0.80, 0.81, 0.82), "simclr": (0.50, 0.51, 0.52), "all4one": (0.78, 0.79, 0.80)}
    levels |= {"byol": (0.60, 0.80, 0.94), "untrained": (0.9, 0.9, 0.9)}
    levels |= dict.fromkeys(("mocov2", "dino", "swav", "barlow", "vicreg"), (0.50, 0.51, 0.52))
    rows = [
        {"dataset": "scenes", "pair": pair, "method": m, "seed": k, "value": v + shift}
        for m, values in levels.items()
        for k, v in enumerate(values)
        for pair, shift in (("a", 0.1), ("b", -0.1))
    ]
    kept = {}
    variables = {"frame": pd.DataFrame(rows), "ours": "clsp-simclr", "baseline": "simclr", "names": [], "pd": pd}
    variables |= {
        "tables": tables,
        "nb": SimpleNamespace(table=lambda frame, name, *a, **o: kept.update({name: frame})),
    }
    exec(cell("09_transfer", "claims"), variables)
    judged = kept["claims"].set_index("of")
    d = np.subtract(levels["clsp-simclr"], levels["byol"])
    best = judged.loc["clsp-transfer-stl10"]
    assert best.measured == pytest.approx(d.mean()) and "byol" in best.claim and best.verdict == claims.CROSSES
    assert judged.measured["clsp-transfer-cifar"] == pytest.approx(0.3)
    assert judged.verdict["clsp-transfer-imagenet100"] == claims.HOLDS and (judged.n == 3).all()
    variables["frame"] = variables["frame"][variables["frame"].method != "vicreg"]
    exec(cell("09_transfer", "claims"), variables)
    assert kept["claims"].set_index("of").verdict["clsp-transfer-stl10"] == claims.NOT_ATTEMPTED  # of too few


def evaluated(folder, method: str, seed: int, images: str, test: str) -> None:
    """A training on these images and its evaluation on these test images."""
    name = f"ssl-scenes-{method}-seed{seed}"
    with open_run(folder / name, {"encoder": "small", "epochs": 2, "normalization": "other", "images": images}) as run:
        run.save({})
        run.finish(loss=1)
    row = {"dataset": "scenes", "target": "scenes", "method": method, "variant": "", "seed": seed, "factor": "what"}
    rows = [{**row, "metric": "linear", "value": 0.5, "n": 9}]
    about = {"train": images, "test": test, "linear": "converged", "learning_rate": 1.0}
    for protocol, of in (("linear", run), ("untrained", f"scenes-small-seed{seed}")):
        evaluations.evaluate(folder, protocol, of, about, lambda: rows, ("synpos_lib.evaluate.knn",))


def collect(folder) -> None:
    variables = {"dataset": "scenes", "evaluations": evaluations, "safe_name": lambda name: name}
    exec(cell("08_linear_and_knn", "collect"), variables | {"nb": SimpleNamespace(run_folder=lambda name: folder)})


def test_images_differ_between_seeds_and_are_the_same_within_one(tmp_path):
    for seed, method in itertools.product((0, 1), ("simclr", "clsp-simclr")):
        evaluated(tmp_path, method, seed, f"images {seed}", f"test {seed}")
    collect(tmp_path)
    evaluated(tmp_path, "byol", 1, "images 1", "test 0")
    with pytest.raises(Problem, match='differ in test: it is "test 0" in linear-ssl-scenes-byol-seed1'):
        collect(tmp_path)
    evaluated(tmp_path, "byol", 1, "images 0", "test 1")
    with pytest.raises(Problem, match='differ in images: it is "images 0" in ssl-scenes-byol-seed1'):
        collect(tmp_path)


def test_notebook_05_makes_each_kind_from_its_own_drawing(tmp_path, monkeypatch):
    """Two seeds leave stores side by side, each readable with its own images only."""
    from synpos_lib.data import catalog, positives
    from synpos_lib.data.images import draw_images

    monkeypatch.setenv("SYNPOS_OUTPUTS", str(tmp_path))
    whole = catalog.load("scenes", "train", n=40)

    class Flip:
        settings = {"generator": "flip"}

        def generate(self, anchors, k, seed):
            return anchors.flip(3)[:, None].expand(-1, k, -1, -1, -1)

    variables = {
        "nb": notebook.Notebook("05_synthetic_positives", {"profile": "p"}),
        "positives": positives,
        "draws": {seed: draw_images(whole, 10, seed) for seed in (0, 1)},
        "dataset": "scenes",
        "seeds": [0, 1],
    }
    variables |= {"candidates": 2, "BottleneckMixing": lambda *a, **o: Flip(), "anchors": 10, "unet": None}
    exec(
        cell("05_synthetic_positives", "make-store"),
        variables | dict.fromkeys(("w", "anchor_time", "steps", "sampler")),
    )
    for seed in (0, 1):
        place, images = tmp_path / "p" / "runs" / f"positives-scenes-seed{seed}", draw_images(whole, 10, seed)
        assert (positives.read(place, images)[:, 1] == images.images.flip(3)).all()
        with pytest.raises(Problem, match="made from other images"):
            positives.read(place, draw_images(whole, 10, 1 - seed))


def test_more_images_to_learn_from_mean_fewer_passes_and_as_many_steps():
    names = {"experiments": experiments, "methods": methods, "short": short, "Config": Config}
    steps = {}
    for learned in (0, 3000, 5000):
        variables = {key: each.default for key, each in parameters.notebook_parameters("07_ssl_training").items()}
        variables |= names | {"train": range(1500), "learned": learned, "seed": 0, "method": "mocov2"}
        exec(cell("07_ssl_training", "recipe-of-this-run"), variables)  # noqa: S102 (the notebook's own code)
        a_pass = (learned or 1500) // 64
        config = variables["config"]
        steps[learned] = config.epochs * a_pass
        assert config.hyperparameters["queue_size"] == (learned or 1500) // 16
        assert config.hyperparameters["tau"][0] == pytest.approx(1 - 30 / steps[learned])
        assert abs(steps[learned] - steps[0]) <= a_pass / 2
    assert steps[0] == 40 * 23
