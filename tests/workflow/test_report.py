"""The report: claims gathered from what notebooks kept, verified; broken results are refused with one sentence."""

import json
import re
import shutil

import matplotlib.pyplot as plt
import pandas as pd
import pytest

from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import open_run
from synpos_lib.lab import notebook, parameters
from synpos_lib.methods.table import METHODS
from synpos_lib.results import claims, evaluations, published
from synpos_lib.results.tables import Estimate
from synpos_lib.workflow import pages, report


def keep(folder, name: str, rows: list[dict], runs=()) -> None:
    """What a notebook keeps: one figure, one table, and its claims."""
    nb = notebook.Notebook(name, {"profile": "p", "dataset": "scenes"})
    figure, axis = plt.subplots(figsize=(2, 1))
    axis.plot([1, 2])
    nb.figure(figure, "curve", 'A "curve"', runs)
    nb.table(pd.DataFrame({"accuracy": [0.25]}), "accuracy", "The accuracy", runs)
    nb.table(pd.DataFrame(rows), "claims", "Claims", runs)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("outputs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SYNPOS_OUTPUTS", str(folder))
        with open_run(folder / "p" / "runs" / "ssl-scenes-simclr-seed0", {"seed": 0}) as run:
            run.log(epoch=1, loss=3.0)
            run.save({})
            run.finish(loss=3.0)
        row = dict.fromkeys(evaluations.COLUMNS, "") | {"metric": "linear", "value": 0.5, "n": 10}
        evaluation = evaluations.evaluate(
            folder / "p" / "runs", "linear", run, {}, lambda: [row], ("synpos_lib.results.tables",)
        )
        gain, loss = Estimate(0.03, 0.01, 0.05, 3), Estimate(-0.02, -0.05, 0.01, 3)
        rows = [
            claims.claim("on scenes", "CLSP", gain, of="clsp-linear-simclr"),
            claims.claim("on cifar10", "CLSP", loss, of="clsp-linear-simclr"),
            claims.claim("on scenes", "CLSP", gain, of="clsp-linear-moco"),
            claims.claim("a question of ours", "CLSP", Estimate(0.7, 0.6, 0.8, 50), "above 0.5"),
        ]
        keep(folder, "08_linear_and_knn", rows, [run, evaluation])
        keep(folder, "11_mixdiff", [claims.claim("on scenes", "MixDiff", loss, of="mixdiff-real")])
    return folder / "p"


@pytest.fixture
def folder(made, tmp_path):
    """A copy, to spoil."""
    return shutil.copytree(made, tmp_path / "p")


def test_every_claim_of_the_papers_has_a_row_in_their_order(folder):
    found, paper = report.claims(folder), published.load("claims")
    assert list(dict.fromkeys(found.id[found.id != ""])) == list(paper.id)
    assert list(found.paper.unique()) == ["CLSP", "MixDiff", "DiffuseMix"]
    assert {"claim", "paper", "measured", "low", "high", "n", "verdict"} <= set(found)
    silent = found[~found.id.isin(["clsp-linear-simclr", "clsp-linear-moco", "mixdiff-real", ""])]
    assert set(silent.verdict) == {"not attempted here"} and set(silent.n) == {0}


def test_measurements_that_disagree_make_a_claim_partly_reproduced(folder):
    whole = report.overall(report.claims(folder)).verdict
    assert whole["clsp-linear-simclr"] == "partly" and whole["clsp-linear-moco"] == "reproduced"
    assert whole["mixdiff-real"] == "undecided" and whole["diffusemix-labels"] == "not attempted here"
    counted = report.counts(report.claims(folder))
    assert counted.to_numpy().sum() == len(published.load("claims"))
    assert list(counted.loc["MixDiff"]) == [0, 0, 1, 0, sum(published.load("claims").paper == "MixDiff") - 1]


def test_numbers_are_written_as_what_they_are(folder):
    words = {row["claim"]: report.amount(row) for row in report.claims(folder).to_dict("records")}
    assert words["a question of ours"] == "70.0 % [60.0, 80.0], n = 50"
    assert words["on cifar10"] == "-2.0 points [-5.0, +1.0], n = 3"


