"""The loss playground: 48 toy images on a circle, the library's own losses, and ways to make them collapse."""

import functools
from typing import NamedTuple

import ipywidgets as widgets
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from torch import Tensor, nn

from synpos_lib.core import runtime
from synpos_lib.evaluate import collapse
from synpos_lib.evaluate.neighbours import nearest
from synpos_lib.lab import figures
from synpos_lib.lab.explore.panel import image, panel
from synpos_lib.methods.byol import prediction_error
from synpos_lib.methods.clsp import pull
from synpos_lib.methods.simclr import nt_xent

KINDS, PLACES, EACH, WIDTH = 3, 4, 4, 8  # toy images: kinds × places × copies; numbers in an image
BASES = {"SimCLR": "contrast", "BYOL without a slow copy": "prediction", "only 'the same'": "none"}


class Toy(NamedTuple):
    """A toy training: the unit embeddings after every step, and their health."""

    z: Tensor  # (steps + 1, N, 2)
    what: Tensor  # (N,)
    where: Tensor  # (N,)
    health: dict[str, list[float]]  # after every step: spread, and the share of 5 neighbours with the same what, where


def train_toy(
    *,
    base: str = "contrast",
    temperature: float = 0.2,
    lambda_: float = 0.0,  # weight of the pull
    stop_gradient: bool = True,
    steps: int = 120,
    seed: int = 0,
) -> Toy:
    """Train a small network to embed toy images on a circle: a base loss, plus λ times the pull of a positive.

    An image is a *what* plus a louder *where* plus noise. Two views share both factors; a positive shares *what*.
    """
    n, draw = KINDS * PLACES * EACH, runtime.generator(seed, "toy")
    what, where = torch.arange(n) % KINDS, torch.arange(n) // KINDS % PLACES

    def noise(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw)

    kinds, places = noise(KINDS, WIDTH), 1.5 * noise(PLACES, WIDTH)
    with runtime.own_randomness(seed):  # the networks' first weights
        encoder, predictor = (nn.Sequential(nn.Linear(d, 32), nn.ReLU(), nn.Linear(32, 2)) for d in (WIDTH, 2))
    optimizer = torch.optim.Adam([*encoder.parameters(), *predictor.parameters()], lr=0.05)
    x = kinds[what] + places[where] + 0.2 * noise(n, WIDTH)
    z = [F.normalize(encoder(x), dim=1).detach()]
    for _ in range(steps):
        z0, z1 = (encoder(x + 0.3 * noise(n, WIDTH)) for _ in range(2))
        elsewhere = places[torch.randint(PLACES, (n,), generator=draw)]
        positive = encoder(kinds[what] + elsewhere + 0.2 * noise(n, WIDTH))
        if base == "contrast":
            loss = nt_xent(z0, z1, temperature=temperature)
        elif base == "prediction":
            same = prediction_error if stop_gradient else pull  # the same number; only the first one detaches
            loss = same(predictor(z0), z1) + same(predictor(z1), z0)
        else:
            loss = pull(z0, z1)
        loss = loss + lambda_ * pull(z0, positive)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        z.append(F.normalize(encoder(x), dim=1).detach())
    rows = {"spread": [collapse.feature_std(now) for now in z]}
    for factor, labels in {"what": what, "where": where}.items():
        rows[factor] = [(labels[nearest(now, 5)] == labels[:, None]).double().mean().item() for now in z]
    return Toy(torch.stack(z), what, where, rows)


def picture(toy: Toy, step: int) -> Figure:
    """Left the circle after `step` steps, one colour per what, one ring per where; right the health of all steps."""
    figure, (circle, curves) = figures.plt.subplots(1, 2, figsize=(9, 3.6), width_ratios=[1, 1.3], layout="none")
    figure.subplots_adjust(left=0.02, right=0.94, bottom=0.14, top=0.88, wspace=0.15)  # quicker than a computed layout
    for kind in range(KINDS):
        part = toy.what == kind
        spots = toy.z[step][part] * (1 + 0.13 * toy.where[part, None])
        circle.scatter(*spots.T, s=45, color=figures.TEN[kind], edgecolors="white", linewidths=0.5)
    for place in range(PLACES):
        circle.add_patch(figures.plt.Circle((0, 0), 1 + 0.13 * place, fill=False, color="#dddddd", zorder=0))
    circle.set(xlim=(-1.6, 1.6), ylim=(-1.6, 1.6), xticks=[], yticks=[], aspect="equal", title=f"after {step} steps")
    circle.spines[:].set_visible(False)
    names = {"spread": "spread (0: one point)", "what": "same what nearby", "where": "same where nearby"}
    for key, colour in {"spread": figures.NEUTRAL, **figures.FACTORS}.items():
        curves.plot(toy.health[key], color=colour, label=names[key])
    curves.axvline(step, color="#333333", linewidth=1)
    figures.chance(curves, 1 / KINDS)
    curves.set(xlabel="step", ylim=(-0.03, 1.1))
    curves.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3, fontsize=9, columnspacing=1)
    return figure


def loss_playground(steps: int = 120) -> widgets.VBox | None:
    """Choose the loss in JupyterLab, then move `step` to watch; in batch SimCLR with λ = 1, after all steps."""
    train = functools.cache(functools.partial(train_toy, steps=steps))

    def draw(step: int = steps, lambda_: float = 1.0, **settings: object) -> str:
        toy = train(lambda_=lambda_, **settings)
        now = {name: values[step] for name, values in toy.health.items()}
        text = f"spread {now['spread']:.2f}, neighbours share what in {now['what']:.0%}, where in {now['where']:.0%}"
        end = "It has collapsed: every image is at the same point." if now["spread"] < 0.1 else ""
        head = "<p>One colour per <i>what</i>, one ring per <i>where</i>.</p>"
        return head + image(picture(toy, step), f"Toy embedding after {step} steps: {text}") + f"<p>{text}. {end}</p>"

    box = panel(
        "playground",
        draw,
        lambda: {
            "base": widgets.Dropdown(options=BASES, value="contrast"),
            "temperature": widgets.FloatLogSlider(0.2, min=-2, max=0.5, step=0.1),
            "lambda_": widgets.FloatSlider(1.0, min=0, max=10, step=0.5, description="λ of the pull"),
            "stop_gradient": widgets.Checkbox(True, description="stop-gradient (prediction)"),
            "seed": widgets.IntSlider(0, 0, 9),
            "step": widgets.IntSlider(steps, 0, steps),
        },
        live=["step"],
    )
    if box:
        play = widgets.Play(value=steps, min=0, max=steps, step=3, interval=200, description="watch")
        widgets.jslink((play, "value"), (box.children[0].children[-1], "value"))
        box.children = (*box.children, play)
    return box
