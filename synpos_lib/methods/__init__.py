"""Every method of the comparison, by name: what it is, and the recipe that trains it.

    method = methods.build("clsp-simclr", encoder, width)
    total, parts = method.loss([view0, view1], positive)

Names follow the papers: `simclr`, `clsp-simclr`, `simclr-aug`, `clsp-simclr-noaug`, `mixdiff-simclr`,
`synthetic-simclr` (both views from the synthetic image), `adainf-simclr`.
"""

import importlib
import inspect
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from synpos_lib.core.errors import Problem, suggest

if TYPE_CHECKING:  # names need no torch
    from torch import nn

    from synpos_lib.methods.parts import Method, Wrapper


@dataclass(frozen=True)
class Recipe:
    """How a method is built and trained; learning rates hold for the batch size named beside them."""

    method: str  # file and class
    optimizer: str  # sgd, lars or adamw
    learning_rate: float
    batch: int
    weight_decay: float
    views: tuple[str, str]  # the augmentations of the two views, by their name in `data.views`
    family: str  # what it compares an image with: contrast, prediction, clusters, decorrelation, neighbours, labels
    role: str = "none"  # of the synthetic images: none, pull, third view, second view, both views, unpaired
    settings: dict[str, Any] = field(default_factory=dict)  # hyperparameters of the wrapper

    @property
    def modules(self) -> tuple[str, ...]:
        """The files that only trainings of this kind run: the method's, and what its role puts around it."""
        names = (self.method, *filter(None, [_AROUND.get(self.role)]))
        return tuple(f"synpos_lib.methods.{name.split('.')[0]}" for name in names)

    @property
    def module(self) -> str:
        return f"synpos_lib.methods.{self.method.split('.')[0]}"

    @property
    def base(self) -> type:
        """The class of the method itself, without a wrapper."""
        return getattr(importlib.import_module(self.module), self.method.split(".")[1])

    @property
    def needs_positives(self) -> bool:
        return self.role not in ("none", "third view")

    @property
    def needs_labels(self) -> bool:
        return self.family == "labels"

    @property
    def plain_views(self) -> bool:
        """Whether leaving out all augmentation is what defines the method."""
        return self.views == _PLAIN


_PLAIN = ("plain", "plain")
_RELEASED = ("clsp_simclr", "clsp_simclr")
_RELEASED_MOCO = ("clsp_moco", "clsp_moco")
_ASYMMETRIC = ("asymmetric_0", "asymmetric_1")
_SYMMETRIC = ("symmetric", "symmetric")
_VICREG = ("vicreg", "vicreg")

# The released CLSP code for SimCLR, MoCo v2 and what builds on them; solo-learn's CIFAR settings for the others, but
# for the start of the warm-up, one pixel of padding, the means and deviations of CIFAR-10, and bilinear crops.
_BASES = {
    "simclr": Recipe("simclr.SimCLR", "sgd", 0.5, 1024, 1e-4, _RELEASED, "contrast"),
    "mocov2": Recipe("moco_v2.MoCoV2", "sgd", 0.3, 512, 1e-4, _RELEASED_MOCO, "contrast"),
    "mocov3": Recipe("moco_v3.MoCoV3", "lars", 0.3, 256, 1e-6, _ASYMMETRIC, "contrast"),
    "byol": Recipe("byol.BYOL", "lars", 1.0, 256, 1e-5, _ASYMMETRIC, "prediction"),
    "dino": Recipe("dino.DINO", "lars", 0.3, 256, 1e-6, _ASYMMETRIC, "clusters"),
    "swav": Recipe("swav.SwAV", "lars", 0.6, 256, 1e-6, _SYMMETRIC, "clusters"),
    "barlow": Recipe("barlow_twins.BarlowTwins", "lars", 0.3, 256, 1e-4, _ASYMMETRIC, "decorrelation"),
    "vicreg": Recipe("vicreg.VICReg", "lars", 0.3, 256, 1e-4, _VICREG, "decorrelation"),
    "vibcreg": Recipe("vibcreg.VIbCReg", "lars", 0.3, 256, 1e-4, _VICREG, "decorrelation"),
    "nnclr": Recipe("nnclr.NNCLR", "lars", 0.4, 256, 1e-5, _ASYMMETRIC, "neighbours"),
    "all4one": Recipe("all4one.All4One", "lars", 1.0, 256, 1e-5, _ASYMMETRIC, "neighbours"),
    "dcl": Recipe("dcl.DCL", "sgd", 0.5, 1024, 1e-4, _RELEASED, "contrast"),
    "simclr-ft": Recipe("feature_transformation.SimCLRFT", "sgd", 0.5, 1024, 1e-4, _RELEASED, "contrast"),
    "mocov2-ft": Recipe("feature_transformation.MoCoV2FT", "sgd", 0.3, 512, 1e-4, _RELEASED_MOCO, "contrast"),
}
_PULL = {"pull_weight": 1.0, "phase_in": (0.0, 0.0), "positive_batchnorm": "shared"}
_LAMBDA = {"mocov2": 0.5, "mocov2-ft": 0.5}  # CIFAR-10; 0.2 on CIFAR-100; else 1.0


