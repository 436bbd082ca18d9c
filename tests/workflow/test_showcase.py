"""The pages of the recordings: current, with links that lead somewhere, and numbers as the recorded tables have."""

import re

import numpy as np
import pandas as pd
import pytest

from synpos_lib.core import files, runtime
from synpos_lib.lab import recorded
from synpos_lib.results import claims, published, tables
from synpos_lib.results.tables import Estimate
from synpos_lib.workflow import showcase

# what README tells the other way round than its table
TURNED = {("-0.8", "-1.2", "-0.5"), ("-0.9", "-1.6", "-0.1"), ("+7.4", "4.9", "10.0")}


@pytest.fixture(scope="module")
def pages():
    return showcase.texts()


def test_the_committed_pages_are_current(pages):
    assert len(pages) == 1 + len([*recorded.FOLDER.glob("*/manifest.json")]) > 1
    for path, text in pages.items():
        assert path.read_text(encoding="utf-8") == text, f"{path} is not current: ./run_all.sh record writes it again"


def test_every_link_leads_to_a_file_and_every_recorded_file_is_shown(pages):
    for path, text in pages.items():
        links = re.findall(r"\]\(([^)\s]+)\)", text)
        assert links and all((path.parent / link).is_file() for link in links), path
        for file in [*path.parent.glob("figures/*"), *path.parent.glob("tables/*")]:
            assert f"{file.parent.name}/{file.name}" in links


def test_every_row_of_a_table_has_as_many_cells_as_its_head(pages):
    for text in pages.values():
        for block in re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE):
            assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1


def record(folder, rows, notebook=None):
    """A recording of one table of claims and one figure."""
    table, figure = folder / "tables" / "08_x.claims.csv", folder / "figures" / "08_x.curve.png"
    files.write_bytes(table, pd.DataFrame(rows).assign(on="scenes").to_csv(index=False).encode())
    files.write_bytes(figure, b"a picture")
    about = {
        "notebook": notebook,
        "sources": [],
        "code": "earlier",
        "made": "2026-11-29T10:00:00",
        "hardware": "a laptop",
    }
    kept = {path: about | {"text": path.name, "sha256": files.sha256(path)} for path in (table, figure)}
    manifest = {
        "profile": "p",
        "command": "./run_all.sh p",
        "purpose": "To try it.",
        "jobs": {"08_x": {"parameters": {}}},
    }
    manifest |= {"tables": {table.name: kept[table]}, "figures": {figure.name: kept[figure]}}
    files.write_json(folder / "manifest.json", manifest)


def test_claims_stand_there_with_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    good, bad = Estimate(0.0421, 0.0349, 0.0491, 10), Estimate(-0.1, -0.2, -0.01, 5)
    rows = [claims.claim("CLSP | SimCLR", "CLSP", good, of="clsp-linear-simclr")]
    rows += [claims.claim("blurred too", "CLSP", bad, of="clsp-linear-simclr", departure="s = t/2")]
    rows += [claims.claim("asked by us", "CLSP", bad, rule="below 0"), claims.claim("later", "CLSP", None)]
    record(tmp_path / "laptop", rows)
    every, page = showcase.texts().values()
    line = r"| CLSP \| SimCLR | +4.2 points [+3.5, +4.9], n = 10 | holds on these images |"
    assert line in page and "To try it." in page and "2026-11-29; a laptop." in page and "† Code" in page
    assert "| *departure, not counted (s = t/2):* blurred too | -10.0 points [-20.0, -1.0], n = 5 |" in page
    assert "![08_x.curve.png](figures/08_x.curve.png)" in page and "later" not in page
    untried = len(published.load("claims")) - 1
    assert f"| laptop † | 1 | 0 | 0 | 0 | {untried} |\n| laptop †, after Holm | 1 | 0 | 0 | 0 | {untried} |" in every
    measured = "+4.2 points [+3.5, +4.9], n = 10, on scenes<br>CLSP \\| SimCLR"
    assert f"{measured} | holds on these images |  | [laptop](laptop/README.md) † |" in every
    ours = "-10.0 points [-20.0, -1.0], n = 5, on scenes | holds on these images (rule: below 0 points) | undecided |"
    assert f"| asked by us (our own question) | {ours}" in every
    assert every.count("-10.0 points") == 1  # what departs decides nothing
    assert "- CLSP-SimCLR beats SimCLR in kNN accuracy\n" in every
    assert "- CLSP-SimCLR beats SimCLR in linear" not in every


def test_measurements_of_one_claim_stand_together_the_one_with_most_seeds_first(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    for name, n in {"a": 3, "b": 12, "c": 5}.items():
        record(tmp_path / name, [claims.claim("x", "CLSP", Estimate(0.04, 0.03, 0.05, n), of="clsp-linear-simclr")])
    lines = [line for line in showcase.texts()[tmp_path / "README.md"].splitlines() if ", on scenes" in line]
    assert [re.search(r"n = (\d+)", line)[1] for line in lines] == ["12", "5", "3"]
    assert lines[0].startswith("| CLSP-SimCLR") and lines[1].startswith("|  |") and "[c](c/README.md)" in lines[1]


def test_nothing_recorded_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    (text,) = showcase.texts().values()
    assert "| claim |" not in text and text.count("\n- ") == len(published.load("claims"))


def test_every_difference_in_the_readme_is_recorded():
    text = (runtime.REPOSITORY / "README.md").read_text(encoding="utf-8").replace("−", "-").replace("\n", " ")
    number = r"([+-]?\d+\.\d)"
    shown = re.findall(rf"{number}(?: points)?(?: of linear accuracy)? \[{number}, {number}\]", text)
    assert len(shown) == len(re.findall(r"\[[^],]*\d, [^],]*\d\]", text)) > 20  # none is spelled another way
    known = set()
    for path in recorded.FOLDER.glob("*/tables/*.csv"):
        table = pd.read_csv(path)
        for name in {"measured", "mean", "value"}.intersection(table if {"low", "high"} <= {*table.columns} else ()):
            known |= {*zip(table[name], table.low, table.high, strict=True)}
        if path.name == "09_transfer.transfer.csv":
            for _, rows in table[table.seed.notna()].groupby("target"):
                known.add(tables.gain(rows, "clsp-simclr", "simclr")[:3])
    for triple in shown:
        numbers = np.array([float(each) / 100 for each in triple])
        numbers = -numbers[[0, 2, 1]] if triple in TURNED else numbers
        assert any(np.allclose(numbers, other, atol=0.00051, rtol=0) for other in known), triple
    assert set(shown) >= TURNED
