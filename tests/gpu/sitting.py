"""What every sitting has at hand, and what the two that train a diffusion model do alike."""

import copy
import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from clock import Clock
from results import Results

from synpos_lib.core import runtime
from synpos_lib.core.processes import Processes
from synpos_lib.diffusion import schedule, training
from synpos_lib.diffusion.generators import BottleneckMixing, draw_freely
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate import probes, quality
from synpos_lib.evaluate.judge import Judge

COMPILE_FROM = 100  # seconds of a training: below, compiling would take too large a share of them
TRIAL = 10  # steps, to see how fast a step is


@dataclass(frozen=True)
class Sitting:
    clock: Clock
    results: Results
    scratch: Path  # for runs that do not come home
    data: Path | None  # packed parts, or a data root as SYNPOS_DATA
    weights: Path | None  # the results of an earlier sitting
    seed: int
    tiny: bool  # a rehearsal: a few small images, the smallest networks

    @property
    def device(self) -> torch.device:
        return runtime.device()


def train(
    sitting: Sitting,
    clock: Clock,
    variant: str,
    images: torch.Tensor,
    config: training.TrainingConfig,
    start=None,
    **more,
) -> UNet:
    """Train a diffusion model until the clock says stop, its rate following the share that is gone; its average.

    With `start`, the weights of an earlier sitting, network and average begin there, the optimiser afresh. `more` is
    kept with the recipe of the weights.
    """
    where, here = sitting.device, Processes(0, 1, sitting.device)
    torch.manual_seed(runtime.derive(config.seed, "gpu"))
    unet = UNet(config.unet).to(where)
    if start is not None:
        unet.load_state_dict(start)
    ema = copy.deepcopy(unet).requires_grad_(False).eval()
    optimizer = training.make_optimizer(unet, config)
    images = images.to(where)
    sums = torch.zeros(2, training.RANGES, device=where)
    unet.train()

    def one_step(step: int, progress: float, errors) -> torch.Tensor:
        batch = training.draw(images, step, config)
        error = training.train_step(unet, ema, optimizer, batch, step, config, here, progress=progress, errors=errors)
        if progress > 1 - config.decay:  # at the end of the training, not on its way
            _sort(sums, batch, error)
        return error

    errors, step = fastest(sitting, clock, variant, one_step)
    short = clock.seconds < COMPILE_FROM  # then the trial took a moment, and every variant has the same time after it
    clock, first = Clock(clock.seconds if short else clock.left(), clock.now), step
    recipe = {**dataclasses.asdict(config), "steps": None, "compiled": errors is not None, **more}
    save_now = clock.every(60)
    while (gone := clock.gone()) < 1:
        error = one_step(step, gone, errors)
        step += 1
        if save_now():
            sitting.results.keep(variant, ema, {**recipe, "images_seen": step * config.batch})
            sitting.results.save()
            print(f"{variant}: {step * config.batch:,} images, loss {error.mean().item():.4f}", flush=True)
    _wait(where)
    sitting.results.keep(variant, ema, {**recipe, "images_seen": step * config.batch})
    add = sitting.results.add
    add("training", variant=variant, measure="parameters", value=sum(weight.numel() for weight in unet.parameters()))
    add("training", variant=variant, measure="images seen", value=step * config.batch)
    speed = (step - first) * config.batch / max(clock.seconds, 1e-9)
    add("training", variant=variant, measure="images per second", value=round(speed, 1))
    _tell(sitting, sums, "training loss", variant=variant)
    return ema


