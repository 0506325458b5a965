"""The step's choices as Enums; light, so that a command line can offer them."""

from __future__ import annotations

from ground.choices import Choice


class DenseVariant(Choice):
    """What stands in for the last block of a ViT: the keys of `dense.DENSE`. A convolutional net has maskclip alone."""

    CLIP = "clip"  # the block as trained
    MASKCLIP = "maskclip"  # each token attends to itself alone
