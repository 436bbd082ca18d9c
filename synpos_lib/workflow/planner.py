"""What a job will cost: measured before, recorded elsewhere, or calculated from its work and this machine's speed.

Work is counted in passes of one image through a network: 1 forward, 3 with the way back. The machine's speed is
measured once (some 5 seconds per network that the plan needs) and kept in outputs/calibration.json. What is known
from none of these is unknown, and said to be. Counted are the trainings and the sampling, which take nearly all the
time of a large profile; evaluations are not.
"""

import csv
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from synpos_lib.core import files, runtime
from synpos_lib.lab import recorded
from synpos_lib.workflow import profiles

TIMINGS = ("job", "seconds", "memory_mb", "disk_mb", "hardware", "parameters")  # columns of a recorded timings.csv
MEASURED = "as measured here"
SMALL = ("small", "embedded U-Net")  # networks for a processor; the others want a GPU
MEASURING = 4.0  # seconds per network
STARTING = 10.0  # seconds that a notebook takes before and after its work, roughly
# One of the training times in the released logs: 1000 epochs of CLSP-SimCLR, ResNet-18, 48 steps of 1024 images, three
# views of each.
RELEASED_HOURS, RELEASED_PASSES = 5.5, 1000 * 48 * 1024 * 9
RELEASED = "the released CLSP logs (probably A10 GPUs; neither kind nor number is logged)"


@dataclass
class Cost:
    """What one job takes; None is unknown. `basis` says where the numbers come from."""

    seconds: float | None = None
    memory_mb: float | None = None
    disk_mb: float | None = None
    basis: str = ""

    def __str__(self) -> str:
        if self.seconds is None:
            return "time unknown"
        words = [f"about {runtime.minutes(self.seconds)}"]
        words.append(f"{size(self.memory_mb)} of memory" if self.memory_mb else "memory unknown")
        words.append(f"{size(self.disk_mb)} on disk" if self.disk_mb is not None else "disk unknown")
        return f"{', '.join(words)}; {self.basis}"


def size(megabytes: float) -> str:
    """Megabytes for people."""
    return f"{megabytes / 1e3:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"


def same(parameters: dict) -> str:
    """Two jobs with equal parameters have the same."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]


def cost(job, marks: Iterable[dict]) -> Cost:
    """What a job should take, from marks of this machine with the same parameters, else as good as is known."""
    marks = [mark for mark in marks if mark.get("seconds") and mark.get("basis", MEASURED) == MEASURED]
    for mark in marks:
        if mark["parameters"] == job.parameters:
            return _from_mark(mark, MEASURED)
    return (
        _from_recorded(job)
        or _from_work(job)
        or next((_from_mark(mark, f"{MEASURED} with other parameters") for mark in marks), Cost())
    )


def _from_mark(mark: dict, basis: str) -> Cost:
    return Cost(mark["seconds"], mark.get("memory_mb"), mark.get("disk_mb"), basis)


def _from_recorded(job) -> Cost | None:
    """The recording of this very job, as fast as this machine is compared with the one that made it."""
    for path in sorted(recorded.FOLDER.glob("*/timings.csv")):
        with path.open() as file:
            rows = [row for row in csv.DictReader(file) if row["job"] == job.name]
        for row in rows:
            if row["parameters"] == same(job.parameters):
                there = files.read_json(path.with_name("manifest.json"))["calibration"]
                seconds, *rest = (float(row[key]) if row[key] else None for key in TIMINGS[1:4])
                slower = _slower(there)
                words = f"times {slower:.2f} for this machine" if slower else "not known how fast beside this machine"
                return Cost(seconds * (slower or 1), *rest, f"recorded on {row['hardware']}, {words}")
    return None


def _slower(there: dict) -> float | None:
    """How many times slower this machine is than one with that calibration, if both have measured the same."""
    here = calibration()
    both = [math.log(there[network] / here[network]) for network in here if network in there]
    return math.exp(sum(both) / len(both)) if both else None


def _from_work(job) -> Cost | None:
    passes, speed = work(job), calibration()
    if not passes or any(network not in speed for network in passes):
        return None
    seconds = STARTING + sum(amount / speed[network] for network, amount in passes.items())
    return Cost(seconds, None, stored(job), "calculated from its passes and this machine's speed")


def covering(known: int, waiting: list, words: str) -> str:
    """An estimate, with the number of jobs it does not cover."""
    missing = len(waiting) - known
    return "unknown" if not known else words + f", {missing} unknown" * bool(missing)


def time_for(waiting: list, jobs: int) -> str:
    """How long the jobs should take, `jobs` at once."""
    known = [step.seconds for step in waiting if step.seconds is not None]
    return covering(len(known), waiting, f"about {runtime.minutes(sum(known) / jobs)}")


# ------------------------------------------------------------------------------------- the work of a job


def work(job) -> dict[str, float]:
    """Passes through each network, for the notebooks that train or sample; nothing for the others."""
    count = WORK.get(job.notebook)
    total: dict[str, float] = {}
    for network, passes in count(job.parameters) if count else ():
        total[network] = total.get(network, 0) + passes
    return {network: passes for network, passes in total.items() if passes}


def _unet(parameters: dict) -> str:
    """The network that the profile's notebook 01 trains on these images; the shipped one where it trains none."""
    made = [job.parameters for job in profiles.jobs(parameters["profile"]) if job.notebook == "01_diffusion"]
    paper = ("paper", parameters["dataset"]) in [(each["recipe"], each["dataset"]) for each in made]
    return "paper U-Net" if paper else "embedded U-Net"


