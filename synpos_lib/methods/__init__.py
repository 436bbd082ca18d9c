"""The methods of the comparison, by name: the loss of each is a file here, its recipe a line of `table.py`.

    method = methods.build("clsp-simclr", encoder, width)
    total, parts = method.loss([view0, view1], positive)

Names follow the papers: `simclr`, `clsp-simclr`, `simclr-aug`, `clsp-simclr-noaug`, `mixdiff-simclr`,
`synthetic-simclr` (both views from the synthetic image), `adainf-simclr`.
"""

import importlib
import inspect
import re
from dataclasses import dataclass, field
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
        """The modules that only trainings of this kind use: the method's, and that of its role."""
        names = (self.method, _AROUND[self.role]) if self.role in _AROUND else (self.method,)
        return tuple(f"synpos_lib.methods.{name.split('.')[0]}" for name in names)

    @property
    def needs_positives(self) -> bool:
        return self.role not in ("none", "third view")

    @property
    def needs_labels(self) -> bool:
        return self.family == "labels"

    @property
    def plain_views(self) -> bool:
        """Whether leaving out all augmentation is what defines the method."""
        return self.views == ("plain", "plain")


_AROUND = {  # what a role of the synthetic images puts around a method
    "pull": "clsp.CLSP",
    "third view": "clsp.CLSP",
    "second view": "mixdiff.MixDiff",
    "unpaired": "adainf.inflate",
}


def load(name: str) -> Any:
    """What a file of this folder defines, by name: an import would make every training depend on that file."""
    module, _, thing = name.partition(".")
    return getattr(importlib.import_module(f"synpos_lib.methods.{module}"), thing)


def recipe(name: str) -> Recipe:
    """How a method is built and trained."""
    table: dict[str, Recipe] = load("table.METHODS")
    if name not in table:
        raise Problem(f"unknown method '{name}' ({suggest(name, table)})")
    return table[name]


def hyperparameters(name: str) -> dict[str, Any]:
    """Every hyperparameter of a method with its own value."""
    spec = recipe(name)
    return {**(inspect.getfullargspec(load(spec.method)).kwonlydefaults or {}), **spec.settings}


def fitted(name: str, *, width: int, images: int, batch: int, steps: int) -> dict[str, Any]:
    """Changed hyperparameters for a small encoder, few images and a short training: what the papers set for large ones.

    Heads shrink with the encoder's width, in the papers' proportion to ResNet-18's 512 features, to 128 units at the
    least. A queue of negatives holds an eighth of the images, since in a longer one an image soon meets itself; one of
    neighbours holds all. Prototypes, chosen for 50,000 images, shrink in proportion, to a batch at the least. A
    momentum network remembers a thirtieth of the training, tau = 1 - 30 / steps, where the paper's remembers more.
    """
    own = hyperparameters(name)
    changed: dict[str, Any] = {}
    for layer in ("hidden", "predictor_hidden", "out"):
        if layer in own:
            changed[layer] = min(own[layer], max(128, own[layer] * width // 512))
    if "queue_size" in own:
        share = images if recipe(name).family == "neighbours" else images // 8
        changed["queue_size"] = min(own["queue_size"], max(batch, share))
    if "prototypes" in own:
        changed["prototypes"] = min(own["prototypes"], max(batch, round(own["prototypes"] * images / 50_000)))
    if "tau" in own:
        changed["tau"] = (min(own["tau"][0], max(0.0, 1 - 30 / steps)), own["tau"][1])
    return changed


def turned(name: str, changed: dict[str, Any], knob: str, factor: float) -> dict[str, Any]:
    """Changed hyperparameters with one of them multiplied; of a momentum, what it remembers: 1 / (1 - tau)."""
    value = (hyperparameters(name) | changed)[knob]
    turn = (1 - (1 - value[0]) / factor, value[1]) if knob == "tau" else type(value)(factor * value)
    return changed | ({} if factor == 1 else {knob: turn})


def base(name: str) -> str:
    """The method itself, without what is put around it."""
    return re.sub(r"^(clsp|mixdiff|synthetic|adainf)-|-(aug|noaug)$", "", name)


def searched(name: str, kind: str = "", **sizes: int) -> tuple[float, dict[str, Any]]:
    """The learning rate and changed hyperparameters of a short training, as notebook 06b has found them; see `fitted`.

    They are those of the method with this kind of positives, else with synthetic ones, else of the method itself.
    """
    found = load("table.SEARCHED")
    rows = (f"{name} {kind}", name, name.removesuffix("-noaug"), base(name))
    rate, knob, factor = next(found[row] for row in rows if row in found)
    return rate, turned(name, fitted(name, **sizes), knob, factor)


def build(name: str, encoder: "nn.Module", width: int, **changes: Any) -> "Method | Wrapper":
    """The method around an encoder with `width` features; a hyperparameter goes to the wrapper if that has it."""
    spec, known = recipe(name), hyperparameters(name)
    for key in changes.keys() - known.keys():
        raise Problem(f"unknown hyperparameter '{key}' of {name} ({suggest(key, known)})")
    own = {key: value for key, value in changes.items() if key not in spec.settings}
    base = load(spec.method)(encoder, width, **own)
    if spec.role not in ("pull", "third view", "second view"):
        return base
    return load(_AROUND[spec.role])(base, **{key: changes.get(key, value) for key, value in spec.settings.items()})
