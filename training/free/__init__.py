"""A training set whose every source may be used freely: `python -m training.free OUTPUT --packages FOLDER`.

packages → cut-outs with names (models, emoji, drawings) → scenes of noise or of photographed places → composites with
exact label maps, and the few free photographs. Nothing of it is in the repository; SOURCES.md lists what it is of.
"""