def _methods() -> dict[str, Recipe]:
    table = dict(_BASES)
    table["supcon"] = Recipe("supcon.SupCon", "sgd", 0.4, 256, 1e-5, _SYMMETRIC, "labels")
    table["clgan"] = Recipe("clgan.CLGAN", "adamw", 1e-3, 256, 1e-4, _RELEASED, "contrast")
    for name, recipe in _BASES.items():
        clsp = replace(recipe, role="pull", settings=_PULL | {"pull_weight": _LAMBDA.get(name, 1.0)})
        table[f"clsp-{name}"] = clsp
        table[f"clsp-{name}-noaug"] = replace(clsp, views=_PLAIN)
        table[f"{name}-aug"] = replace(clsp, role="third view")
        table[f"mixdiff-{name}"] = replace(recipe, role="second view", settings={"ratio": 1.0})
        table[f"synthetic-{name}"] = replace(recipe, role="both views")
        table[f"adainf-{name}"] = replace(recipe, role="unpaired")
    return table


METHODS: dict[str, Recipe] = _methods()
_AROUND = {
    "pull": "clsp.CLSP",
    "third view": "clsp.CLSP",
    "second view": "mixdiff.MixDiff",
    "unpaired": "adainf.inflate",
}


def load(name: str) -> Any:
    """A class or function of a method's file by its name: an import would make every training depend on that file."""
    module, _, thing = name.partition(".")
    return getattr(importlib.import_module(f"synpos_lib.methods.{module}"), thing)


def recipe(name: str) -> Recipe:
    """How a method is built and trained."""
    if name not in METHODS:
        raise Problem(f"unknown method '{name}' ({suggest(name, METHODS)})")
    return METHODS[name]


def hyperparameters(name: str) -> dict[str, Any]:
    """Every hyperparameter of a method with the value that is its own."""
    spec = recipe(name)
    return {**(inspect.getfullargspec(spec.base).kwonlydefaults or {}), **spec.settings}


def fitted(name: str, *, images: int, batch: int) -> dict[str, Any]:
    """Hyperparameters for a training of a few hundred steps on few images.

    Queues hold four batches: what is older is stale in a network that changes fast, and in a small data set a long
    queue holds every image as a negative of itself. Prototypes, which the papers chose for 50,000 images, shrink in
    proportion, to a batch at the least. A pull is phased in, since the first steps decide whether so short a training
    gets under way at all (methods/clsp.py), and then has weight 1 around every method, MoCo too.
    """
    own = hyperparameters(name)
    changed: dict[str, Any] = {}
    if "queue_size" in own:
        changed["queue_size"] = min(own["queue_size"], 4 * batch)
    if "prototypes" in own:
        changed["prototypes"] = min(own["prototypes"], max(batch, round(own["prototypes"] * images / 50_000)))
    if "phase_in" in own:
        changed |= {"pull_weight": 1.0, "phase_in": (0.2, 0.5)}
    return changed


def build(name: str, encoder: "nn.Module", width: int, **changes: Any) -> "Method | Wrapper":
    """The method around an encoder with `width` features; a hyperparameter goes to the wrapper if that has it."""
    spec, known = recipe(name), hyperparameters(name)
    for key in changes.keys() - known.keys():
        raise Problem(f"unknown hyperparameter '{key}' of {name} ({suggest(key, known)})")
    base = spec.base(encoder, width, **{key: value for key, value in changes.items() if key not in spec.settings})
    settings = {key: changes.get(key, value) for key, value in spec.settings.items()}
    if spec.role in ("pull", "third view"):
        return load("clsp.CLSP")(base, **settings)
    if spec.role == "second view":
        return load("mixdiff.MixDiff")(base, **settings)
    return base
