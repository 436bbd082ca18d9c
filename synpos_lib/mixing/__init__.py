"""DiffuseMix and the augmentations it is compared with, by name.

    classify.train(folder, model, …, **mixing.by_name("cutmix", encoder=…, fractals=…, source=DiffuseMix(…)))

Each is a function of a batch, (x, y, draw) -> (x, y); DiffuseMix, which looks up the edits of its images, is a `source`
of images instead.
"""

from functools import partial
from typing import Any

from torch import Tensor, nn

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.mixing import alone, pairs
from synpos_lib.mixing.diffusemix import DiffuseMix

_MIXES: dict[str, Any] = {
    "none": None,
    "mixup": pairs.mixup,
    "cutmix": pairs.cutmix,
    "manifold mixup": pairs.manifold_mixup,
    "saliencymix": pairs.saliencymix,
    "guided-sr": pairs.guided_sr,
    "pixmix": alone.pixmix,
    "augmix": alone.augmix,
    "randaugment": alone.randaugment,
    "cutout": alone.cutout,
}
NAMES = (*_MIXES, "diffusemix", "diffusemix + cutmix")


def by_name(name: str, *, encoder: nn.Module | None, fractals: Tensor, source: DiffuseMix) -> dict[str, Any]:
    """The arguments of `classify.train` for this augmentation, which uses those of the ingredients that it needs."""
    if name not in NAMES:
        raise Problem(f"unknown augmentation '{name}' ({suggest(name, NAMES)})")
    first, last = name.split(" + ")[0], name.split(" + ")[-1]
    ingredients: dict[str, dict[str, Any]] = {"manifold mixup": {"encoder": encoder}, "pixmix": {"pictures": fractals}}
    options: dict[str, Any] = {"source": source} if first == "diffusemix" else {}
    if mix := _MIXES.get(last):
        options["mix"] = partial(mix, **ingredients.get(last, {}))
    return options
