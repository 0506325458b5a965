"""Training of the embedded models, on the toy world or photographs: `python -m training MODEL --minutes M`.

scenes (training.data) → `loop.fit` with the model's loss → averaged weights → folders as diffusers and open_clip
lay them out.
"""
