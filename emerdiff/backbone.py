"""The frozen diffusion model: weights folder → `Backbone` of its family, which encodes, denoises and decodes."""

from __future__ import annotations

import logging
from importlib import import_module
from pathlib import Path

from emerdiff.backbones.protocol import Backbone as Backbone
from emerdiff.checkpoint import configs_of
from emerdiff.layout import layout_of
from ground.device import resolve_device, resolve_dtype
from ground.turns import loaded_alone
from ground.weights import refuse_code

logger = logging.getLogger(__name__)


@loaded_alone()
def load_backbone(
    model: Path,
    *,
    decoder: Path | None = None,
    variant: str | None = None,
    layout: str | None = None,
    device: str = "auto",
    dtype: str = "auto",
) -> Backbone:
    """Backbone from a folder of diffusers or a checkpoint in one file; `device` and `dtype` as in ground.device.

    The folder's model_index.json says of which family it is; a file is read with the folder that `configs_of` finds for
    it and `layout`. `decoder` is a folder of an AutoencoderTiny that decodes in place of the VAE; `variant` names the
    weights files to prefer, such as "fp16".

    ValueError, in one line, for a folder that names code to be run, for a family that is not known, and for a part that
    is damaged or not whole.
    """
    file = model if model.is_file() else None
    folder = model if file is None else configs_of(file, layout)
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    for each in (folder, decoder):
        if each is not None:
            refuse_code(each)
    family = import_module(f"emerdiff.backbones.{layout_of(folder).family}")
    parts = import_module("emerdiff.backbones.parts").Parts(folder, decoder, variant, torch_device, torch_dtype, file)
    backbone: Backbone = family.load(parts)
    logger.info("loaded %s on %s in %s", model, torch_device, torch_dtype)
    return backbone
