"""Explorers to play with in JupyterLab; in batch each is a still picture with the usual settings."""

from synpos_lib.lab.explore.interpolation import interpolation_lab
from synpos_lib.lab.explore.latent import latent_map
from synpos_lib.lab.explore.partners import positives_browser
from synpos_lib.lab.explore.playground import loss_playground
from synpos_lib.lab.explore.rows import table_explorer

__all__ = ["interpolation_lab", "latent_map", "loss_playground", "positives_browser", "table_explorer"]