def _sort(sums: torch.Tensor, batch: training.Batch, error: torch.Tensor) -> None:
    """Add the errors of a batch, and how many they are, to the ranges of t: (2, training.RANGES)."""
    sums.index_add_(1, batch.t * training.RANGES // schedule.T, torch.stack([error, torch.ones_like(error)]))


def _tell(sitting: Sitting, sums: torch.Tensor, table: str, **row: object) -> None:
    """The mean error in every range of t."""
    for i, value in enumerate((sums[0] / sums[1].clamp_min(1)).tolist()):
        times = f"{i * schedule.T // training.RANGES} to {(i + 1) * schedule.T // training.RANGES}"
        sitting.results.add(table, **row, t=times, value=value)


def fastest(sitting: Sitting, clock: Clock, variant: str, one_step) -> tuple[Callable | None, int]:
    """The compiled errors where compiling works, pays and is faster, else None; and how many steps the trial took."""
    add, step = sitting.results.add, 0

    def trial(errors) -> float:
        nonlocal step
        start = time.perf_counter()
        for _ in range(TRIAL):
            one_step(step, 0.0, errors)
            step += 1
        _wait(sitting.device)
        return (time.perf_counter() - start) / TRIAL

    if sitting.device.type != "cuda":
        return None, step
    trial(None)  # warms up
    if clock.seconds < COMPILE_FROM:
        return None, step
    plain = trial(None)
    add("compiling", variant=variant, measure="seconds of a step", value=plain)
    try:
        errors = torch.compile(training.squared_errors)
        start = time.perf_counter()
        one_step(step, 0.0, errors)
        _wait(sitting.device)
        add("compiling", variant=variant, measure="seconds to compile", value=time.perf_counter() - start)
        compiled = trial(errors)
    except Exception as error:  # whatever a compiler may say: the training goes on without it
        print(f"{variant}: not compiled ({type(error).__name__}: {error})", flush=True)
        return None, step
    add("compiling", variant=variant, measure="seconds of a compiled step", value=compiled)
    return (errors if compiled < plain else None), step


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize()


def ask(sitting: Sitting, clock: Clock, variant: str, unet: UNet, judge: Judge, train, held_out, settings) -> None:
    """Samples, error, the probes of every block, and what is kept of held-out anchors, as far as there is time.

    `settings` are (steps, share of t to which the anchor is noised, w); the first two are always asked.
    """
    samples = 40 if sitting.tiny else 2000
    images = draw_freely(unet, samples, seed=sitting.seed)
    sitting.results.show(f"20 samples of {variant}", images[:20])
    seen, real = judge(images), judge(held_out.images)
    value, spread = quality.kid(real["features"], seen["features"], size=min(500, samples), seed=sitting.seed)
    sitting.results.add(
        "quality", variant=variant, measure="KID in the judge's features", value=value, std=spread, n=samples
    )
    _keep(sitting, variant, unet, judge, held_out, settings[:2])
    _error(sitting, variant, unet, held_out.images)
    sitting.results.save()
    for t in (50,) if sitting.tiny else (50, 200):
        if not clock.left():
            break
        for row in probes.probe_blocks(unet, train, held_out, [t], seed=sitting.seed).to_dict("records"):
            block = row.pop("block")
            for measure, value in row.items():
                if measure != "t":
                    probe, factor = measure.split()
                    about = dict(variant=variant, block=block, t=t, factor=factor, measure=probe)
                    sitting.results.add("probes", **about, value=value, n=len(held_out))
    sitting.results.save()
    for i, setting in enumerate(settings[2:], 2):
        if not clock.left():
            print(f"no time is left for {len(settings) - i} of {len(settings)} settings of {variant}", flush=True)
            break
        _keep(sitting, variant, unet, judge, held_out, [setting])


@torch.no_grad()
def _error(sitting: Sitting, variant: str, unet: UNet, images: torch.Tensor) -> None:
    """The error on held-out images with the network's own bottleneck and all skips, alike for every variant."""
    config = training.TrainingConfig(unet=unet.config, batch=128, seed=sitting.seed)
    images, sums = images.to(sitting.device), torch.zeros(2, training.RANGES, device=sitting.device)
    for step in range(2 if sitting.tiny else 40):
        batch = training.draw(images, step, config)
        with runtime.autocast(sitting.device):
            error = training.losses(unet, batch)
        _sort(sums, batch, error)
    _tell(sitting, sums, "loss", variant=variant, n=len(images))


def _keep(sitting: Sitting, variant: str, unet: UNet, judge: Judge, anchors, settings) -> None:
    """How often an image has the factor of its anchor: one image for each anchor, at every setting."""
    for steps, anchor_time, w in settings:
        steps = steps // 5 if sitting.tiny else steps
        about = dict(variant=variant, sampler="ddim", steps=steps, anchor_time=anchor_time, w=w)
        mixing = BottleneckMixing(unet, w=w, steps=steps, anchor_time=anchor_time, sampler="ddim")
        images = mixing.generate(anchors.images, 1, sitting.seed)[:, 0]
        for row in judge.agreement(images, anchors):
            sitting.results.add("kept", **about, factor=row.pop("kept"), **row)
