"""The methods of the comparison, by name: the loss of each is a file here, its recipe a line of `table.py`.

    method = methods.build("clsp-simclr", encoder, width)
    total, parts = method.loss([view0, view1], positive)

Names follow the papers: `simclr`, `clsp-simclr`, `simclr-aug`, `clsp-simclr-noaug`, `mixdiff-simclr`,
`synthetic-simclr` (both views from the synthetic image), `adainf-simclr`.
"""

import importlib
import inspect
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
