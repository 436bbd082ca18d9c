"""What every sitting has at hand, and what the two that train a diffusion model do alike."""

import copy
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import torch
from clock import Clock
from results import Results

from synpos_lib import runtime
from synpos_lib.diffusion import training
from synpos_lib.diffusion.generators import BottleneckMixing, draw_freely
from synpos_lib.diffusion.unet import UNet
from synpos_lib.evaluate import probes, quality
from synpos_lib.evaluate.judge import Judge
from synpos_lib.processes import Processes
from synpos_lib.tables import share

COMPILE_FROM = 150  # seconds of a training: compiling costs up to a minute of them
RANGES = 10  # of t, for the error


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
    sitting: Sitting, clock: Clock, variant: str, images: torch.Tensor, config: training.TrainingConfig, start=None
) -> UNet:
    """Train a diffusion model until the clock says stop, its rate following the share that is gone; its average.

    With `start`, the weights of an earlier sitting, network and average begin there, the optimiser afresh.
    """
    where, here = sitting.device, Processes(0, 1, sitting.device)
    torch.manual_seed(runtime.derive(config.seed, "gpu", variant))
    unet = UNet(config.unet).to(where)
    if start is not None:
        unet.load_state_dict(start)
    ema = copy.deepcopy(unet).requires_grad_(False).eval()
    optimizer = training.make_optimizer(unet, config)
    images = images.to(where)
    compiled = where.type == "cuda" and clock.seconds >= COMPILE_FROM
    losses = torch.compile(training.losses) if compiled else training.losses
    parameters = sum(weight.numel() for weight in unet.parameters())
    recipe = {**dataclasses.asdict(config), "steps": None, "started_from": start is not None, "compiled": compiled}
    save_now = clock.every(60)
    sums = torch.zeros(2, RANGES, device=where)
    step = warm = 0
    began = clock.left()  # and again once the first steps are done, so that compiling is not counted
    unet.train()
    while (gone := clock.gone()) < 1:
        batch = training.draw(images, step, config)
        error = training.train_step(unet, ema, optimizer, batch, step, config, here, progress=gone, losses=losses)
        if gone > 1 - config.decay:  # at the end of the training, not on its way
            sums.index_add_(1, batch.t * RANGES // training.T, torch.stack([error, torch.ones_like(error)]))
        step += 1
        if step == 10:
            _wait(where)
            warm, began = step, clock.left()
        if save_now():
            sitting.results.keep(variant, ema, {**recipe, "images_seen": step * config.batch})
            sitting.results.save()
            print(f"{variant}: {step * config.batch:,} images, loss {error.mean().item():.4f}", flush=True)
    _wait(where)
    seconds = began - clock.left()
    if step <= warm:  # there was time for no more than the first steps
        warm, seconds = 0, clock.seconds
    recipe |= {"images_seen": step * config.batch, "seconds": round(clock.seconds, 1)}
    sitting.results.keep(variant, ema, recipe)
    add = sitting.results.add
    add("training", variant=variant, measure="parameters", value=parameters)
    add("training", variant=variant, measure="images seen", value=step * config.batch)
    add(
        "training", variant=variant, measure="images per second", value=round((step - warm) * config.batch / seconds, 1)
    )
    for i, value in enumerate((sums[0] / sums[1].clamp_min(1)).tolist()):
        add("loss", variant=variant, t=f"{i * training.T // RANGES} to {(i + 1) * training.T // RANGES}", value=value)
    return ema


def _wait(where: torch.device) -> None:
    if where.type == "cuda":
        torch.cuda.synchronize()


def ask(sitting: Sitting, clock: Clock, variant: str, unet: UNet, judge: Judge, train, held_out, settings) -> None:
    """Samples, the probes of every block, and what is kept of held-out anchors; what there is no time for is left out.

    `settings` are (steps, share of t to which the anchor is noised, w); the first two are always asked.
    """
    samples = 40 if sitting.tiny else 2000
    made = draw_freely(unet, samples, seed=sitting.seed)
    sitting.results.show(f"20 samples of {variant}", made[:20])
    seen, real = judge(made), judge(held_out.images)
    value, spread = quality.kid(real["features"], seen["features"], size=min(500, samples), seed=sitting.seed)
    sitting.results.add(
        "quality", variant=variant, measure="KID in the judge's features", value=value, std=spread, n=samples
    )
    _keep(sitting, variant, unet, judge, held_out, settings[:2])
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
    for i, setting in enumerate(settings[2:], 2):
        if not clock.left():
            print(f"no time is left for {len(settings) - i} of {len(settings)} settings of {variant}", flush=True)
            break
        _keep(sitting, variant, unet, judge, held_out, [setting])


def _keep(sitting: Sitting, variant: str, unet: UNet, judge: Judge, anchors, settings) -> None:
    """How often an image has the factor of its anchor: one image for each anchor, at every setting."""
    for steps, anchor_time, w in settings:
        steps = steps // 5 if sitting.tiny else steps
        about = dict(variant=variant, sampler="ddim", steps=steps, anchor_time=anchor_time, w=w)
        mixing = BottleneckMixing(unet, w=w, steps=steps, anchor_time=anchor_time, sampler="ddim")
        made = mixing.generate(anchors.images, 1, sitting.seed)[:, 0]
        seen, truth = judge.labels(made), {"what": anchors.labels, "where": anchors.where}
        for factor, labels in seen.items():
            estimate = share(labels == truth[factor])
            sitting.results.add("kept", **about, factor=factor, **estimate._asdict())
