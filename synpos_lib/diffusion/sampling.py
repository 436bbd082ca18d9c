"""Sampling, with the bottleneck mixed towards an anchor's at every step.

    h = w * h(x_t, t) + (1 - w) * h(sqrt(alpha_bar_t) * anchor + sqrt(1 - alpha_bar_t) * noise, t)

With labels, every prediction is guided (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598):

    prediction = (1 + guidance) * prediction(x_t, t, label) - guidance * prediction(x_t, t, no class)

which for v and for the noise is the same thing. Guidance 0 follows the label as the data do; the "guidance scale" of
diffusers is 1 + guidance. Skips come from the sample alone. The defaults are those of the released
command (https://github.com/dewenzeng/clsp): DDIM with 100 steps at times linspace(-1, T - 1, steps + 1), eta 0.1,
w 0.1, the anchor noised afresh at every step, x0 not clipped before the end.
"""

import torch

from synpos_lib.core import runtime
from synpos_lib.core.errors import Problem, suggest
from synpos_lib.diffusion.features import features
from synpos_lib.diffusion.training import T, alpha_bar, check_labels, q_sample

SAMPLERS = {  # of diffusers, which takes seconds to load
    "ddpm": ("DDPMScheduler", {"clip_sample": False}),
    "ddim": ("DDIMScheduler", {"clip_sample": False}),
    "dpm++": ("DPMSolverMultistepScheduler", {}),  # second order, deterministic
}


def scheduler(sampler, steps, prediction):
    """A diffusers scheduler whose times are linspace(-1, T - 1, steps + 1) from the end, -1 left out."""
    import diffusers

    if sampler not in SAMPLERS:
        raise Problem(f"unknown sampler '{sampler}': {suggest(sampler, SAMPLERS)}")
    if not 1 <= steps <= T or T % steps:
        good = [k for k in range(1, T + 1) if T % k == 0]
        nearest = min(good, key=lambda k: abs(k - steps))
        raise Problem(f"steps must divide the {T} timesteps, and {steps} does not: the nearest is {nearest}")
    kind, settings = SAMPLERS[sampler]
    schedule = getattr(diffusers, kind)(
        num_train_timesteps=T, prediction_type=prediction, timestep_spacing="trailing", **settings
    )
    schedule.set_timesteps(steps)
    return schedule


