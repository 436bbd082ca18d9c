"""The ranges that parameters state are honest: the cheap notebooks run with the lowest value of every number."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synpos_lib.lab import parameters

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
CHEAP = ("00_start_here", "01_diffusion", "02_latent_tsne", "03_zeroed_features", "04_interpolation_gallery")
CHEAP += ("05_synthetic_positives", "06_ssl_methods")


def lowest(name: str) -> dict:
    """Every number of a notebook at the lower end of its range; a list has the lowest number alone."""
    values = {}
    for parameter in parameters.notebook_parameters(name).values():
        low = max((number for word, number in parameter.limits if word != "at most"), default=None)
        if low is not None:
            example = parameter.default[0] if isinstance(parameter.default, list) else parameter.default
            value = type(example)(low)
            values[parameter.name] = [[value]] if isinstance(parameter.default, list) else value
    # what 06 learns from was made by 05, with the same images and anchors; 05 alone would take a single anchor
    return values | ({"images": 40, "anchors": 20} if name.startswith(("05", "06")) else {})


def test_the_cheap_notebooks_run_with_the_lowest_values(tmp_path):
    shutil.copytree(REPOSITORY / "notebooks", tmp_path / "notebooks")
    profile = {name: lowest(name) for name in CHEAP}
    assert profile["03_zeroed_features"]["strengths"] == [[0.0]] and profile["02_latent_tsne"]["perplexity"] == 1
    (tmp_path / "notebooks" / "profiles" / "lowest.yaml").write_text(json.dumps(profile))
    places = {"SYNPOS_NOTEBOOKS": str(tmp_path / "notebooks"), "SYNPOS_OUTPUTS": str(tmp_path / "outputs")}
    words = [sys.executable, "-m", "synpos_lib.workflow.cli", "lowest"]
    run = subprocess.run(words, env={**os.environ, **places}, capture_output=True, text=True, timeout=1800)
    assert run.returncode == 0, run.stdout + run.stderr
