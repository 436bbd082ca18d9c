"""Sampling, with the bottleneck mixed towards an anchor's at every step.

    h = w * h(x_t, t) + (1 - w) * h(sqrt(alpha_bar_t) * anchor + sqrt(1 - alpha_bar_t) * noise, t)

With labels, every prediction is guided (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598):

    prediction = (1 + guidance) * prediction(x_t, t, label) - guidance * prediction(x_t, t, no class)

which is the same for v as for the noise. Guidance 0 follows the label as the data do; the "guidance scale" of
diffusers is 1 + guidance. Skips come from the sample alone. The defaults are those of the released
command (https://github.com/dewenzeng/clsp): DDIM with 100 steps at times linspace(-1, T - 1, steps + 1), eta 0.1,
w 0.1, the anchor noised afresh at every step, x0 not clipped before the end. Differs from it in: several images of one
anchor share its noise at a step, and so one pass of the encoder. Each by itself is drawn as if it were alone; together
they differ as much as with noise of their own (`tests/benchmarks/positives.py --quality`).
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.diffusion.features import features
from synpos_lib.diffusion.schedule import T, alpha_bar, q_sample
from synpos_lib.diffusion.unet import UNet, check_labels

SAMPLERS: dict[str, tuple[str, dict[str, bool]]] = {  # of diffusers, which takes seconds to load
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),  # second order, deterministic
}


def scheduler(sampler: str, steps: int, prediction: str) -> Any:
    """A diffusers scheduler whose times are linspace(-1, T - 1, steps + 1) from the end, -1 left out."""
    import diffusers

    if sampler not in SAMPLERS:
        raise Problem(f"unknown sampler '{sampler}': {suggest(sampler, SAMPLERS)}")
    if not 1 <= steps <= T or T % steps:
        nearest = min((k for k in range(1, T + 1) if T % k == 0), key=lambda k: abs(k - steps))
        raise Problem(f"steps must divide the {T} timesteps, and {steps} does not: the nearest is {nearest}")
    kind, settings = SAMPLERS[sampler]
    schedule = getattr(diffusers, kind)(
        num_train_timesteps=T, prediction_type=prediction, timestep_spacing="trailing", **settings
    )
    schedule.set_timesteps(steps)
    return schedule


def mix(h: Tensor, h_anchor: Tensor, w: float) -> Tensor:
    """The sample's own feature, mixed with its anchor's: h <- w h + (1 - w) h_anchor."""
    return w * h + (1 - w) * h_anchor


@torch.no_grad()
def sample(
    unet: UNet,
    n: int | None = None,  # images; None: one for each anchor, start or label
    *,
    anchors: Tensor | None = None,  # (n / k, 3, H, W) in [-1, 1], each for k images in a row; None: sampled freely
    w: float = 0.1,  # share of the sample's own feature; 1 = the anchor is ignored
    blocks: Collection[str] = ("mid",),  # whose output is mixed
    window: tuple[int, int] = (0, T),  # mixed at timesteps window[0] <= t < window[1]
    anchor_time: float = 1.0,  # the anchor is noised to this fraction of t: the lower, the clearer its features
    sampler: str = "ddim",
    steps: int = 100,
    eta: float = 0.1,  # of DDIM: 0 = deterministic, 1 = as random as DDPM
    labels: Tensor | None = None,  # (n,) of a network with classes; without labels it samples "no class"
    guidance: float = 0.0,  # how far beyond the label's own prediction; the released class-conditional code: 1.8
    start: Tensor | None = None,  # (n, 3, H, W) in [-1, 1]: begin with these images, noised part-way, not with noise
    strength: float = 1.0,  # how far they are noised: the share of the steps that is taken, at least one
    noise: Tensor | None = None,  # (n, 3, H, W): begin with this noise, such as that of `inverted`, not with a new draw
    seed: int = 0,
) -> Tensor:
    """Images in [-1, 1], (n, 3, H, W)."""
    size, device = unet.config.image_size, next(unet.parameters()).device
    if n is None:
        n = next(len(each) for each in (start, labels, anchors) if each is not None)
    _check(unet, n, anchors, labels, guidance, w=w, anchor_time=anchor_time)
    if not 0 < strength <= 1:
        raise Problem(f"strength must lie above 0 and be at most 1, not {strength}")
    anchors, labels = (None if each is None else each.to(device) for each in (anchors, labels))
    rng = runtime.generator(seed, "sample", where=device)
    anchor_rng = runtime.generator(seed, "anchor", where=device)  # its own: w = 1 equals sampling without an anchor
    schedule = scheduler(sampler, steps, unet.config.prediction)
    times = schedule.timesteps

    def predict(x: Tensor, t: int) -> Tensor:
        h_anchor = {}
        if anchors is not None and w < 1 and window[0] <= t < window[1]:
            h_anchor = anchor_features(unet, anchors, int(anchor_time * t), blocks, anchor_rng)
            h_anchor = {name: h.repeat_interleave(n // len(anchors), 0) for name, h in h_anchor.items()}
        now = torch.full((1,), t, device=device)  # one for all: so is its embedding
        with features(unet, h_anchor, edit=lambda name, h: mix(h, h_anchor[name], w)):
            prediction = unet(x, now, labels).float()
            if guidance:
                prediction = (1 + guidance) * prediction - guidance * unet(x, now).float()
        return prediction

    x = torch.randn(n, 3, size, size, generator=rng, device=device) if noise is None else noise.to(device)
    if start is not None:
        times = times[-max(1, round(strength * len(times))) :]
        x = q_sample(start.to(device), times[:1].to(device), x)
    extra = {"eta": eta} if sampler == "ddim" else {}
    for t in times.tolist():
        x = schedule.step(predict(x, t), t, x, generator=rng, **extra).prev_sample
    return x.clamp(-1, 1)


def _check(unet: UNet, n: int, anchors: Tensor | None, labels: Tensor | None, guidance: float, **shares: float) -> None:
    """Refuse arguments that do not fit each other, before anything is sampled."""
    size = unet.config.image_size
    for name, share in shares.items():
        if not 0 <= share <= 1:
            raise Problem(f"{name} must lie in [0, 1], not {share}")
    if anchors is not None and anchors.shape[1:] != (3, size, size):
        raise Problem(f"anchors must have the shape (number, 3, {size}, {size}), and these have {tuple(anchors.shape)}")
    if anchors is not None and (not len(anchors) or n % len(anchors)):
        raise Problem(f"{n} images cannot be shared out evenly among {len(anchors)} anchors: ask for a multiple")
    if guidance and labels is None:
        raise Problem(f"a guidance of {guidance} needs labels to guide towards: pass labels, or leave it at 0")
    if labels is not None:
        if not unet.config.classes:
            raise Problem("this network was trained without labels: leave them out, or train one with unet.classes")
        check_labels(labels, n, unet.config.classes)


@torch.no_grad()
def inverted(unet: UNet, images: Tensor, *, steps: int = 100) -> Tensor:
    """The noise in these images, of their shape: from it, `sample` with start=images and eta 0 draws them again.

    DDIM run backwards (https://arxiv.org/abs/2010.02502) for "no class": from x at the time before, to x' at t,

        x' = sqrt(alpha_bar_t) (x - s eps) / sqrt(alpha_bar) + s_t eps,   eps = eps(x, t),   s = sqrt(1 - alpha_bar)
    """
    x = clean = images.to(next(unet.parameters()).device)
    before = torch.ones((), device=x.device)  # alpha_bar of x
    for t in scheduler("ddim", steps, unet.config.prediction).timesteps.flip(0).tolist():
        now, a = torch.full((1,), t, device=x.device), alpha_bar(x.device)[t]
        eps = unet(x, now).float()
        if unet.config.prediction == "v_prediction":
            eps = a.sqrt() * eps + (1 - a).sqrt() * x
        x, before = a.sqrt() * (x - (1 - before).sqrt() * eps) / before.sqrt() + (1 - a).sqrt() * eps, a
    return (x - before.sqrt() * clean) / (1 - before).sqrt()


def anchor_features(
    unet: UNet, anchors: Tensor, t: int, blocks: Collection[str], rng: torch.Generator
) -> dict[str, Tensor]:
    """The named features of the anchors noised to timestep t; the decoder runs only if it holds one of them."""
    noise = torch.randn(anchors.shape, generator=rng, device=anchors.device)
    times = torch.full((1,), t, device=anchors.device)
    run = unet if any(name.startswith("up") for name in blocks) else unet.encode
    with features(unet, blocks) as outputs:
        run(q_sample(anchors, times, noise), times)
    return outputs
