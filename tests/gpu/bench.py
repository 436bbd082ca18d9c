"""Sitting 0: what the card can do, what of it a SimCLR step uses, ours and the released way; and is it right?"""

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from clock import Clock
from sitting import Sitting
from torch.utils.flop_counter import FlopCounterMode

from synpos_lib.core import runtime
from synpos_lib.data import views
from synpos_lib.diffusion.unet import EMBEDDED, UNet

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
import ssl_step  # noqa: E402 (beside the other benchmarks)

MEAN, STD = views.NORMALIZATION["cifar10"]


def prepare(sitting: Sitting) -> tuple:
    return ()


def run(sitting: Sitting, clock: Clock | None = None) -> None:
    clock = clock or sitting.clock
    long = clock.seconds > 90 and not sitting.tiny  # time enough to compile
    check(sitting)
    peak = matmul(sitting, clock.part(0.1))
    batch, encoder = (8, "tiny") if sitting.tiny else (1024, "resnet18")
    images = torch.randint(0, 256, (4 * batch, 3, 32, 32), dtype=torch.uint8)
    step, _ = ssl_step.ours(images, batch, encoder)
    ways = {"ours": (step, 0.5), "the released way": (next(ssl_step.official(images, batch, encoder)), 0.9)}
    if long:
        ways["ours, compiled"] = (ssl_step.ours(images, batch, encoder, compiled=True)[0], 1.0)
    for way, (one_step, part) in ways.items():
        speed, first = rate(one_step, batch, clock.part(part))
        row = dict(way=way, batch=batch)
        if way == "ours":
            with FlopCounterMode(display=False) as counter:
                one_step()
            flops = counter.get_total_flops() / batch  # both passes of an image's two views
        sitting.results.add("simclr step", **row, measure="images per second", value=round(speed, 1))
        sitting.results.add("simclr step", **row, measure="share of the bf16 peak", value=speed * flops / peak)
        sitting.results.add(
            "simclr step", **row, measure="seconds before the first step is done", value=round(first, 2)
        )


def matmul(sitting: Sitting, clock: Clock) -> float:
    """Floating-point operations per second of a large bf16 product of random matrices."""
    n = 128 if sitting.tiny else 8192
    a, b = (torch.randn(n, n, device=sitting.device).bfloat16() for _ in range(2))
    speed, _ = rate(lambda: a @ b, 2 * n**3, clock)
    sitting.results.add("card", measure=f"bf16 product of {n} x {n}, TFLOP/s", value=speed / 1e12)
    return speed


def rate(step: Callable[[], object], size: int, clock: Clock) -> tuple[float, float]:
    """Units per second of a step that handles `size` of them, and the seconds that the first one took."""

    def wait() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    start = wait()
    step()
    first = wait() - start
    step()  # once more: caches are filled
    count, start = 0, wait()
    while not count or clock.left():
        step()
        count += 1
        if count % 5 == 0:
            wait()
    return count * size / (wait() - start), first


def check(sitting: Sitting) -> None:
    """The card against the processor, on the same numbers: the views, and a U-Net in float32."""
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (64, 3, 32, 32), dtype=torch.uint8, generator=draw)
    drawn = views.draw(64, dataclasses.replace(views.by_name("symmetric"), solarize=0.3), 32, 32, draw)
    there = {
        name: value.to(sitting.device) if isinstance(value, torch.Tensor) else value
        for name, value in vars(drawn).items()
    }
    here = views.apply(images, drawn, MEAN, STD)
    apart = views.apply(images.to(sitting.device), views.Parameters(**there), MEAN, STD).cpu() - here
    sitting.results.add(
        "card", measure="views, largest difference from the processor's", value=apart.abs().max().item()
    )
    unet, x = UNet(EMBEDDED).eval(), torch.randn(8, 3, 32, 32, generator=draw)
    t = torch.arange(8) * 100
    with torch.no_grad():
        expected = unet(x, t)
        found = unet.to(sitting.device)(x.to(sitting.device), t.to(sitting.device)).cpu()
    difference = ((found - expected).norm() / expected.norm()).item()
    sitting.results.add("card", measure="U-Net in float32, relative difference from the processor's", value=difference)
    if apart.abs().max() > 1e-3 or difference > 1e-2:
        print(f"{runtime.hardware()} does not compute what the processor does: believe nothing below", flush=True)
