"""Training of the embedded models, on the toy world or photographs: `python -m toyworld.train MODEL --minutes M`.

scenes (toyworld.data) → `loop.fit` with the model's loss → averaged weights → folders as diffusers and open_clip
lay them out.
"""
