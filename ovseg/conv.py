"""Dense image embeddings of a convolutional tower: a feature map → an embedding per location, in the text's space.

Such a tower ends in: feature map (C, h, w) → mean over locations → head. Here the head takes each location as if it
were the whole map, as MaskCLIP does with CLIP's ResNets, where it leaves out the attention pooling. Where what follows
the mean is linear (EfficientNet, ResNet), pooling and head change places exactly: the mean of the dense embeddings,
before they are normalised, is the image embedding. A LayerNorm or an MLP after the mean (ConvNeXt) breaks that
identity; a norm per location is then what the field does (FC-CLIP, Yu et al., NeurIPS 2023), and it is exact where all
locations of the map agree.

The map can be made finer without other weights: where a stride is left out, and what follows is dilated by it, each
location sees what it saw, and there are new ones between them (à trous, Chen et al., ICLR 2015).
"""

from __future__ import annotations

from typing import Any

import torch
from timm.layers import SelectAdaptivePool2d
from torch import Tensor, nn

Tower = Any  # open_clip.timm_model.TimmModel; untyped there, and imported by backbone.py alone

VARIANT = "maskclip"  # the one that fits such a tower
_FINER = "finer_stride"  # the attribute of a tower whose feature map was made finer
_PROBE = 4  # locations along the side of the image by which a tower is looked through
_AVERAGES = ("avg", "fast", "fastavg")  # timm's names of the mean over locations


def averages_locations(visual: Tower) -> bool:
    """Whether `visual`, a TimmModel, takes the mean over its feature map's locations; a timm ViT, say, does not."""
    pools = [module for module in visual.trunk.modules() if isinstance(module, SelectAdaptivePool2d)]
    return len(pools) == 1 and pools[0].pool_type in _AVERAGES


def location_hw(visual: Tower) -> tuple[int, int]:
    """Height and width of the pixels per location of the feature map: the tower's stride."""
    stride = getattr(visual, _FINER, visual.trunk.feature_info[-1]["reduction"])
    return stride, stride


def make_finer(visual: Tower, stride: int) -> None:
    """Give `visual`, in place, a feature map with a location per `stride` px, by dilations instead of its last strides.

    Every location of the map of before is one of the new map, with the same features. ValueError if `stride` is no
    whole fraction of the tower's own, or where anything but convolutions of odd kernels reduces the map there.
    """
    own, _ = location_hw(visual)
    if stride < 1 or own % stride:
        raise ValueError(f"ovseg.output_stride is {stride}, expected a whole fraction of the tower's stride, {own}")
    for module, before, after in _reductions(visual.trunk, _PROBE * own):
        if after <= stride:
            continue
        even = isinstance(module, nn.Conv2d) and any(side % 2 == 0 for side in module.kernel_size)
        if not isinstance(module, nn.Conv2d) or even:
            if before == after:
                continue
            raise ValueError(
                f"ovseg.output_stride is {stride}, expected null for a tower whose map {type(module).__name__} reduces"
            )
        dilation = max(before // stride, 1)
        if module.padding != (0, 0):  # else there is nothing to pad, or the module pads by stride and dilation itself
            module.padding = (dilation * int(module.padding[0]), dilation * int(module.padding[1]))
        module.stride, module.dilation = (1, 1), (dilation * module.dilation[0], dilation * module.dilation[1])
    setattr(visual, _FINER, stride)


@torch.no_grad()
def _reductions(trunk: Any, side: int) -> list[tuple[nn.Module, int, int]]:
    """(module, px per location of its input, and of its output) of all that takes and gives feature maps, in order."""
    found = []

    def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        shapes = [tensor.shape for tensor in (args[0], output) if isinstance(tensor, Tensor) and tensor.ndim == 4]
        if len(shapes) == 2 and min(shape[-1] for shape in shapes) > 1:
            before, after = (side // shape[-1] for shape in shapes)
            found.append((module, before, after))

    leaves = [module for module in trunk.modules() if not any(module.children())]
    handles = [module.register_forward_hook(note) for module in leaves]
    learning = trunk.training
    trunk.eval()  # else norms would learn from the image that it is probed with
    try:
        some = next(trunk.parameters())
        trunk.forward_features(torch.zeros(1, 3, side, side, device=some.device, dtype=some.dtype))
    finally:
        trunk.train(learning)
        for handle in handles:
            handle.remove()
    return found


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