def _diffusion(p: dict) -> list[tuple[str, float]]:
    network = "paper U-Net" if p["recipe"] == "paper" else "embedded U-Net"
    trained = 3 * p["steps"] * _per_step(p["recipe"]) if p["retrain"] or p["dataset"] != "scenes" else 0
    return [(network, trained + p["samples"] * p["sampling_steps"])]


def _per_step(recipe: str) -> float:
    """Images, second views among them, that go through the diffusion model in one step of its training."""
    from synpos_lib.diffusion.model import RECIPES

    return RECIPES[recipe].batch * (1 + RECIPES[recipe].second_view)


def _silenced(p: dict) -> list[tuple[str, float]]:
    return [(_unet(p), p["samples"] * p["steps"] * (2 + len(p["strengths"]) + LEVELS))]


def _gallery(p: dict) -> list[tuple[str, float]]:
    return [(_unet(p), 1.5 * p["anchors"] * p["steps"] * (len(p["weights"]) + 5 + LEVELS))]


def _positives(p: dict) -> list[tuple[str, float]]:
    images = p["anchors"] * p["candidates"] * p["steps"]  # with guidance each takes two passes, with mixing 1.5
    count = p["conditional_steps"]
    conditional = 3 * count * _per_step(p["conditional_recipe"]) + 2 * images if count else 0
    return [(_unet(p), 1.5 * images + conditional)]


def _training(p: dict) -> list[tuple[str, float]]:
    return [(p["encoder"], p["epochs"] * p["anchors"] * views(p["method"]))]


def _arms(p: dict) -> list[tuple[str, float]]:
    """Three arms of each method, with and without augmentation; the studies after them are not counted."""
    trainings = 3 * 2 * len(p["base_methods"]) * len(p["seeds"])
    return [(p["encoder"], trainings * p["epochs"] * (p["anchors"] or WHOLE.get(p["dataset"], 0)) * 6)]


def _ablations(p: dict) -> list[tuple[str, float]]:
    """One training for each value of a knob and seed; the sampling for some of them is not counted."""
    knobs = "candidates lambdas weights anchor_times sampling_steps samplers skips half_trained".split()
    trainings = (1 + sum(len(p[knob]) for knob in knobs)) * len(p["seeds"])
    network = "small" if p["dataset"] == "scenes" else "resnet18"  # as in notebook 07
    taught = (network, trainings * p["epochs"] * p["anchors"] * views(p["method"]))
    return [taught, (_unet(p), 3 * sum(p["half_trained"]) * _per_step(p["recipe"]))]


WHOLE = {"imagenet100": 126_689}  # training images, where a profile takes all of them
LEVELS = 5  # of the U-Net: the bottleneck and four levels of skip connections
WORK: dict[str, Callable[[dict], list[tuple[str, float]]]] = {
    "01_diffusion": _diffusion,
    "03_zeroed_features": _silenced,
    "04_interpolation_gallery": _gallery,
    "05_synthetic_positives": _positives,
    "07_ssl_training": _training,
    "10_ablations": _ablations,
    "11_mixdiff": _arms,
}


def views(method: str) -> float:
    """Passes per image and epoch of a method: 3 for each view that is learned from."""
    from synpos_lib import methods

    return 3 * (2 + (methods.recipe(method).role in ("pull", "third view")))


def stored(job) -> float | None:
    """Megabytes of the positives, where it is them that a job stores."""
    p = job.parameters
    if job.notebook != "05_synthetic_positives":
        return None
    return p["anchors"] * p["candidates"] * 3 * 32 * 32 / 1e6


# ------------------------------------------------------------------------------- the speed of this machine


