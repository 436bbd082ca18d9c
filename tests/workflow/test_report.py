"""The report: claims gathered from what notebooks kept, verified; broken results are refused with one sentence."""

import re
import shutil

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from jobs import write_mark

from synpos_lib.core import files
from synpos_lib.core.errors import Problem
from synpos_lib.core.runs import open_run
from synpos_lib.lab import notebook, parameters, recorded
from synpos_lib.methods.table import METHODS
from synpos_lib.results import claims, evaluations, published
from synpos_lib.results.tables import Estimate, share
from synpos_lib.workflow import pages, profiles, report


def keep(folder, name: str, rows: list[dict], runs=(), **parameters) -> None:
    """What a notebook keeps: one figure, one table, and its claims."""
    nb = notebook.Notebook(name, {"profile": "p", "dataset": "scenes"} | parameters)
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
            claims.claim("with ten species", "CLSP", gain, of="clsp-linear-simclr"),
            claims.claim("with five species", "CLSP", loss, of="clsp-linear-simclr"),
            claims.claim("on scenes", "CLSP", gain, of="clsp-linear-moco"),
            claims.claim("helped", "CLSP", gain, of="clsp-knn", departure="a helped model"),
            claims.claim("plain", "CLSP", loss, of="clsp-knn"),
            claims.claim("helped", "CLSP", gain, of="clsp-aug-control", departure="a helped model"),
            claims.claim("a question of ours", "CLSP", share(35, 50), "above 0.5"),
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
    assert {"claim", "paper", "measured", "low", "high", "n", "p", "verdict", "corrected"} <= set(found)
    measured = [f"clsp-{name}" for name in ("linear-simclr", "linear-moco", "knn", "aug-control")]
    silent = found[~found.id.isin([*measured, "mixdiff-real", ""])]
    assert set(silent.verdict) == set(silent.corrected) == {"not attempted"} and set(silent.n) == {0}


HOLDS, CROSSES = "holds on these images", "undecided: interval crosses"


def test_a_claim_has_the_least_favourable_verdict_of_its_measurements(folder):
    whole = report.overall(report.claims(folder)).verdict
    assert whole["clsp-linear-simclr"] == CROSSES and whole["clsp-linear-moco"] == HOLDS
    assert whole["mixdiff-real"] == CROSSES and whole["diffusemix-labels"] == "not attempted"
    counted = report.counts(report.claims(folder))
    assert counted.to_numpy().sum() == len(published.load("claims"))
    assert counted.loc["MixDiff", CROSSES] == 1 and counted.loc["MixDiff", HOLDS] == 0
    assert counted.loc["MixDiff", "not attempted"] == sum(published.load("claims").paper == "MixDiff") - 1


def test_a_departure_stands_below_the_others_and_decides_nothing(folder):
    found = report.claims(folder)
    assert found[found.id == "clsp-knn"].claim.tolist() == ["plain", "helped"]  # kept the other way round
    assert found[found.id == "clsp-aug-control"].verdict.tolist() == ["not attempted", HOLDS]
    whole = report.overall(found)
    assert whole.verdict["clsp-knn"] == CROSSES and whole.measurements["clsp-knn"] == 1
    assert whole.verdict["clsp-aug-control"] == "not attempted"
    text = report.Parts(folder).claims(found, "CLSP")
    assert text.count("departure, not counted:</i> a helped model") == 2


def test_the_corrected_verdict_counts_all_measurements_as_one_family(folder):
    found = report.claims(folder)
    family = found[found.n > 0]
    assert len(family) == 8 and (family.verdict == HOLDS).sum() == 5
    order = family.p.sort_values()
    passed = [p <= 0.05 / (8 - i) for i, p in enumerate(order)]
    left = passed.index(False)  # of the step-down procedure
    assert (family.corrected == HOLDS).sum() == left < 5
    assert report.counts(found, "corrected")[HOLDS].sum() < report.counts(found)[HOLDS].sum()


