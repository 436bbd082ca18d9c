"""Images per second of making positives: the released way, ours with the same settings, and ours with fewer steps.

The released way: fp32, DDIM 100 steps, and at every step an encoder pass of the sample, one of the anchor and a
decoder pass, for every candidate. Ours exact: the same sampler and steps; bf16 where the processor has it, one pass of
the anchor's encoder for all its candidates. Ours fast: DPM-Solver++ with 20 steps, whose positives keep as much and
look as real, within noise. Ours by default: with 10. The ratios are the last line, as JSON.

`--quality N` asks instead how few steps do: what is kept of N validation anchors, and the kernel distance of their
positives to real images (mean and standard deviation over its subsets), for two samplers and several steps; and
whether candidates that share a pass are more alike.

    python tests/benchmarks/positives.py [--anchors 8] [--candidates 8] [--rounds 3]
    python tests/benchmarks/positives.py --quality 600
"""

import argparse
import copy
import json
import tempfile
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from synpos_lib.core import runtime
from synpos_lib.data import catalog, scenes
from synpos_lib.diffusion import model
from synpos_lib.diffusion.generators import BottleneckMixing
from synpos_lib.diffusion.schedule import alpha_bar, q_sample
from synpos_lib.evaluate import quality
from synpos_lib.evaluate.judge import get_judge


@torch.no_grad()
def released(unet, anchors: torch.Tensor, candidates: int, steps: int = 100, w: float = 0.1, eta: float = 0.1):
    """The released sampler's arithmetic, transcribed from its description; one anchor pass per candidate."""
    x0 = (anchors.float() / 127.5 - 1).repeat_interleave(candidates, 0)
    x = torch.randn_like(x0)
    times = torch.linspace(-1, 999, steps + 1).int().flip(0).tolist()
    a = alpha_bar()
    for t, after in zip(times[:-1], times[1:], strict=True):
        now = torch.full((len(x),), t)
        h, skips = unet.encode(x, now)
        h_anchor, _ = unet.encode(q_sample(x0, now, torch.randn_like(x0)), now)
        v = unet.decode(w * h + (1 - w) * h_anchor, skips, now)
        start, eps = a[t].sqrt() * x - (1 - a[t]).sqrt() * v, a[t].sqrt() * v + (1 - a[t]).sqrt() * x
        if after < 0:
            return start.clamp(-1, 1)
        sigma = eta * ((1 - a[t] / a[after]) * (1 - a[after]) / (1 - a[t])).sqrt()
        x = a[after].sqrt() * start + (1 - a[after] - sigma**2).sqrt() * eps + sigma * torch.randn_like(x)


def as_released(unet):
    """The same weights in torch's default memory order, as a plain script would run it."""
    plain = copy.deepcopy(unet).to(memory_format=torch.contiguous_format)
    plain._patches = lambda x: F.pixel_unshuffle(x, plain.config.patch)
    return plain


def how_few(unet, n: int) -> None:
    """What fewer steps cost, a line for each sampler and number of steps."""
    with tempfile.TemporaryDirectory() as folder:
        judge = get_judge(Path(folder), "scenes")
    real = judge(catalog.load("scenes", "test", n=1000).images)["features"]
    anchors = catalog.load("scenes", "val", n=n)
    for sampler, steps in [("ddim", k) for k in (100, 20, 10, 5)] + [("dpm++", k) for k in (20, 10, 8, 5)]:
        made = BottleneckMixing(unet, sampler=sampler, steps=steps).generate(anchors.images, 1, 0)[:, 0]
        seen = judge(made)
        kept = (seen["what"].argmax(1) == anchors.labels).float().mean()
        distance, spread = quality.kid(real, seen["features"])
        print(f"{sampler:>5} {steps:>3} steps: what kept {kept:.3f}, KID {distance:.3f} ± {spread:.3f}", flush=True)
    mixing, few = BottleneckMixing(unet), anchors.images[:200]
    shared, own = mixing.generate(few, 4, 0), mixing.generate(few.repeat_interleave(4, 0), 1, 1).view(-1, 4, 3, 32, 32)
    for name, made in {"a pass for four candidates": shared, "a pass for each": own}.items():
        apart = quality.diversity(judge(made.flatten(0, 1))["features"].unflatten(0, (-1, 4)))
        error = apart.std() / len(few) ** 0.5
        print(f"{name}: distance among candidates {apart.mean():.3f}, standard error {error:.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--anchors", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quality", type=int, metavar="N", help="ask for quality, with so many anchors")
    parser.add_argument("--model", default="scenes", help="a shipped model")
    words = parser.parse_args()
    threads = runtime.use_threads()
    unet = model.load(words.model, Path("nowhere"))
    if words.quality:
        how_few(unet, words.quality)
        return
    plain = as_released(unet)
    anchors = scenes.render(words.anchors, "val").images
    exact = BottleneckMixing(unet, sampler="ddim", steps=100, anchor_time=1.0)
    fast = BottleneckMixing(unet, steps=20)
    default = BottleneckMixing(unet)
    sides = {
        "released": lambda: released(plain, anchors, words.candidates),
        "exact": lambda: exact.generate(anchors, words.candidates, 0),
        "fast": lambda: fast.generate(anchors, words.candidates, 0),
        "default": lambda: default.generate(anchors, words.candidates, 0),
    }
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(words.rounds):
        for name, side in sides.items():
            since = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - since)
    best = {name: min(values) for name, values in seconds.items()}
    count = words.anchors * words.candidates
    print(f"{runtime.hardware()}, {threads} threads, bf16 {runtime.fast_bf16(runtime.device().type)}")
    for name, value in best.items():
        print(f"{name}: {count / value:.2f} images per second")
    ratios = {name: round(best["released"] / best[name], 2) for name in ("exact", "fast", "default")}
    print(json.dumps(ratios))


if __name__ == "__main__":
    main()
