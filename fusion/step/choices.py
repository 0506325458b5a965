"""The choices of a run as Enums; light, so that a command line can offer them."""

from __future__ import annotations

from ground.choices import Choice


class FuseRule(Choice):
    """How a mask gets its label; the functions are in pipeline.py."""

    OVERLAP = "overlap"  # most of its pixels: the user's
    EMBEDDING = "embedding"  # nearest to its mean embedding: the paper's
    AUTO = "auto"  # overlap where that is clear; else its pixels decide, each by its own scores and the mask's vote


# CLIP alone keeps its own labels.
CLIP_ALONE_RULE = FuseRule.OVERLAP


class MaskSource(Choice):
    """Where masks come from."""

    EMERDIFF = "emerdiff"
    NAIVE = "naive"  # the clusters alone, upsampled
    SLIC = "slic"  # a control: as many superpixels as there would be clusters
    GRID = "grid"  # a control: as many cells
    NONE = "none"  # CLIP alone: each label's region of the coarse map is a mask

    @property
    def needs_diffusion(self) -> bool:
        """Whether the diffusion model makes these masks."""
        return self in (MaskSource.EMERDIFF, MaskSource.NAIVE)


class SegmentationStyle(Choice):
    """How instances.json says where a segment is."""

    RLE = "rle"
    POLYGON = "polygon"  # along the sides of pixels: exact for pycocotools
    POLYGON_CENTERS = "polygon-centers"  # through their centres: exact for OpenCV, and what fills by it


class Protocol(Choice):
    """What an evaluation measures."""

    OPEN = "open"  # labels in, mIoU out
    BOUND = "bound"  # the quality of the masks alone
    MODIFIED = "modified"  # masks take the nearest of the classes' mean features, which the truth gives
    TRADITIONAL = "traditional"  # masks' features are clustered, and the clusters matched with classes
