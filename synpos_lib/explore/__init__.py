"""Things to play with in JupyterLab; every explorer is a plain function first, and a still picture without widgets."""

from synpos_lib.explore.interpolation import interpolate, interpolation_lab

__all__ = ["interpolate", "interpolation_lab"]
