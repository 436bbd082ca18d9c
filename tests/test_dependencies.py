"""Every run names all the code that computes it: what really runs between its opening and its end is compared.

Tiny runs of each kind are made in a process of their own, in which every call of a library function is recorded.
"""

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import pytest

from synpos_lib.core import fingerprint, runs

METHODS = "simclr byol dcl barlow vicreg vibcreg mocov2 mocov3 dino swav nnclr all4one supcon clgan simclr-ft".split()
METHODS += "clsp-simclr clsp-mocov2-ft byol-aug mixdiff-byol synthetic-simclr adainf-dcl".split()  # one of each role
SIZES = {"hidden": 32, "out": 32, "queue_size": 16, "prototypes": 8}
DIFFUSION = ["diffusion", "diffusion-conditional"]
OTHERS = ["positives", "positives-conditional", "linear", "untrained", "transfer", "shift", "accuracy", "attack"]
OTHERS += ["classify-none", "classify-cutmix", "classify-augmix", "classify-diffusemix"]


def work(folder: Path) -> None:
    """One run of each kind, each in a folder of its name."""
    import torch

    from synpos_lib import methods
    from synpos_lib.data import catalog, positives
    from synpos_lib.data.images import Images
    from synpos_lib.diffusion import training
    from synpos_lib.diffusion.generators import BottleneckMixing, ClassConditional
    from synpos_lib.diffusion.unet import UNet, UNetConfig
    from synpos_lib.evaluate import robustness, transfer
    from synpos_lib.evaluate.linear_and_knn import linear_and_knn
    from synpos_lib.experiments import diffusemix
    from synpos_lib.methods.table import METHODS as TABLE
    from synpos_lib.results import evaluations
    from synpos_lib.train.pretrain import Config, load_encoder, pretrain, untrained

    class Input(Images):
        """Images that are handed to a run; how they were loaded is no part of it, their fingerprint is."""

        def __len__(self) -> int:
            return len(self.images)

        @property
        def truth(self) -> torch.Tensor:
            return self.labels

    loaded = catalog.load("scenes", "train", n=24), catalog.load("scenes", "test", n=12)
    images, test = (Input(**vars(part)) for part in loaded)
    for module in {module for recipe in TABLE.values() for module in recipe.modules}:
        importlib.import_module(module)  # now, so that what an import runs is not taken for a part of a run
    unet = UNetConfig(channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4, dropout=0.1)
    conditional = UNetConfig(channels=(8, 16), attention=(), middle_attention=False, layers=1, groups=4, classes=10)
    for name, config in {"diffusion": unet, "diffusion-conditional": conditional}.items():
        training.train(folder / name, images, training.TrainingConfig(unet=config, steps=2, batch=8))
    mixing = BottleneckMixing(UNet(unet).eval(), steps=2)
    positives.make(folder / "positives", images, mixing, k=2)
    positives.make(
        folder / "positives-conditional",
        images,
        ClassConditional(UNet(conditional).eval(), steps=2),
        k=2,
        labels=images.labels,
    )
    store = positives.read(folder / "positives", images)

    for name in METHODS:
        small = {key: size for key, size in SIZES.items() if key in methods.hyperparameters(name)}
        settings = Config(method=name, encoder="tiny", epochs=1, batch=8, hyperparameters=small)
        run = pretrain(folder / name, settings, images, store)
    run = runs.read_run(folder / "clsp-simclr")
    about = {"dataset": "scenes", "method": "clsp-simclr", "variant": "", "seed": 0}
    questions = {
        "linear": lambda: [
            about | {"target": "scenes"} | row for row in linear_and_knn(load_encoder(run), images, test)
        ],
        "untrained": lambda: [
            about | {"target": "scenes"} | row for row in linear_and_knn(untrained(run), images, test)
        ],
        "transfer": lambda: [
            about | r for r in transfer.rows(load_encoder(run), [transfer.Target("digits", images, test, test)])
        ],
        "shift": lambda: [about | r for r in robustness.measure(load_encoder(run), images, {"clean": lambda: test})],
    }
    for name, ask in questions.items():
        module = {"transfer": "transfer", "shift": "robustness"}.get(name, "linear_and_knn")
        evaluations.evaluate(folder, name, run, {}, ask, (f"synpos_lib.evaluate.{module}",))
    attack = {"n": 4, "epsilons": [4 / 255], "steps": 1, "restarts": 1}
    fractals = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    task = diffusemix.Task("general", images, test, store, fractals, attack=attack)
    study = diffusemix.Study(folder, epochs=1, batch=12)
    for name in ("none", "cutmix", "augmix", "diffusemix"):
        study.answers(task, name, seed=0)


def watch(work: Callable[[Path], None], folder: Path) -> dict[str, dict]:
    """Do the work; for each run that it finishes, its modules, its configuration and the library files that ran."""
    records: dict[str, dict] = {}
    names: list[str] = []
    ran: set[str] = set()

    def call(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            ran.add(frame.f_code.co_filename)

    def code_fingerprint(*modules: str) -> dict[str, str]:
        names[:] = modules
        result = original_fingerprint(*modules)
        ran.clear()
        sys.setprofile(call)
        return result

    def finish(run: runs.Run, **results: object) -> None:
        sys.setprofile(None)
        original_finish(run, **results)
        inside = [
            Path(name).relative_to(fingerprint.LIBRARY) for name in ran if name.startswith(str(fingerprint.LIBRARY))
        ]
        files = sorted(path.as_posix() for path in inside if path.parts[0] in fingerprint.SCIENCE)
        records[run.name] = {"modules": [*names], "config": run.config, "ran": files}

    original_fingerprint, original_finish = runs.code_fingerprint, runs.Run.finish
    runs.code_fingerprint, runs.Run.finish = code_fingerprint, finish
    work(folder)
    return records


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    """What ran in each run, by its name."""
    folder = tmp_path_factory.mktemp("runs")
    done = subprocess.run([sys.executable, __file__, str(folder)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "records.json").read_text())


def covered(modules, config):
    """The files that a run depends on, if it names these modules: an evaluation has those of its training too."""
    return set(fingerprint.code_fingerprint(*modules)) | set(config.get("training") or ())


@pytest.mark.parametrize("name", [*METHODS, *OTHERS, *DIFFUSION])
def test_a_run_names_all_that_it_executes(records, name):
    matches = [
        about for run, about in records.items() if run == name or run.startswith((f"{name}-clsp", f"{name}-classify"))
    ]
    matches += [
        about for run, about in records.items() if name.startswith("classify") and f"-{name.split('-')[1]}-" in run
    ]
    assert matches
    for about in matches:
        ran = set(about["ran"])
        assert ran and ran <= covered(about["modules"], about["config"])


def test_without_any_of_the_names_some_run_would_miss_code(records):
    needed = set()
    for about in records.values():
        for module in about["modules"]:
            rest = covered([other for other in about["modules"] if other != module], about["config"])
            needed |= {module} if set(about["ran"]) - rest else set()
    assert needed == {module for about in records.values() for module in about["modules"]}


if __name__ == "__main__":
    os.environ["SYNPOS_JOB"] = "dependencies"  # no bars
    place = Path(sys.argv[1])
    (place / "records.json").write_text(json.dumps(watch(work, place)))