@torch.no_grad()
def sample(
    unet,
    n=None,
    *,
    anchors=None,  # (B, 3, H, W) in [-1, 1]; without anchors n images are sampled freely
    candidates=1,  # images per anchor; those of one anchor follow each other
    w=0.1,  # share of the sample's own feature; 1 = the anchor is ignored
    blocks=("mid",),  # whose output is mixed
    window=(0, T),  # mixed at timesteps window[0] <= t < window[1]
    anchor_time=1.0,  # the anchor is noised to this fraction of t: the lower, the more its features tell
    anchor_noise="fresh",  # "fresh": of every candidate at every step; "shared": its candidates share one encoder pass
    sampler="ddim",
    steps=100,
    eta=0.1,  # of DDIM: 0 = deterministic, 1 = as random as DDPM
    labels=None,  # (n,) of a network with classes; without labels it is told "no class"
    guidance=0.0,  # how far beyond the label's own prediction; the released class-conditional code: 1.8
    start=None,  # (n, 3, H, W) in [-1, 1]: begin with these images, noised part-way, instead of with noise alone
    strength=1.0,  # how far they are noised: the share of the steps that is taken
    noise=None,  # like the images made: begin with this noise, such as that of `inverted`, and not with drawn noise
    seed=0,
    on_step=None,  # on_step(i, t, x) after every step
):
    """Images in [-1, 1]: n free ones, one for every `start`, or `candidates` for every anchor: (n, 3, H, W)."""
    if not 0 <= w <= 1:
        raise Problem(f"w must lie in [0, 1], not {w}")
    if not 0 <= anchor_time <= 1:
        raise Problem(f"anchor_time must lie in [0, 1], not {anchor_time}")
    if anchor_noise not in ("fresh", "shared"):
        raise Problem(f"unknown anchor_noise '{anchor_noise}': choose from fresh, shared")
    size, device = unet.config.image_size, next(unet.parameters()).device
    if start is not None:
        if not 0 < strength <= 1:
            raise Problem(f"strength must lie above 0 and be at most 1, not {strength}")
        n = len(start)
    if anchors is not None:
        if anchors.shape[1:] != (3, size, size):
            raise Problem(f"anchors must have the shape (B, 3, {size}, {size}), and these have {tuple(anchors.shape)}")
        n = len(anchors) * candidates
        if anchor_noise == "fresh":
            anchors = anchors.repeat_interleave(candidates, 0)
    if guidance and labels is None:
        raise Problem(f"a guidance of {guidance} needs labels to guide towards: pass labels, or leave it at 0")
    if labels is not None:
        if not unet.config.classes:
            raise Problem("this network was trained without labels: leave them out, or train one with unet.classes")
        check_labels(labels, n, unet.config.classes)
        labels = labels.to(device)
    rng = runtime.generator(seed, "sample", where=device)
    noise_rng = runtime.generator(seed, "anchor", where=device)  # its own: w = 1 equals sampling without an anchor
    steps_of = scheduler(sampler, steps, unet.config.prediction)
    extra = {"eta": eta} if sampler == "ddim" else {}

    x = torch.randn(n, 3, size, size, generator=rng, device=device) if noise is None else noise.to(device)
    taken = steps_of.timesteps
    if start is not None:
        taken = last(taken, strength)
        x = q_sample(start.to(device), taken[:1].to(device), x)
    for i, t in enumerate(taken.tolist()):
        mix = {}
        if anchors is not None and w < 1 and window[0] <= t < window[1]:
            h_anchor = anchor_features(unet, anchors, int(anchor_time * t), blocks, noise_rng)
            repeat = n // len(anchors)
            mix = {name: h.repeat_interleave(repeat, 0) if repeat > 1 else h for name, h in h_anchor.items()}
        with features(unet, mix, edit=lambda name, h, mix=mix: w * h + (1 - w) * mix[name]):
            times = torch.full((n,), t, device=device)
            prediction = unet(x, times, labels).float()
            if guidance:
                prediction = (1 + guidance) * prediction - guidance * unet(x, times).float()
        x = steps_of.step(prediction, t, x, generator=rng, **extra).prev_sample
        if on_step is not None:
            on_step(i, t, x)
    return x.clamp(-1, 1)


def last(times, strength):
    """The share of the steps, at the end, that is taken when sampling starts from images: at least one."""
    return times[-max(1, round(strength * len(times))) :]


@torch.no_grad()
def inverted(unet, images, *, steps=100, strength=1.0):
    """The noise that is in these images: from it, `sample` with start=images and eta 0 draws them again. Like images.

    DDIM run backwards (https://arxiv.org/abs/2010.02502), told "no class": from x at the time before, to x' at t,

        x' = sqrt(alpha_bar_t) (x - s eps) / sqrt(alpha_bar) + s_t eps,   eps = eps(x, t),   s = sqrt(1 - alpha_bar)
    """
    x = clean = images.to(next(unet.parameters()).device)
    before = torch.ones((), device=x.device)  # alpha_bar of x
    for t in last(scheduler("ddim", steps, unet.config.prediction).timesteps, strength).flip(0).tolist():
        now, a = torch.full((len(x),), t, device=x.device), alpha_bar(x.device)[t]
        eps = unet(x, now).float()
        if unet.config.prediction == "v_prediction":
            eps = a.sqrt() * eps + (1 - a).sqrt() * x
        x, before = a.sqrt() * (x - (1 - before).sqrt() * eps) / before.sqrt() + (1 - a).sqrt() * eps, a
    return (x - before.sqrt() * clean) / (1 - before).sqrt()


def anchor_features(unet, anchors, t, blocks, rng):
    """The named features of the anchors noised to timestep t; the decoder runs only if it holds one of them."""
    noise = torch.randn(anchors.shape, generator=rng, device=anchors.device)
    times = torch.full((len(anchors),), t, device=anchors.device)
    run = unet if any(name.startswith("up") for name in blocks) else unet.encode
    with features(unet, blocks) as seen:
        run(q_sample(anchors, times, noise), times)
    return seen


def to_uint8(x):
    """[-1, 1] -> 0 ... 255, truncated as in the released code."""
    return ((x * 0.5 + 0.5) * 255).to(torch.uint8)
