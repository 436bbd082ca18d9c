"""DiffuseMix and the augmentations it is compared with, by name.

    classify.train(folder, model, …, **mixing.by_name("cutmix"))
    classify.train(folder, model, …, **mixing.by_name("diffusemix", source=DiffuseMix(…)))

Each is a function of a batch, (x, y, draw) -> (x, y); DiffuseMix must know which images it mixes, and is a `source`.
"""

from functools import partial

from torch import Tensor, nn

from synpos_lib.core.errors import Problem, suggest
from synpos_lib.mixing import alone, pairs
from synpos_lib.mixing.diffusemix import DiffuseMix

NAMES = (
    "none",
    "mixup",
    "cutmix",
    "manifold mixup",
    "saliencymix",
    "guided-sr",
    "pixmix",
    "augmix",
    "randaugment",
    "cutout",
    "diffusemix",
    "diffusemix + cutmix",
)
_MIXES = {
    "mixup": pairs.mixup,
    "cutmix": pairs.cutmix,
    "saliencymix": pairs.saliencymix,
    "guided-sr": pairs.guided_sr,
    "augmix": alone.augmix,
    "randaugment": alone.randaugment,
    "cutout": alone.cutout,
}


def by_name(name: str, *, encoder: nn.Module, fractals: Tensor, source: DiffuseMix) -> dict:
    """What `classify.train` is given for this augmentation; each takes of the ingredients what it needs."""
    if name not in NAMES:
        raise Problem(f"unknown augmentation '{name}' ({suggest(name, NAMES)})")
    words = name.split(" + ")
    how: dict = {"source": source} if "diffusemix" in words else {}
    if words[-1] == "manifold mixup":
        how["mix"] = partial(pairs.manifold_mixup, encoder=encoder)
    elif words[-1] == "pixmix":
        how["mix"] = partial(alone.pixmix, pictures=fractals)
    elif words[-1] in _MIXES:
        how["mix"] = _MIXES[words[-1]]
    return how
