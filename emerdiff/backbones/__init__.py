"""Backbones: what the method asks of a diffusion model (`protocol`), and one file for each family of models."""
