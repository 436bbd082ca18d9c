"""Every published number has a source; cells that are known from elsewhere are what they are."""

import numpy as np
import pytest

from synpos_lib.core.errors import Problem
from synpos_lib.data import catalog
from synpos_lib.methods.table import METHODS
from synpos_lib.results import published

TABLES = [name for name in sorted(path.stem for path in published.FOLDER.glob("*.csv")) if name != "claims"]


def cell(frame, **where):
    for key, value in where.items():
        frame = frame[frame[key] == value]
    return frame.percent.tolist()


@pytest.mark.parametrize("name", TABLES)
def test_methods_and_datasets_are_those_of_the_library(name):
    frame = published.load(name)
    assert set(frame.get("method", [])) - {""} <= {
        *METHODS,
        "dclw",
        "none",
        "generated",
        "concatenated",
        "diffusemix",
    }
    known = {*catalog.REAL, "imagenet"}
    assert set(frame.dataset) <= known and set(frame.get("target", [])) <= known
    if "percent" in frame:
        assert frame.value.between(0, 1).all() and np.allclose(frame.value * 100, frame.percent)


def test_row_counts():
    counts = {name: len(published.load(name)) for name in TABLES}
    assert counts["clsp_linear"] == 22 * 4 - 2  # CL-GAN has no kNN
    assert counts["clsp_transfer"] == 9 * 8 + 2 * 8
    assert counts["clsp_ablations"] == 2 * 6 + 2 * 9
    assert counts["clsp_curves"] == 17 * 10 + 5  # one of the 18 logs ends at epoch 500
    assert counts["diffusemix_flowers"] == 4 * 150 and counts["adainf"] == 3 * 4


def test_known_cells():
    linear = published.load("clsp_linear")
    assert cell(linear, method="clsp-simclr", epochs=1000, metric="linear") == [94.37, 72.01]
    assert cell(linear, method="clsp-simclr", epochs=300, metric="linear") == [93.10, 67.94]
    assert cell(linear, name="CLSP-noaug") == [92.86, 92.46, 54.46, 53.53]
    assert cell(linear, method="mocov2-aug") == [93.04, 92.82, 69.13, 68.21]
    readme = published.load("clsp_readme")
    assert cell(readme, variant="class-conditional") == [94.44, 94.47, 75.45, 73.06]
    assert cell(readme, method="simclr", encoder="resnet18", metric="linear") == [91.45, 68.10]
    curves = published.load("clsp_curves")
    small = curves[(curves.encoder == "resnet18") & curves.epoch.isin([100, 300])]
    assert cell(small, method="clsp-simclr", dataset="cifar10") == [87.29, 90.89]
    assert cell(small, method="mocov2", dataset="cifar100") == [57.57, 64.44]
    assert cell(published.load("adainf"), method="adainf-simclr") == [93.42]
    assert cell(published.load("mixdiff")) == [4.56]
    ablations = published.load("clsp_ablations")
    assert cell(ablations, setting="lambda", at=1.6) == [94.59, 69.07]
    wins = published.load("clsp_transfer").query("dataset == 'imagenet100'").pivot(index="target", columns="method")
    assert (wins.value["clsp-simclr"] > wins.value["all4one"]).sum() == 6


def test_the_poster_and_solo_learn_agree_where_the_table_says_so():
    online = published.load("sololearn").query("kind == 'online' and encoder == 'ResNet18'")
    theirs = online.set_index(["method", "dataset"]).percent
    poster = published.load("clsp_linear").query("metric == 'linear'")
    same = poster[[theirs.get((row.method, row.dataset)) == row.percent for row in poster.itertuples()]]
    assert same.index.equals(poster[poster.kind == "online, solo-learn"].index) and len(same) == 23


def test_the_curves_of_diffusemix_give_their_summary():
    curves = published.load("diffusemix_flowers").pivot(index="epoch", columns="method", values="percent")
    best, last = curves.max(), curves.tail(10).mean()
    expected = {"none": (77.26, 148, 75.78), "generated": (75.79, 105, 73.61), "concatenated": (77.63, 60, 75.72)}
    for arm, (top, epoch, mean) in {**expected, "diffusemix": (78.73, 122, 77.92)}.items():
        assert (round(best[arm], 2), curves[arm].idxmax(), round(last[arm], 2)) == (top, epoch, mean)


@pytest.mark.parametrize("missing", ["source", "kind"])
def test_a_row_without_a_source_is_refused(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(published, "FOLDER", tmp_path)
    row = {"source": "a paper", "kind": "linear", missing: ""}
    (tmp_path / "t.csv").write_text(f"percent,kind,source\n1.5,a,b\n2.5,{row['kind']},{row['source']}\n")
    with pytest.raises(Problem, match=f"line 3 of t.csv has no {missing}"):
        published.load("t")
    (tmp_path / "t.csv").write_text("percent,kind\n1.5,a\n")
    with pytest.raises(Problem, match="line 2 of t.csv has no source"):
        published.load("t")
    with pytest.raises(Problem, match="there is no published table 'tt'"):
        published.load("tt")
