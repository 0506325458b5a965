"""Dense image embeddings of a convolutional tower: a feature map → an embedding per location, in the text's space.

Such a tower ends in: feature map (C, h, w) → mean over locations → head. Here the head takes each location as if it
were the whole map, as MaskCLIP does with CLIP's ResNets, where it leaves out the attention pooling. Where what follows
the mean is linear (EfficientNet, ResNet), pooling and head change places exactly: the mean of the dense embeddings,
before they are normalised, is the image embedding. A LayerNorm or an MLP after the mean (ConvNeXt) breaks that
identity; a norm per location is then what the field does (FC-CLIP, Yu et al., NeurIPS 2023), and it is exact where all
locations of the map agree.
"""

from __future__ import annotations

from typing import Any

from timm.layers import SelectAdaptivePool2d
from torch import Tensor

Tower = Any  # open_clip.timm_model.TimmModel; untyped there, and imported by backbone.py alone

VARIANT = "maskclip"  # the one that fits such a tower
_AVERAGES = ("avg", "fast", "fastavg")  # timm's names of the mean over locations


def averages_locations(visual: Tower) -> bool:
    """Whether `visual`, a TimmModel, takes the mean over its feature map's locations; a timm ViT, say, does not."""
    pools = [module for module in visual.trunk.modules() if isinstance(module, SelectAdaptivePool2d)]
    return len(pools) == 1 and pools[0].pool_type in _AVERAGES


def location_hw(visual: Tower) -> tuple[int, int]:
    """Height and width of the pixels per location of the feature map: the tower's stride."""
    stride = visual.trunk.feature_info[-1]["reduction"]
    return stride, stride


def dense_locations(visual: Tower, pixels: Tensor) -> Tensor:
    """(B, C, h, w) embeddings of all locations, not normalised.

    `visual` averages its locations (see above); `pixels` (B, 3, h stride, w stride) are normalised, of the tower's
    device and dtype.
    """
    features = visual.trunk.forward_features(pixels)  # B x D x h x w
    batch, _, height, width = features.shape
    locations = features.permute(0, 2, 3, 1).reshape(batch * height * width, -1, 1, 1)  # each a map of its own
    embeddings = visual.head(visual.trunk.forward_head(locations))  # (B h w) x C
    return embeddings.unflatten(0, (batch, height, width)).permute(0, 3, 1, 2)