def test_reproduced_is_said_of_the_papers_own_data_and_settings_only(folder, monkeypatch):
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(folder.parent))
    own = next(job.parameters for job in profiles.jobs("paper") if job.notebook == "08_linear_and_knn")
    gain = Estimate(0.03, 0.0299, 0.0301, 30)
    rows = [
        claims.claim("", "CLSP", gain, of="clsp-linear-simclr"),
        claims.claim("", "CLSP", gain, "below 0", of="clsp-knn"),
        claims.claim("", "CLSP", gain, of="clsp-knn", departure="half as long"),
        claims.claim("", "CLSP", gain, of="clsp-conditional"),  # of CIFAR-100
        claims.claim("", "CLSP", gain, of="clsp-linear-moco", on="cifar100"),
        claims.claim("", "CLSP", gain, of="clsp-linear-moco", on="scenes"),
    ]
    keep(folder.parent / "paper", "08_linear_and_knn", rows, **own)
    found = report.claims(folder.parent / "paper").query("n > 0")
    assert found.verdict.tolist() == found.corrected.tolist()
    assert dict(zip(found.id + found.on + found.departure, found.verdict, strict=True)) == {
        "clsp-linear-simclrcifar10": "reproduced",
        "clsp-knncifar10": "not reproduced",
        "clsp-knncifar10half as long": HOLDS,
        "clsp-conditionalcifar10": HOLDS,
        "clsp-linear-mococifar100": "reproduced",
        "clsp-linear-mocoscenesother images or settings than the paper's": HOLDS,
    }
    assert "3 of 6 measurements are on a paper's own data and settings" in report.images(found)
    keep(folder.parent / "cifar", "08_linear_and_knn", rows, profile="cifar", dataset="cifar10")
    found = report.claims(folder.parent / "cifar").query("n > 0")
    assert set(found.verdict) == {HOLDS, "does not hold on these images"}


def test_a_sentence_says_on_which_images(folder):
    sentence = report.images(report.claims(folder))
    assert "“These images”: scenes. No measurement is on a paper's own data and settings" in sentence
    assert sentence in report.Parts(folder).claims(report.claims(folder), "MixDiff").replace("&#39;", "'")


@pytest.mark.parametrize("word", ["reproduced", "partly", ""])
def test_a_verdict_that_no_rule_gives_is_refused(folder, monkeypatch, word):
    """As in the tables of an older version."""
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(folder.parent))
    row = claims.claim("on scenes", "MixDiff", Estimate(0.03, 0.01, 0.05, 3), of="mixdiff-real")
    keep(folder, "11_mixdiff", [row | {"verdict": word}])
    with pytest.raises(Problem, match=r"verdict .* in .*11_mixdiff.claims.csv is not .*: run notebook 11_mixdiff ag"):
        report.claims(folder)


def test_numbers_are_written_as_what_they_are(folder):
    words = {row["claim"]: report.amount(row) for row in report.claims(folder).to_dict("records")}
    assert words["a question of ours"] == "70.0 % [56.2, 80.9], n = 50"
    assert words["with five species"] == "-2.0 points [-5.0, +1.0], n = 3"


def test_an_undecided_claim_says_how_many_would_decide_it(folder, monkeypatch):
    monkeypatch.setenv("SYNPOS_OUTPUTS", str(folder.parent))
    words = {row["claim"]: report.shortfall(row) for row in report.claims(folder).to_dict("records")}
    assert words["with five species"] == "n = 4 would decide, mean and spread being equal" and not words["helped"]
    none = claims.claim("no effect", "MixDiff", Estimate(0.0, -0.05, 0.05, 3), of="mixdiff-real")
    keep(folder, "11_mixdiff", [none])
    text = "cannot be shown here: it would take over 100 runs or 10000 images"
    found = report.claims(folder)
    assert [report.shortfall(row) for row in found[found.claim == "no effect"].to_dict("records")] == [text]
    assert text in report.Parts(folder).claims(found, "MixDiff")
    keep(folder, "11_mixdiff", [{key: value for key, value in none.items() if key != "needs"}])  # an earlier version's
    found = report.claims(folder)
    assert [report.shortfall(row) for row in found[found.claim == "no effect"].to_dict("records")] == [""]
    assert found.needs.notna().any()


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
    table.write_text(table.read_text().replace("undecided", "decided"))
    with pytest.raises(Problem, match=r"11_mixdiff.claims.csv is damaged .* start again"):
        report.claims(folder)
    assert not table.exists()  # so the workflow makes it anew
    with pytest.raises(Problem, match="is missing"):
        report.claims(folder)


def test_results_that_an_earlier_plan_left_are_not_gathered(folder):
    entry = {"parameters": {}, "after": [], "waits_for": [], "seconds": None, "memory_mb": None, "disk_mb": None}
    jobs = {name: {"notebook": name, "basis": "", **entry} for name in ("08_linear_and_knn", "09_transfer")}
    files.write_json(folder / "plan.json", {"profile": "p", "threads": 1, "jobs": jobs})
    assert {note["job"] for note in report.notes(folder)} == {"08_linear_and_knn"}
    (folder / "jobs").mkdir(exist_ok=True)
    for job, seconds in {"08_linear_and_knn": 60.0, "07_ssl_training-seed=9": 36_000.0}.items():
        write_mark(folder / "jobs" / f"{job}.json", notebook=job[:6], seconds=seconds)
    assert report.cost(folder).seconds.tolist() == [60.0]
    (folder / "jobs" / "08_linear_and_knn.json").unlink()
    message = report.caveats(folder)
    assert message[0].startswith("“These images”: scenes.") and "08_linear_and_knn, 09_transfer" in message[1]


