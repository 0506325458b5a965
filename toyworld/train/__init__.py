"""Training of the embedded models on the toy world: `python -m toyworld.train vae|clip|unet --minutes M --resume`.

scenes (toyworld.data) → `loop.fit` with the model's loss → EMA weights → a Stable-Diffusion-layout folder and an open_clip folder.
"""
