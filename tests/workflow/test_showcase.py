"""The pages of the recordings: current, with links that lead somewhere, and numbers as the recorded tables have."""

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from synpos_lib.core import files, runtime
from synpos_lib.lab import recorded
from synpos_lib.results import claims
from synpos_lib.results.tables import Estimate
from synpos_lib.workflow import showcase


@pytest.fixture(scope="module")
def pages():
    return showcase.pages()


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
            assert len({line.count("|") for line in block.splitlines()}) == 1


def test_claims_stand_there_with_what_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(recorded, "FOLDER", tmp_path)
    good, bad = Estimate(0.0421, 0.0349, 0.0491, 10), Estimate(-0.1, -0.2, -0.01, 5)
    rows = [claims.claim("CLSP | SimCLR", "CLSP", good, of="clsp-linear-simclr")]
    rows += [claims.claim("blurred too", "CLSP", bad, of="clsp-linear-simclr", departure="blurred")]
    rows += [claims.claim("asked by us", "CLSP", bad)]
    table = tmp_path / "laptop" / "tables" / "08_x.claims.csv"
    files.write_bytes(table, pd.DataFrame(rows).assign(on="scenes").to_csv(index=False).encode())
    about = {"text": "Claims", "notebook": None, "sources": [], "sha256": files.sha256(table), "runs": []}
    about |= {"code": "earlier", "made": "2026-11-29T10:00:00", "hardware": "a laptop"}
    manifest = {"profile": "p", "command": "./run_all.sh p", "tables": {table.name: about}, "figures": {}}
    files.write_json(tmp_path / "laptop" / "manifest.json", manifest | {"jobs": {"08_x": {"parameters": {}}}})
    texts = {path.parent.name: text for path, text in showcase.pages().items()}
    assert "| CLSP · SimCLR | +4.2 points [+3.5, +4.9], n = 10 | holds |" in texts["laptop"]
    assert "| *departs from the paper's setting:* blurred too | -10.0 points [-20.0, -1.0], n = 5 |" in texts["laptop"]
    assert "2026-11-29, a laptop." in texts["laptop"] and "† Code" in texts["laptop"]
    every = texts[tmp_path.name]
    assert "| `laptop †` | 1 (1 after Holm) | 0 | 0 | 0 | 51 |" in every
    ours = "| asked by us (our own question) | -10.0 points [-20.0, -1.0], n = 5 | does not hold | undecided |"
    assert ours in every
    assert "blurred too" not in every  # it decides nothing
    assert "- CLSP-SimCLR beats SimCLR in kNN accuracy\n" in every
    assert "- CLSP-SimCLR beats SimCLR in linear" not in every


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
        if path.name == "09_transfer.transfer.csv":  # by target, paired by seed, with Student's interval
            values = table.pivot_table(index=["target", "seed"], columns="method", values="value")
            for _, gains in (values["clsp-simclr"] - values.simclr).dropna().groupby("target"):
                half = stats.t.ppf(0.975, len(gains) - 1) * gains.std() / len(gains) ** 0.5
                known.add((gains.mean(), gains.mean() - half, gains.mean() + half))
    known |= {(-middle, -high, -low) for middle, low, high in known}  # told the other way round
    for triple in shown:
        numbers = [float(each) / 100 for each in triple]
        assert any(np.allclose(numbers, other, atol=0.00051, rtol=0) for other in known), triple
