"""Sea creatures, each told by its outline: outline(species, x, y) is the signed distance to its edge, in pixels.

x and y are in its own frame: the middle at 0, x to the right, y down. A creature looks to the right or at the viewer.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from synpos_lib.data.drawing import disc, limb, oval, polygon, union

SPECIES = ("puffer", "eel", "ray", "seahorse", "shark", "jellyfish", "star", "crab", "squid", "turtle")
NEW_SPECIES = ("whale", "octopus", "urchin", "shell", "angelfish", "lobster", "snail")


def spokes(n: int, start: float = 0.0) -> list[tuple[float, float]]:
    """n directions around the circle, as unit vectors."""
    return [(math.cos(start + 2 * math.pi * i / n), math.sin(start + 2 * math.pi * i / n)) for i in range(n)]


def _puffer(x: Tensor, y: Tensor) -> Tensor:
    spikes = [limb(x, y, 2 + 6.5 * u, 6.5 * v, 2 + 10.8 * u, 10.8 * v, 1.6, 0.3) for u, v in spokes(11, 0.2)]
    return union(disc(x, y, 2, 0, 8.3), *spikes, polygon(x, y, (-4, 2), (-13, 5), (-13, -5), (-4, -2)))


def _eel(x: Tensor, y: Tensor) -> Tensor:
    slope = 1 + (1.66 * torch.cos(0.36 * x)) ** 2
    return torch.minimum(
        2.7 - 0.012 * (x - 2) ** 2 - (y - 4.6 * torch.sin(0.36 * x)).abs() / slope.sqrt(), 13 - x.abs()
    )


def _ray(x: Tensor, y: Tensor) -> Tensor:
    return union(polygon(x, y, (0, -9), (14, 1), (0, 7), (-14, 1)), limb(x, y, 0, 5, 2, 14, 1.2, 0.4))


def _seahorse(x: Tensor, y: Tensor) -> Tensor:
    back = [(-1, -9, 2.8), (1.5, -2, 4.2), (1.8, 4, 2.6), (-1, 10, 1.7), (-5, 11, 1.4), (-5, 7.5, 0.9)]
    spine = [limb(x, y, ax, ay, bx, by, a, b) for (ax, ay, a), (bx, by, b) in zip(back, back[1:], strict=False)]
    return union(*spine, limb(x, y, -1, -9.5, -8, -7.5, 2.0, 1.1), limb(x, y, 4, -3, 7.5, 0, 1.6, 0.8))


def _shark(x: Tensor, y: Tensor) -> Tensor:
    tail = (polygon(x, y, (-8, 0.5), (-14, -7), (-10.8, 1.2), (-8, 2)), limb(x, y, -9, 1.5, -13, 7, 1.6, 0.6))
    fins = (polygon(x, y, (-2, -8.5), (5, -1), (-3, -1)), limb(x, y, 3, 4, -1, 9, 1.8, 0.6))
    return union(oval(x, y, 2, 1, 11.5, 4.2), *tail, *fins)


def _jellyfish(x: Tensor, y: Tensor) -> Tensor:
    arms = [(-7, -8.2), (-2.4, -2.0), (2.4, 2.0), (7, 8.2)]
    return union(
        torch.minimum(oval(x, y, 0, -1, 9.5, 10), -y), *[limb(x, y, a, 0, b, 12.5, 1.25, 0.9) for a, b in arms]
    )


def _star(x: Tensor, y: Tensor) -> Tensor:
    return union(*[limb(x, y, 0, 0, 12 * u, 12 * v, 4.4, 1.2) for u, v in spokes(5, -math.pi / 2)])


def _crab(x: Tensor, y: Tensor) -> Tensor:
    x = x.abs()
    legs = [(6, 4, 13, 4.5), (6, 5, 12.5, 9), (4, 6, 8.5, 12)]
    claw = torch.minimum(disc(x, y, 10.5, -8, 3.6), -limb(x, y, 10.3, -8.5, 9, -13, 0.2, 1.7))
    arms = [limb(x, y, 6, 0, 11, -5, 1.3, 1.3), *[limb(x, y, *leg, 1.1, 0.6) for leg in legs]]
    return union(oval(x, y, 0, 2, 8.6, 5.2), claw, *arms)


def _squid(x: Tensor, y: Tensor) -> Tensor:
    arms = [(-3.6, -6.4), (-1.2, -2.0), (1.2, 2.0), (3.6, 6.4)]
    mantle = (polygon(x, y, (0, -14), (7.5, -5.5), (-7.5, -5.5)), limb(x, y, 0, -9, 0, 2, 2.6, 4.2))
    return union(*mantle, *[limb(x, y, a, 3, b, 13, 1.3, 0.7) for a, b in arms])


def _turtle(x: Tensor, y: Tensor) -> Tensor:
    side = x.abs()
    flippers = (limb(side, y, 4.5, -3, 11.5, -6, 2.2, 1.0), limb(side, y, 3.6, 7, 9, 11.5, 2.0, 0.9))
    head, tail = oval(x, y, 0, -9, 2.7, 3.2), limb(x, y, 0, 8, 0, 12, 1.0, 0.3)
    return union(oval(x, y, 0, 1.4, 6.6, 7.6), head, tail, *flippers)


def _whale(x: Tensor, y: Tensor) -> Tensor:
    flukes = (limb(x, y, -8, 1, -12.5, -4, 2.2, 1.2), limb(x, y, -12.5, -4, -14.5, -9, 1.4, 0.6))
    more = (limb(x, y, -12.5, -4, -9, -8.5, 1.4, 0.6), limb(x, y, 4, -6, 4, -12, 0.7, 0.7))
    spout = (limb(x, y, 4, -11.5, 1, -13.5, 0.7, 0.7), limb(x, y, 4, -11.5, 7, -13.5, 0.7, 0.7))
    return union(oval(x, y, 3.5, 2, 10.5, 8), *flukes, *more, *spout)


def _octopus(x: Tensor, y: Tensor) -> Tensor:
    side = x.abs()
    arms = [(4.5, 2, 9, 6), (9, 6, 13, 3.5), (3.5, 4, 6.5, 9), (6.5, 9, 10.5, 11), (1.5, 4, 2, 13)]
    return union(oval(x, y, 0, -4.5, 6.6, 8), *[limb(side, y, *arm, 1.7, 1.1) for arm in arms])


def _urchin(x: Tensor, y: Tensor) -> Tensor:
    return union(
        disc(x, y, 0, 0, 6.2), *[limb(x, y, 4 * u, 4 * v, 13.5 * u, 13.5 * v, 1.2, 0.35) for u, v in spokes(16)]
    )


def _shell(x: Tensor, y: Tensor) -> Tensor:
    ribs = [limb(x, y, 0, 9, 14 * math.sin(a), 9 - 18 * math.cos(a), 2.4, 2.7) for a in (-0.9, -0.45, 0, 0.45, 0.9)]
    return union(*ribs, polygon(x, y, (-4.5, 8), (4.5, 8), (5.5, 12), (-5.5, 12)))


def _angelfish(x: Tensor, y: Tensor) -> Tensor:
    side = y.abs()
    fins = (limb(x, side, -1, 5, -6, 13.5, 2.6, 0.7), polygon(x, y, (-5, 1.5), (-12.5, 4.5), (-12.5, -4.5), (-5, -1.5)))
    return union(polygon(x, y, (10, 0), (0.5, 9), (-7, 0), (0.5, -9)), *fins)


def _lobster(x: Tensor, y: Tensor) -> Tensor:
    side = x.abs()
    claws = (limb(side, y, 2.5, -3, 7, -6, 1.1, 1.1), oval(side, y, 7.6, -10, 2.6, 4.2))
    legs = [limb(side, y, 2, a, 7, a + 2.5, 0.9, 0.5) for a in (-1.0, 2.0)]
    tail = (polygon(x, y, (-1.8, 9), (1.8, 9), (5.5, 14), (-5.5, 14)), limb(x, y, 0, -4, 0, 10, 3.6, 1.8))
    return union(*claws, *legs, *tail, limb(side, y, 0.8, -7, 2.5, -13.5, 0.6, 0.4))


def _snail(x: Tensor, y: Tensor) -> Tensor:
    neck = (
        limb(x, y, 5, 7, 9.5, 1, 3.0, 2.6),
        limb(x, y, 9, 0, 8.5, -5.5, 0.9, 0.8),
        limb(x, y, 10, 0.5, 12.5, -4.5, 0.9, 0.8),
    )
    return union(disc(x, y, -2, -1.5, 8.4), limb(x, y, -13, 9, 6, 8, 1.4, 2.8), *neck)


Shape = Callable[[Tensor, Tensor], Tensor]
CREATURES: dict[str, tuple[Shape, list[tuple[float, float]]]] = {  # the outline, and the middles of the eyes
    "puffer": (_puffer, [(6.2, -2.6)]),
    "eel": (_eel, [(10.6, -3.2)]),
    "ray": (_ray, [(-2.2, -5.0), (2.2, -5.0)]),
    "seahorse": (_seahorse, [(-2.2, -9.6)]),
    "shark": (_shark, [(9.5, 0.0)]),
    "jellyfish": (_jellyfish, [(-3.0, -4.5), (3.0, -4.5)]),
    "star": (_star, [(-1.7, -1.0), (1.7, -1.0)]),
    "crab": (_crab, [(-2.6, 0.2), (2.6, 0.2)]),
    "squid": (_squid, [(-2.0, 0.4), (2.0, 0.4)]),
    "turtle": (_turtle, [(-1.3, -10.0), (1.3, -10.0)]),
    "whale": (_whale, [(9.0, -0.5)]),
    "octopus": (_octopus, [(-2.4, -1.5), (2.4, -1.5)]),
    "urchin": (_urchin, [(-2.0, 0.0), (2.0, 0.0)]),
    "shell": (_shell, [(-1.6, 6.5), (1.6, 6.5)]),
    "angelfish": (_angelfish, [(5.4, -1.4)]),
    "lobster": (_lobster, [(-1.4, -5.0), (1.4, -5.0)]),
    "snail": (_snail, [(8.5, -6.0), (12.5, -5.0)]),
}


def outline(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The signed distance to the edge of a species."""
    return CREATURES[name][0](x, y)


def eyes_of(name: str, x: Tensor, y: Tensor) -> Tensor:
    """The signed distance to the edge of its eyes."""
    return union(*[disc(x, y, cx, cy, 1.15) for cx, cy in CREATURES[name][1]])
