"""A procedural picture-book world with exact ground truth: `scene(seed)` draws it, `training` learns from it."""

from toyworld.scene import Scene, scene
from toyworld.vocabulary import HELD_OUT, KINDS, SYNONYMS

__all__ = ["HELD_OUT", "KINDS", "SYNONYMS", "Scene", "scene"]
