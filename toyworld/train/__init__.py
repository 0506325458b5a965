"""Training of the embedded models on the toy world: `python -m toyworld.train vae|clip|unet --minutes M --resume`.

scenes (toyworld.data) → `loop.fit` with the model's loss → averaged weights → folders as diffusers and open_clip
lay them out.
"""