def record(folder, name, rows, job="08_linear_and_knn", **parameters):
    """A recording of one table of claims."""
    table = folder / name / "tables" / f"{job}.claims.csv"
    files.write_bytes(table, pd.DataFrame(rows).to_csv(index=False).encode())
    notebook = {"notebook": job.split("-")[0]}
    result = dict.fromkeys(("text", "code", "made", "hardware"), "") | {"sha256": files.sha256(table)} | notebook
    about = notebook | {"parameters": {"dataset": "scenes"} | parameters}
    manifest = {"profile": name, "command": name, "figures": {}, "tables": {table.name: result}, "jobs": {job: about}}
    files.write_json(folder / name / "manifest.json", manifest)


def test_of_the_pieces_of_a_recording_the_one_with_most_seeds_judges_a_claim(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    few, many, none = Estimate(0.03, -0.01, 0.07, 5), Estimate(0.03, 0.01, 0.05, 12), Estimate(0.0, -0.05, 0.05, 5)
    for name, gain in {"quick": few, "thorough-a": many, "thorough-b": few}.items():
        words = f"{gain.n} seeds"
        rows = [claims.claim(f"{on}, {words}", "CLSP", gain, of="clsp-knn") for on in ("one", "two")]
        record(tmp_path, name, [*rows, claims.claim("ours", "CLSP", few), claims.claim("not run", "CLSP", None)])
    record(tmp_path, "thorough-c", [claims.claim("no effect", "MixDiff", none, of="mixdiff-real")], "11_mixdiff-seed=1")
    found = {place: rows[rows.n > 0] for place, rows in report.recorded_claims().items()}
    numbers = {place: list(zip(rows.claim, rows.n, rows.verdict, strict=True)) for place, rows in found.items()}
    assert numbers["quick †"] == [("one, 5 seeds", 5, CROSSES), ("two, 5 seeds", 5, CROSSES), ("ours", 5, CROSSES)]
    seen = [("one, 12 seeds", 12, HOLDS), ("two, 12 seeds", 12, HOLDS), ("ours", 5, CROSSES), ("ours", 5, CROSSES)]
    assert numbers["thorough †"] == [*seen, ("no effect", 5, CROSSES)]
    whole = report.overall(report.recorded_claims()["thorough †"])
    assert whole.index[whole.beyond].tolist() == ["mixdiff-real"] and whole.verdict["clsp-knn"] == HOLDS


def test_a_recording_is_of_the_papers_settings_only_where_all_are_theirs(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    own = next(job.parameters for job in profiles.jobs("paper") if job.notebook == "08_linear_and_knn")
    row = claims.claim("", "CLSP", Estimate(0.03, 0.0299, 0.0301, 30), of="clsp-knn")
    for settings, verdict in ((own, "reproduced"), (own | {"anchors": 7}, HOLDS)):
        record(tmp_path, "paper", [row], **settings)
        (rows,) = report.recorded_claims().values()
        assert rows[rows.n > 0].verdict.tolist() == [verdict]
    record(tmp_path, "paper", [row | {"verdict": "partly"}])
    with pytest.raises(Problem, match=r"verdict 'partly' in .*paper.*08_linear_and_knn.claims.csv is not one"):
        report.recorded_claims()


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


def test_a_note_without_its_whole_origin_is_refused(folder):
    path = folder / "tables" / "11_mixdiff.claims.json"
    note = files.read_json(path, dict)
    del note["provenance"]["versions"]
    files.write_json(path, note)
    with pytest.raises(Problem, match="11_mixdiff.claims.json is damaged .*lacks versions"):
        report.origins(folder)


def test_the_index_does_without_an_executed_notebook_that_was_damaged(folder):
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "13_report.html").write_text("")
    (folder / "notebooks" / "13_report.ipynb").write_bytes(b"{")
    assert "Read the report" in pages.write_index("p", folder, ["13_report"]).read_text()


def test_the_index_opens_the_report_and_folds_many_jobs_away(folder):
    jobs = ["08_linear_and_knn", *(f"07_ssl_training-seed={i}" for i in range(4)), "13_report"]
    assert "Read the report" not in pages.write_index("p", folder, jobs).read_text()
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "13_report.html").write_text("")
    text = pages.write_index("p", folder, jobs).read_text()
    assert '<p class="report"><a href="notebooks/13_report.html">Read the report' in text
    assert text.count("<details>") == 1 and "07_ssl_training: 4 jobs" in text


def test_nothing_in_a_mark_becomes_markup(folder):
    bad = "<script>alert(1)</script>"
    write_mark(folder / "jobs" / "08_linear_and_knn.json", provenance={"commit": bad, "hardware": bad, "time": bad})
    files.write_json(folder / "jobs" / "09_transfer.failed", {"error": bad, "notebook": bad})
    page = pages.write_index("p", folder, ["08_linear_and_knn", "09_transfer"]).read_text()
    assert bad not in page and page.count("&lt;script&gt;") >= 4
