"""Settings for a short training of a small encoder on few images, with AdamW: sizes by a rule, the rest by a search.

    rate, hyperparameters = short.settings("clsp-simclr", width=64, images=1500, batch=64, steps=900)

No training depends on this file as code: the values that it gives are part of the training's configuration.
"""

import re
from typing import Any

from synpos_lib.methods import hyperparameters, recipe

# What notebook 06b has chosen: the learning rate, the knob, and the factor on it as `sizes` leaves it; see `turn`.
CHOICES: dict[str, tuple[float, str, float]] = {
    "simclr": (0.008, "temperature", 1.0),
    "mocov2": (0.0005, "temperature", 1.0),
    "mocov3": (0.002, "temperature", 1.0),
    "byol": (0.008, "tau", 0.5),
    "dino": (0.008, "tau_t", 1.0),
    "swav": (0.008, "temperature", 1.0),
    "barlow": (0.032, "lambda_", 0.5),
    "vicreg": (0.002, "cov_weight", 2.0),
    "vibcreg": (0.032, "cov_weight", 2.0),
    "nnclr": (0.008, "temperature", 0.5),
    "all4one": (0.032, "temperature", 2.0),
    "dcl": (0.032, "temperature", 1.0),
    "simclr-ft": (0.008, "temperature", 1.0),
    "mocov2-ft": (0.128, "temperature", 2.0),
    "supcon": (0.008, "temperature", 1.0),
    "clgan": (0.128, "temperature", 1.0),
    "adainf-simclr": (0.032, "temperature", 0.5),
    "clsp-simclr": (0.032, "temperature", 1.0),
    "clsp-mocov2": (0.032, "temperature", 1.0),
}


def sizes(name: str, *, width: int, images: int, batch: int, steps: int) -> dict[str, Any]:
    """The hyperparameters that the papers set for a large encoder, many images or a long training, in proportion.

    Heads shrink with the encoder's width, in the papers' proportion to ResNet-18's 512 features, to 128 units at the
    least. A queue of negatives holds a sixteenth of the images, since in a longer one an image soon meets itself; one
    that balances the codes of clusters holds an eighth, and one of neighbours all. Prototypes, chosen for 50,000
    images, shrink in proportion, to a batch at the least. A momentum network begins by remembering a thirtieth of the
    training, tau = 1 - 30 / steps, where the paper's remembers more. The shares of the queues come from a dozen tries
    before the search, with MoCo v2, NNCLR and SwAV, on its validation images: these three had more tries than others.
    """
    own = hyperparameters(name)
    changes: dict[str, Any] = {}
    for layer in ("hidden", "predictor_hidden", "out"):
        if layer in own:
            changes[layer] = min(own[layer], max(128, own[layer] * width // 512))
    if "queue_size" in own:
        part = {"neighbours": 1, "clusters": 8}.get(recipe(name).family, 16)
        changes["queue_size"] = min(own["queue_size"], max(batch, images // part))
    if "prototypes" in own:
        changes["prototypes"] = min(own["prototypes"], max(batch, round(own["prototypes"] * images / 50_000)))
    if "tau" in own:
        changes["tau"] = (min(own["tau"][0], max(0.0, 1 - 30 / steps)), own["tau"][1])
    return changes


def turn(name: str, changes: dict[str, Any], knob: str, factor: float) -> dict[str, Any]:
    """The changes, with the knob multiplied by the factor; of a momentum, its memory 1 / (1 - tau) is multiplied."""
    value = (hyperparameters(name) | changes)[knob]
    if knob == "tau":
        product: Any = (max(0.0, 1 - (1 - value[0]) / factor), value[1])
    else:
        product = type(value)(factor * value)
    return changes | ({} if factor == 1 else {knob: product})


def inner(name: str) -> str:
    """The method itself, without what is put around it."""
    return re.sub(r"^(clsp|mixdiff|synthetic|adainf)-|-(aug|noaug)$", "", name)


def settings(name: str, *, width: int, images: int, batch: int, steps: int) -> tuple[float, dict[str, Any]]:
    """The learning rate and the changes to the hyperparameters; see `sizes` for what they follow from.

    Around one method, all that pull a third image towards the anchor share a row, if the search has one for it; what
    has no row trains as the method inside.
    """
    changes = sizes(name, width=width, images=images, batch=batch, steps=steps)
    pulls = recipe(name).role in ("pull", "third view")
    rows = (f"clsp-{inner(name)}" if pulls else name, inner(name))
    rate, knob, factor = next(CHOICES[row] for row in rows if row in CHOICES)
    return rate, turn(name, changes, knob, factor)
