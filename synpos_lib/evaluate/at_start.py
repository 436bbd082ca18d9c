"""A method before its first step: its loss on one batch, and its parts."""

import torch
from torch import Tensor

from synpos_lib import methods
from synpos_lib.core import runtime
from synpos_lib.methods.parts import Queue
from synpos_lib.train import encoders


def at_start(name: str, pair: list[Tensor], labels: Tensor, *, seed: int = 0) -> dict:
    """A row with an untrained method's parts, and its loss on two views of a batch and on pairs of strangers."""
    runtime.seed_all(seed)
    recipe = methods.recipe(name)
    method = methods.build(name, *encoders.by_name("small"))

    def loss(pair: list[Tensor]) -> float:
        with runtime.own_randomness(0), torch.no_grad():  # the same random numbers each time
            return method.loss(pair, *((None, labels) if recipe.needs_labels else ()))[0].item()

    weights = [p for part, p in method.named_parameters() if p.requires_grad and not part.startswith("encoder.")]
    return {
        "method": name,
        "family": recipe.family,
        "loss": loss(pair),
        "with strangers": loss([pair[0], pair[1].roll(1, 0)]),
        "weights, millions": sum(p.numel() for p in weights) / 1e6,  # without the encoder's
        "negatives": recipe.family in ("contrast", "neighbours", "labels"),
        "slow copy": method.target_encoder is not None,
        "queue": sum(part.keys.shape[0] for part in method.modules() if isinstance(part, Queue)),
        "labels": recipe.needs_labels,
    }
