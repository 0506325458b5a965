"""The step's choices as Enums; light, so that a command line can offer them."""

from __future__ import annotations

from ground.choices import Choice


class DenseVariant(Choice):
    """What stands in for the last block of a ViT: the keys of `variants.DENSE`. Other towers have maskclip alone."""

    CLIP = "clip"  # the block as trained
    MASKCLIP = "maskclip"  # each token attends to itself alone
    SCLIP = "sclip"  # to tokens with similar queries, and with similar keys; residual and MLP stay
    CLEARCLIP = "clearclip"  # to tokens with similar queries
    NACLIP = "naclip"  # to tokens with similar keys, neighbours first


class Scope(Choice):
    """Which patches attend to each other in the block that a dense variant puts in the last one's place."""

    NONE = "none"  # all of them
    MASKS = "masks"  # those of one mask


class Refinement(Choice):
    """What carries the logits of patches to a finer grid."""

    NONE = "none"
    AFFINITY = "affinity"  # of positions in the diffusion model


class SynonymRule(Choice):
    """How the names of a label become one."""

    MEAN = "mean"  # of their text embeddings
    MAX = "max"  # each patch takes the name that is nearest to it
