"""The diffusion model: its network, training and sampling, and the generators that make images with it."""
