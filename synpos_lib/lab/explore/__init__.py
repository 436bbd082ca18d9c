"""Things to play with in JupyterLab; every explorer is a plain function first, and a still picture without widgets."""

from synpos_lib.lab.explore.interpolation import interpolate, interpolation_lab
from synpos_lib.lab.explore.latent import latent_map, map_features
from synpos_lib.lab.explore.partners import partners_of, positives_browser
from synpos_lib.lab.explore.playground import loss_playground, train_toy
from synpos_lib.lab.explore.rows import compare_rows, select_rows, table_explorer

__all__ = [
    "compare_rows",
    "interpolate",
    "interpolation_lab",
    "latent_map",
    "loss_playground",
    "map_features",
    "partners_of",
    "positives_browser",
    "select_rows",
    "table_explorer",
    "train_toy",
]
