"""The frozen diffusion model: weights folder → `Backbone` of its family, which encodes, denoises and decodes."""

from __future__ import annotations

import json
import logging
from importlib import import_module
from pathlib import Path

from emerdiff.backbones.protocol import Backbone as Backbone
from ground.device import resolve_device, resolve_dtype
from ground.turns import loaded_alone
from ground.weights import loading, refuse_code

logger = logging.getLogger(__name__)

# The class of a folder's denoiser, and the file of `backbones` that loads it.
FAMILIES = {
    "UNet2DConditionModel": "unet",
}


@loaded_alone()
def load_backbone(folder: Path, *, decoder: Path | None = None, device: str = "auto", dtype: str = "auto") -> Backbone:
    """Backbone from a folder of diffusers; `device` and `dtype` as in ground.device.

    The folder's model_index.json says of which family it is. `decoder` is a folder of an AutoencoderTiny that decodes
    in place of the VAE.

    ValueError, in one line, for a folder that names code to be run, for a family that is not known, and for a part that
    is damaged or not whole.
    """
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    for each in (folder, decoder):
        if each is not None:
            refuse_code(each)
    family = import_module(f"emerdiff.backbones.{family_of(folder)}")
    parts = import_module("emerdiff.backbones.parts").Parts(folder, decoder, torch_device, torch_dtype)
    backbone: Backbone = family.load(parts)
    logger.info("loaded %s on %s in %s", folder, torch_device, torch_dtype)
    return backbone


def family_of(folder: Path) -> str:
    """The file of `backbones` for a folder, by the class of its denoiser in model_index.json; ValueError if none is."""
    index = folder / "model_index.json"
    if not index.is_file():
        return FAMILIES["UNet2DConditionModel"]
    with loading(str(index)):
        parts = json.loads(index.read_text(encoding="utf-8"))
        library, denoiser = parts.get("transformer") or parts["unet"]
    if denoiser not in FAMILIES:
        raise ValueError(f"{index} has a {library} {denoiser}, expected one of {', '.join(FAMILIES)}")
    return FAMILIES[denoiser]