def test_every_number_leads_to_its_page_its_table_and_its_runs(folder):
    page = report.Parts(folder)
    page.start = folder / "notebooks"
    text = page.claims(report.claims(folder), "CLSP") + page.results("08_linear_and_knn")
    links = set(re.findall(r'href="([^"]+)"', text))
    table, run = "../tables/08_linear_and_knn.claims.csv", "../runs/ssl-scenes-simclr-seed0"
    assert {table, run, "../runs/linear-ssl-scenes-simclr-seed0", "../notebooks/08_linear_and_knn.html"} <= links
    assert all((page.start / link).resolve().exists() for link in links if not link.endswith(".html"))
    assert 'alt="A &#34;curve&#34;"' in text and "http" not in text and text.startswith("<style>")
    assert "has not run in this profile" in page.results("09_transfer")


@pytest.mark.parametrize("harm", ["edited", "deleted"])
def test_a_run_whose_metrics_were_touched_stops_the_report(folder, harm):
    metrics = folder / "runs" / "linear-ssl-scenes-simclr-seed0" / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace("0.5", "0.9")) if harm == "edited" else metrics.unlink()
    with pytest.raises(Problem, match=r"metrics.jsonl .* cannot be believed.*start again"):
        report.check_runs(folder, report.notes(folder))
    with pytest.raises(Problem):
        evaluations.collect(folder / "runs", "linear")


def test_a_table_that_was_touched_stops_the_report_and_is_set_aside(folder):
    table = folder / "tables" / "11_mixdiff.claims.csv"
    table.write_text(table.read_text().replace("undecided", "reproduced"))
    with pytest.raises(Problem, match=r"11_mixdiff.claims.csv is damaged .* start again"):
        report.claims(folder)
    assert not table.exists()  # so the workflow makes it anew
    with pytest.raises(Problem, match="is missing"):
        report.claims(folder)


def test_results_that_an_earlier_plan_left_are_not_gathered(folder):
    (folder / "plan.json").write_text(json.dumps({"jobs": {"08_linear_and_knn": {}, "09_transfer": {}}}))
    assert {note["job"] for note in report.notes(folder)} == {"08_linear_and_knn"}
    (folder / "jobs").mkdir(exist_ok=True)
    for job, seconds in {"08_linear_and_knn": 60.0, "07_ssl_training-seed=9": 36_000.0}.items():
        (folder / "jobs" / f"{job}.json").write_text(json.dumps({"notebook": job[:6], "seconds": seconds}))
    assert report.cost(folder).seconds.tolist() == [60.0]
    (folder / "jobs" / "08_linear_and_knn.json").unlink()
    message = report.caveats(folder)
    assert message[0] == "Measured on: scenes." and "08_linear_and_knn, 09_transfer" in message[1]


def test_an_unknown_claim_is_named(folder, monkeypatch):
    monkeypatch.setattr(published, "load", lambda name: pd.DataFrame([{"id": "clsp-linear", "paper": "CLSP"}]))
    with pytest.raises(Problem, match="no claim 'clsp-linear-simclr' .*did you mean 'clsp-linear'"):
        report.claims(folder)


def test_every_claim_that_a_notebook_cites_is_one_of_the_list():
    known = {*published.load("claims").id, *METHODS}
    for name in parameters.notebook_names():
        source = "\n".join(parameters.code_cells(name))
        cited = set(re.findall(r"[\"']((?:clsp|mixdiff|diffusemix)-[a-z0-9-]+)[\"']", source))
        assert "claims.claim" not in source or cited <= known, name


def test_measured_in_names_notebooks():
    named = set(published.load("claims").measured_in) - {""}
    assert named <= set(parameters.notebook_names())


def test_the_index_opens_the_report_and_folds_many_jobs_away(folder):
    jobs = ["08_linear_and_knn", *(f"07_ssl_training-seed={i}" for i in range(4)), "13_report"]
    assert "Read the report" not in pages.write_index("p", folder, jobs).read_text()
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "13_report.html").write_text("")
    text = pages.write_index("p", folder, jobs).read_text()
    assert '<p class="report"><a href="notebooks/13_report.html">Read the report' in text
    assert text.count("<details>") == 1 and "07_ssl_training: 4 jobs" in text
