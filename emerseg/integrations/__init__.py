"""Annotation tools that call the segmenter: `cvat`, `fiftyone` and `labelstudio`, each with an extra of its name.

Each file imports its tool's packages; this one imports nothing.
"""
