"""The profiles that read what others have published, from beginning to end, with stand-ins of the same formats."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from diffusers import DDPMScheduler, UNet2DModel

from synpos_lib.lab.parameters import notebook_parameters
from tests.real_formats import WITHOUT_DIGESTS, write_cifar10

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).resolve().parents[2]
SMALL = {"images": 300, "anchors": 60, "candidates": 2, "judge_images": 300, "test_images": 40, "epochs": 1}
SMALL |= {"probe_every": 1, "encoder": "tiny", "batch": 20, "timesteps": [50], "steps": 2, "seeds": [0, 1]}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Stand-ins for CIFAR-10, the published model and the released positives, and what a start finds them with."""
    place = tmp_path_factory.mktemp("published")
    train = write_cifar10(place / "data")
    UNet2DModel(
        sample_size=32,
        block_out_channels=(32, 32),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        flip_sin_to_cos=False,
        freq_shift=1,
        downsample_padding=0,
    ).save_pretrained(place / "model")
    DDPMScheduler().save_pretrained(place / "model")
    noise = np.random.default_rng(2).integers(-20, 20, (len(train), 2, *train.shape[1:]))
    np.save(place / "right.npy", (train[:, None] + noise).clip(0, 255).astype(np.uint8))
    np.save(place / "shuffled.npy", np.random.default_rng(3).permutation(np.load(place / "right.npy")))
    shutil.copytree(REPOSITORY / "notebooks", place / "notebooks")
    (place / "site").mkdir()
    (place / "site" / "sitecustomize.py").write_text(WITHOUT_DIGESTS)
    return place


def start(place: Path, profile: str, **changes: object) -> subprocess.CompletedProcess:
    """One start of a profile, its sizes cut and some parameters changed."""
    file = place / "notebooks" / "profiles" / f"{profile}.yaml"
    blocks = yaml.safe_load((REPOSITORY / "notebooks" / "profiles" / file.name).read_text())
    blocks.pop("about", None)
    for name, entries in blocks.items():
        for entry in entries if isinstance(entries, list) else [entries]:
            entry |= {key: value for key, value in {**SMALL, **changes}.items() if key in notebook_parameters(name)}
            entry |= {"learned": SMALL["images"]} if "learned" in entry else {}
    file.write_text(yaml.safe_dump(blocks))
    paths = {"SYNPOS_OUTPUTS": "outputs", "SYNPOS_NOTEBOOKS": "notebooks", "SYNPOS_DATA": "data"}
    places = {**os.environ, **{name: str(place / folder) for name, folder in paths.items()}}
    places["PYTHONPATH"] = os.pathsep.join([str(place / "site"), os.environ["PYTHONPATH"]])
    command = [sys.executable, "-m", "synpos_lib.workflow.cli", profile]
    return subprocess.run(command, env=places, cwd=REPOSITORY, capture_output=True, text=True, timeout=1200)


def test_a_published_model_teaches_from_beginning_to_end(place):
    done = start(place, "cifar-ready", model=str(place / "model"))
    assert done.returncode == 0, done.stdout + done.stderr
    tables = place / "outputs" / "cifar-ready" / "tables"
    assert set(pd.read_csv(tables / "05a_published_positives.checks.csv").positives) == {"published", "cut-and-paste"}
    linear = pd.read_csv(tables / "08_linear_and_knn.linear.csv")
    assert {"clsp-simclr", "simclr", "simclr-aug"} <= set(linear.method) and "all-images" in set(linear.variant)


def test_released_positives_teach_from_beginning_to_end(place):
    done = start(place, "cifar-released", released=str(place / "right.npy"))
    assert done.returncode == 0, done.stdout + done.stderr
    here = place / "outputs" / "cifar-released"
    checks = pd.read_csv(here / "tables" / "05a_published_positives.checks.csv")
    kept = checks[checks.check == "what kept"].groupby("positives").value.mean()
    assert kept["released"] > 0.2  # near copies, and a judge that has seen 300 images; chance is 0.1
    assert (here / "runs" / "ssl-cifar10-clsp-simclr-seed1" / "done.json").exists()


def test_released_positives_in_another_order_are_refused(place):
    shutil.rmtree(place / "outputs" / "cifar-released", ignore_errors=True)
    done = start(place, "cifar-released", released=str(place / "shuffled.npy"))
    assert done.returncode != 0
    assert "or be in another order" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr
