"""Presets and the frozen models that they name: settings → loaded models → a segmenter for one image."""