def calibrate(steps: Iterable) -> bool:
    """Measure this machine's speed through networks that the costs of these steps wait for; whether it did anything."""
    wanted: set[str] = set()
    for step in steps:
        if step.cost.basis != MEASURED:
            wanted |= set(SMALL if step.cost.basis.startswith("recorded") else work(step.job))
    return measure(wanted)


def measure(networks: Iterable[str]) -> bool:
    """Measure this machine's speed through these networks, once; whether there was anything to measure."""
    speed = calibration()
    missing = sorted(set(networks) - set(speed))
    if missing:
        print(f"measuring this machine, once, about {len(missing) * 1.5 * MEASURING:.0f} s: {', '.join(missing)}")
        for network in missing:
            speed[network] = round(_passes_per_second(network), 1)
        files.write_json(_calibration_file(), {"hardware": runtime.hardware(), "passes per second": speed})
    return bool(missing)


def calibration() -> dict[str, float]:
    """Passes per second through each network, as far as they were measured on this machine."""
    if not _calibration_file().exists():
        return {}
    known = files.read_json(_calibration_file())
    return known["passes per second"] if known["hardware"] == runtime.hardware() else {}


def _calibration_file() -> Path:
    return runtime.outputs() / "calibration.json"


def _passes_per_second(network: str) -> float:
    import torch

    torch.set_num_threads(runtime.use_threads())
    step, passes = _sampling_step(network) if "U-Net" in network else _training_step(network)
    step()  # fills caches
    count, since = 0, time.perf_counter()
    while time.perf_counter() - since < MEASURING:
        step()
        count += passes
    return count / (time.perf_counter() - since)


def _training_step(encoder: str) -> tuple[Callable, int]:
    """A step of SimCLR on noise, augmentation and optimiser included, and its passes."""
    import torch

    from synpos_lib import methods
    from synpos_lib.data.catalog import Images
    from synpos_lib.train import pretrain

    side = _side(encoder)
    batch = (512 if runtime.device().type == "cuda" else 128 if encoder in SMALL else 16) * 32 // side
    shape = (batch, 3, side, side)
    noise = Images(torch.randint(256, shape, dtype=torch.uint8), None, None, (), "noise", "train", "noise")
    config = pretrain.Config(method="simclr", encoder=encoder, batch=batch)
    training = pretrain._Training(config, methods.recipe("simclr"), noise, None, pretrain.processes())
    training.method.train()
    draw = torch.Generator().manual_seed(0)

    def step() -> None:
        loss, _ = training.step(torch.randperm(batch, generator=draw), torch.zeros(batch, dtype=torch.long), draw)
        loss.item()

    return step, 6 * batch


def _sampling_step(network: str) -> tuple[Callable, int]:
    """A forward pass of a U-Net, as in sampling, and how many images it takes."""
    import torch

    from synpos_lib.diffusion.unet import EMBEDDED, PAPER, UNet

    where = runtime.device()
    unet = UNet(EMBEDDED if network in SMALL else PAPER).to(where).eval()
    batch = 256 if where.type == "cuda" else 64 if network in SMALL else 4
    x, t = torch.randn(batch, 3, 32, 32, device=where), torch.full((batch,), 500, device=where)

    @torch.no_grad()
    def step() -> None:
        with runtime.autocast(where):
            unet(x, t).sum().item()

    return step, batch


# ------------------------------------------------------------------------------------------- GPU-hours


def gpu_hours(passes: dict[str, float]) -> tuple[float, str]:
    """Hours of a GPU for these passes, as measured on this machine's, else at the pace of the released training."""
    speed = calibration()
    if runtime.device().type == "cuda" and set(passes) <= set(speed):
        return sum(amount / speed[network] for network, amount in passes.items()) / 3600, "as measured on this GPU"
    pace = operations("resnet18") * RELEASED_PASSES / RELEASED_HOURS
    return sum(amount * operations(network) for network, amount in passes.items()) / pace, f"at the pace of {RELEASED}"


def _side(network: str) -> int:
    """Pixels of the images that a network is meant for."""
    return 224 if network.endswith(("-imagenet", "-224")) else 32


def operations(network: str) -> int:
    """Floating-point operations of one forward pass of one image, counted, not run."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from synpos_lib.diffusion.unet import EMBEDDED, PAPER, UNet
    from synpos_lib.train import encoders

    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        x = torch.empty(1, 3, _side(network), _side(network))
        if "U-Net" in network:
            UNet(EMBEDDED if network in SMALL else PAPER).eval()(x, torch.empty(1, dtype=torch.long))
        else:
            encoders.by_name(network)[0].eval()(x)
    return counter.get_total_flops()
