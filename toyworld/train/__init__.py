"""Training of the embedded models, on the toy world or on photographs: `python -m toyworld.train vae|clip|unet|photo-clip`.

scenes (toyworld.data) → `loop.fit` with the model's loss → averaged weights → folders as diffusers and open_clip
lay them out.
"""
