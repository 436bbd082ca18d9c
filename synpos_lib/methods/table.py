"""Every method of the comparison by name, and the recipe that trains it.

No training depends on this file as code: the recipe that it uses is part of its configuration.
"""

from dataclasses import replace

from synpos_lib.methods import Recipe

_PLAIN = ("plain", "plain")
_RELEASED = ("clsp_simclr", "clsp_simclr")
_RELEASED_MOCO = ("clsp_moco", "clsp_moco")
_ASYMMETRIC = ("asymmetric_0", "asymmetric_1")
_SYMMETRIC = ("symmetric", "symmetric")
_VICREG = ("vicreg", "vicreg")

# The released CLSP code for SimCLR, MoCo v2 and what builds on them; solo-learn's CIFAR settings for the others, but
# for the start of the warm-up, one pixel of padding, the means and deviations of CIFAR-10, and bilinear crops.
_BASES: dict[str, Recipe] = {
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
_LAMBDA = {"mocov2": 0.5, "mocov2-ft": 0.5}  # CIFAR-10; 0.2 on CIFAR-100; else 1.0


def _methods() -> dict[str, Recipe]:
    """The methods by themselves and, but for SupCon and CL-GAN, with synthetic images in each role."""
    table = dict(_BASES)
    table["supcon"] = Recipe("supcon.SupCon", "sgd", 0.4, 256, 1e-5, _SYMMETRIC, "labels")
    table["clgan"] = Recipe("clgan.CLGAN", "adamw", 1e-3, 256, 1e-4, _RELEASED, "contrast")
    for name, recipe in _BASES.items():
        clsp = replace(recipe, role="pull", settings={"pull_weight": _LAMBDA.get(name, 1.0)})
        table[f"clsp-{name}"] = clsp
        table[f"clsp-{name}-noaug"] = replace(clsp, views=_PLAIN)
        table[f"{name}-aug"] = replace(clsp, role="third view")
        table[f"mixdiff-{name}"] = replace(recipe, role="second view", settings={"ratio": 1.0})
        table[f"synthetic-{name}"] = replace(recipe, role="both views")
        table[f"adainf-{name}"] = replace(recipe, role="unpaired")
    return table


METHODS: dict[str, Recipe] = _methods()
