"""Runs over many images: inputs → jobs → an output folder that survives kills, and new labels for it later."""
