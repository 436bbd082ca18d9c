"""A reproducible companion for learning representations with diffusion-made images."""

__version__ = "0.1.0"
