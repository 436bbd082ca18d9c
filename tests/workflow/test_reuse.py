"""Editing the library: what cannot change a result trains nothing again, a changed loss exactly the runs with it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from synpos_lib.core import fingerprint

pytestmark = pytest.mark.slow

TRAIN = """
from synpos_lib.core import runtime
from synpos_lib.data import catalog, positives
from synpos_lib.lab import figures
from synpos_lib.train.pretrain import Config, pretrain

runs, images = runtime.outputs() / "p" / "runs", catalog.load("scenes", n=16)
store = positives.read(positives.keep(runs / "store", images, images.images[:, None], {}).folder, images)
config = Config(method=method, encoder="tiny", epochs=1, batch=8, hyperparameters={"hidden": 16, "out": 8})
pretrain(runs / method, config, images, store)
"""
DIFFUSE = """
from synpos_lib.core import runtime
from synpos_lib.data import catalog
from synpos_lib.diffusion import training
from synpos_lib.diffusion.unet import UNetConfig

unet = UNetConfig(channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4)
settings = training.TrainingConfig(unet=unet, steps=1, batch=8)
training.train(runtime.outputs() / "p" / "runs" / "diffusion", catalog.load("scenes", n=16), settings)
"""
EXECUTE = """
import jobs
from synpos_lib.lab import parameters
from synpos_lib.workflow import graph

for step in graph.plan("p").values():
    print(f"job {step.name}: {step.reason or 'finished'}")
    exec("\\n".join(parameters.code_cells(step.job.notebook)), dict(step.job.parameters))
    about = {"parameters": step.job.parameters, "code": step.code, "after": {name: name for name in step.after}}
    jobs.write_mark(graph.folder("p") / "jobs" / f"{step.name}.json", id=step.name, **about)
"""
RUNS = {"store", "simclr", "clsp-simclr", "byol", "diffusion"}
TRAININGS = {"01_train-method=simclr", "01_train-method=clsp-simclr", "01_train-method=byol"}


class House:
    """A copy of the library with two notebooks of its own."""

    def __init__(self, folder: Path):
        ignored = shutil.ignore_patterns("weights", "__pycache__")
        self.folder, self.library = folder, shutil.copytree(fingerprint.LIBRARY, folder / "synpos_lib", ignore=ignored)
        notebooks = folder / "notebooks"
        (notebooks / "profiles").mkdir(parents=True)
        for name, more, code in (("01_train", 'method = "simclr"  # which\n', TRAIN), ("02_diffuse", "", DIFFUSE)):
            sources = {"parameters": f'profile = "p"  # where\n{more}', "work": code}
            cells = [{"cell_type": "code", "id": n, "metadata": {"tags": [n]}, "source": s} for n, s in sources.items()]
            (notebooks / f"{name}.ipynb").write_text(json.dumps({"cells": cells}))
        (notebooks / "graph.yaml").write_text("01_train: []\n02_diffuse: []\n")
        methods = {"method": ["simclr", "clsp-simclr", "byol"]}
        (notebooks / "profiles" / "p.yaml").write_text(json.dumps({"01_train": methods, "02_diffuse": {}}))
        self.places = {
            "PYTHONPATH": os.pathsep.join((str(folder), str(Path(__file__).parents[1]))),
            "SYNPOS_NOTEBOOKS": str(notebooks),
            "SYNPOS_OUTPUTS": str(folder / "o"),
        }

    def start(self) -> tuple[set[str], set[str], str]:
        """Execute all notebooks: the jobs that would have run, the runs that were computed, what was printed."""
        before = self.marks()
        command = [sys.executable, "-c", EXECUTE]
        done = subprocess.run(command, env=os.environ | self.places, cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        jobs = set(re.findall(r"^job (\S+): (?!finished)", done.stdout, re.MULTILINE))
        return jobs, {name for name, mark in self.marks().items() if before.get(name) != mark}, done.stdout

    def marks(self) -> dict[str, tuple[int, bytes]]:
        paths = self.folder.glob("o/p/runs/*/done.json")
        return {path.parent.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}

    def edit(self, name: str, before: str, after: str) -> None:
        text = (self.library / name).read_text()
        assert before in text, f"{name} has no {before!r} any more: choose another edit"
        (self.library / name).write_text(text.replace(before, after))


def test_an_edit_computes_again_exactly_what_it_may_change(tmp_path):
    house = House(tmp_path)
    assert house.start()[:2] == (TRAININGS | {"02_diffuse"}, RUNS)

    house.edit("methods/simclr.py", '"""SimCLR', '"""The method SimCLR')  # a docstring
    house.edit("train/pretrain.py", "is more than the", "exceeds the")  # the words of an error
    (house.library / "workflow" / "pages.py").open("a").write("x = 1\n")
    jobs, runs, words = house.start()
    assert not jobs and not runs and words.count("reused, same configuration and code") == len(RUNS) + 2

    house.edit("lab/figures.py", '"#777777"', '"#787878"')
    house.edit("core/runs.py", "reused, same", "reused as it is, same")
    jobs, runs, words = house.start()
    assert TRAININGS <= jobs and not runs and "reused as it is" in words

    house.edit("methods/simclr.py", "/ temperature", "/ (2 * temperature)")
    jobs, runs, words = house.start()
    assert jobs == TRAININGS - {"01_train-method=byol"} and runs == {"simclr", "clsp-simclr"}
    assert words.count("not reused, since methods/simclr.py has changed") == 2

    shutil.copy(house.library / "methods" / "byol.py", house.library / "methods" / "another.py")
    line = '    "another": Recipe("another.BYOL", "sgd", 1.0, 256, 0.0, _PLAIN, "prediction"),\n'
    house.edit("methods/table.py", '    "byol": ', line + '    "byol": ')
    jobs, runs, words = house.start()
    assert not jobs and not runs and "not reused" not in words

    house.edit("methods/table.py", '"byol.BYOL", "lars", 1.0, 256', '"byol.BYOL", "lars", 0.9, 256')
    jobs, runs, words = house.start()
    assert jobs == {"01_train-method=byol"} and runs == {"byol"}
    assert (
        words.count("not reused")
        == words.count("not reused, since recipe.learning_rate was 0.03125 and is now 0.028")
        == 1
    )
