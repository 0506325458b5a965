"""Parts of a checkpoint in one file: tensors under the names of the models' first releases → models of the libraries.

UNets and autoencoders are renamed by diffusers' own converters, which look at nothing but what they are given. Nothing
is downloaded: its `from_single_file` would ask the hub for configs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from accelerate import init_empty_weights
from diffusers.loaders.single_file_utils import convert_ldm_unet_checkpoint, convert_ldm_vae_checkpoint
from torch import Tensor

from emerdiff.checkpoint import PREFIXES, read_head
from ground.weights import loading

_EMA = "model_ema."  # of a UNet's weights, the average that was kept in training
# CLIP's text tower: names in open_clip → in transformers.
_OPEN_CLIP = {
    r"^positional_embedding$": "embeddings.position_embedding.weight",
    r"^token_embedding\.": "embeddings.token_embedding.",
    r"^ln_final\.": "final_layer_norm.",
    r"^text_projection$": "text_projection.weight",
    r"^transformer\.resblocks\.": "encoder.layers.",
    r"\.ln_([12])\.": r".layer_norm\1.",
    r"\.attn\.": ".self_attn.",
    r"\.mlp\.c_fc\.": ".mlp.fc1.",
    r"\.mlp\.c_proj\.": ".mlp.fc2.",
}


def checkpoint_part(cls: Any, file: Path, configs: Path, part: str, dtype: torch.dtype) -> Any:
    """A model of class `cls`, on the CPU, in eval mode: its config from the folder `configs`, its weights from `file`.

    ValueError, in one line, unless all its tensors are there, and for a UNet with more.
    """
    with loading(f"{part} of {file}"):
        with init_empty_weights():
            model = _empty(cls, configs, part)
        tensors = _tensors(file, part, dtype)
        named = library_names(part, tensors, model.config)
    wanted = model.state_dict()
    # Releases of transformers differ in whether a text tower has this before its names.
    own = {name.removeprefix("text_model."): name for name in wanted}
    found = {own.get(name.removeprefix("text_model."), name): tensor for name, tensor in named.items()}
    if lacking := sorted(name for name in wanted if name not in found or found[name].shape != wanted[name].shape):
        raise ValueError(f"{part} needs {len(lacking)} tensors that {file} lacks, such as {lacking[0]}")
    taken = {id(found[name]) for name in wanted}
    if part == "unet" and (beyond := sorted(name for name, tensor in tensors.items() if id(tensor) not in taken)):
        raise ValueError(f"{file} has {len(beyond)} tensors that its UNet does not know, such as {beyond[0]}")
    model.load_state_dict({name: found[name] for name in wanted}, assign=True)
    return model.eval()


def library_names(part: str, tensors: dict[str, Tensor], config: Any) -> dict[str, Tensor]:
    """The tensors of a part under the names that the library's model of `config` has for them."""
    if part == "unet":
        return dict(convert_ldm_unet_checkpoint(tensors, dict(config)))
    if part == "vae":
        return dict(convert_ldm_vae_checkpoint(tensors, dict(config)))
    return _text_names(tensors)


def _empty(cls: Any, configs: Path, part: str) -> Any:
    """A model without weights, of diffusers or of transformers."""
    if part.startswith("text_encoder"):
        return cls(cls.config_class.from_pretrained(configs, subfolder=part, local_files_only=True))
    return cls.from_config(cls.load_config(configs, subfolder=part, local_files_only=True))


def _tensors(file: Path, part: str, dtype: torch.dtype) -> dict[str, Tensor]:
    """The tensors of a part by their names in the file; of a UNet the averaged ones in place of the last, if there are.

    Those are what was published as folders.
    """
    from safetensors import safe_open

    head = read_head(file)
    prefixes = tuple(PREFIXES[part])
    names = [name for name in head.shapes if name.startswith(prefixes)]
    with safe_open(file, framework="pt") as tensors:
        return {name: tensors.get_tensor(_averaged(name, head.shapes)).to(dtype) for name in names}


def _averaged(name: str, names: Mapping[str, Any]) -> str:
    """The name of a tensor's average, if there is one: that of the first releases' trainer, without dots."""
    average = _EMA + name.removeprefix("model.").replace(".", "")
    return average if average in names else name


def _text_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of transformers' names, or of open_clip's: its blocks have one matrix for queries, keys and values."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        bare = re.sub(r"^(cond_stage_model|conditioner\.embedders\.\d)\.(transformer|model)\.", "", name)
        for pattern, new in _OPEN_CLIP.items():
            bare = re.sub(pattern, new, bare)
        if bare == "text_projection.weight" and name.endswith("text_projection"):
            tensor = tensor.T.contiguous()
        named |= dict(_divided(bare, tensor))
    return named


def _divided(name: str, tensor: Tensor) -> Iterator[tuple[str, Tensor]]:
    if match := re.fullmatch(r"(.*\.)in_proj_(weight|bias)", name):
        for each, third in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{match[1]}{each}_proj.{match[2]}", third.clone()
    else:
        yield name, tensor
