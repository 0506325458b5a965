"""The frozen CLIP: config → weights on disk → `Backbone`, which embeds prompts and pixels as unit vectors.

The only file that imports open_clip.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from open_clip.hf_model import HFTextEncoder
from open_clip.pretrained import get_pretrained_cfg, list_pretrained_tags_by_model
from open_clip.timm_model import TimmModel
from open_clip.transformer import TextTransformer, VisionTransformer
from safetensors.torch import load_file
from torch import Tensor

from ground.device import resolve_device, resolve_dtype
from ground.paths import user_path
from ground.turns import Turns, in_turn, loaded_alone
from ground.weights import check_whole, loading, refuse_code
from ovseg import conv, pooled
from ovseg.config import MODEL_FORMS, OvsegConfig
from ovseg.context import shortened, used_length
from ovseg.dense import dense_tokens
from ovseg.fetch import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    builtin_folder,
    checked_folder,
    hub_files,
    overlay_file,
    own_text_tower,
    text_config,
)
from ovseg.variants import DENSE

TEXT_BATCH = 256  # prompts at once: 77 tokens each, some 100 MB for ViT-B

log = logging.getLogger(__name__)


class Tower(Enum):
    """The kinds of image towers that there are dense embeddings of."""

    VIT = "a ViT"  # open_clip's own, with class-token or average pooling
    POOLED = "a ViT with attention pooling"  # timm's
    CONVOLUTIONAL = "a convolutional image tower"  # timm's, with average pooling


_FITTING = {Tower.VIT: tuple(DENSE), Tower.POOLED: (pooled.VARIANT,), Tower.CONVOLUTIONAL: (conv.VARIANT,)}


def _tower(visual: Any) -> Tower:
    if isinstance(visual, VisionTransformer) and visual.attn_pool is None:
        return Tower.VIT
    if isinstance(visual, TimmModel) and pooled.pools_by_attention(visual):
        return Tower.POOLED
    if isinstance(visual, TimmModel) and conv.averages_locations(visual):
        return Tower.CONVOLUTIONAL
    pooling = " with attentional pooling" if isinstance(visual, VisionTransformer) else ""
    raise ValueError(
        f"image tower {type(visual).__name__}{pooling} is not supported: expected open_clip's own VisionTransformer "
        "with class-token or average pooling, such as ViT-B-16, a ViT of timm with attention pooling, such as "
        "ViT-B-16-SigLIP, or a convolutional net of timm with average pooling, such as convnext_base"
    )


@dataclass(frozen=True, eq=False)
class Backbone:
    """A CLIP, its tokenizer and its preprocessing.

    ValueError if its image tower is of no kind that `Tower` lists.
    """

    model: Any  # open_clip.CLIP or CustomTextCLIP (untyped), in eval mode
    tokenizer: Callable[[list[str]], Tensor]  # N texts → (N, context length) token ids
    mean: tuple[float, float, float]  # of the RGB values in 0..1
    std: tuple[float, float, float]
    logit_scale: float  # factor on the cosines that the model was trained with
    turns: Turns = field(default_factory=Turns, repr=False)  # of the threads that use it

    def __post_init__(self) -> None:
        self.tower  # noqa: B018 (it raises)

    @property
    def tower(self) -> Tower:
        """The kind of the image tower; ValueError if it is none of them."""
        return _tower(self.model.visual)

    def check_variant(self, variant: str) -> None:
        """ValueError if the dense variant does not fit the image tower."""
        fitting = _FITTING[self.tower]
        if variant not in fitting:
            raise ValueError(f"ovseg.dense is {variant!r}, expected {' or '.join(fitting)} for {self.tower.value}")

    @property
    def patch_hw(self) -> tuple[int, int]:
        """Height and width, px, of what has an embedding of its own: a patch, or a location of the feature map."""
        visual = self.model.visual
        if self.tower == Tower.CONVOLUTIONAL:
            return conv.location_hw(visual)
        if self.tower == Tower.POOLED:
            return pooled.patch_hw(visual)
        height, width = visual.patch_size
        return height, width

    @in_turn
    def text_key(self, names: Sequence[str], templates: Sequence[str]) -> str:
        """SHA-256 (hex) of all that decides the text embeddings of `names`, filled into `templates`."""
        key = hashlib.sha256(self._text_weights)
        key.update(self.tokenizer(list(names)).numpy().tobytes())  # another tokenizer reads them otherwise
        key.update(json.dumps([list(names), list(templates)]).encode())
        return key.hexdigest()

    @cached_property
    def _text_weights(self) -> bytes:
        """SHA-256 of all of the model's numbers but those of the image tower, in the precision that they are in."""
        made_by = (torch.__version__, open_clip.__version__, self.model.logit_scale.device.type)
        digest = hashlib.sha256(f"{self.model} {made_by}".encode())
        for name, tensor in self.model.state_dict().items():
            if not name.startswith("visual."):
                digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
                digest.update(tensor.cpu().contiguous().flatten().view(torch.uint8).numpy())
        return digest.digest()

    @in_turn
    def encode_text(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(N, C) float32 unit embeddings of N prompts; the tokenizer cuts those that are too long.

        ValueError if they are not finite.
        """
        batches = [list(texts[start : start + TEXT_BATCH]) for start in range(0, len(texts), TEXT_BATCH)]
        with torch.inference_mode():
            encoded = [self._encode(self.tokenizer(batch)).float() for batch in batches]
            return _finite(F.normalize(torch.cat(encoded), dim=-1), "text")

    def _encode(self, tokens: Tensor) -> Tensor:
        """(N, C) embeddings of (N, length) token ids, without their padding where that has no part in them."""
        model = self.model
        text = getattr(model, "text", None)
        tower = model if isinstance(model, open_clip.CLIP) else text
        if isinstance(text, HFTextEncoder):  # it masks the padding
            used = (tokens != text.config.pad_token_id).any(dim=0)
            tokens = tokens[:, : int(used.nonzero().max()) + 1]
        elif isinstance(tower, (open_clip.CLIP, TextTransformer)):
            length = used_length(tower, tokens)
            if length < tokens.shape[1]:
                with shortened(tower, length):
                    return model.encode_text(tokens[:, :length].to(model.logit_scale.device))
        return model.encode_text(tokens.to(model.logit_scale.device))

    @in_turn
    def encode_patches(
        self, pixels: NDArray[np.float32], variant: str, regions: NDArray[np.int32] | None = None
    ) -> NDArray[np.float32]:
        """(B, C, h, w) float32 unit embeddings of the patches of normalised `pixels` (B, 3, h patch, w patch).

        `variant` is a name in variants.DENSE that fits the tower; else ValueError, as for embeddings that are not
        finite. With `regions` (B, h, w) patches attend to those of their own region alone, if they attend at all.
        """
        self.check_variant(variant)
        visual = self.model.visual
        with torch.inference_mode():
            inputs = torch.from_numpy(pixels).to(self.model.logit_scale)
            if self.tower == Tower.CONVOLUTIONAL:
                patches = conv.dense_locations(visual, inputs)
            elif self.tower == Tower.POOLED:
                patches = pooled.dense_patches(visual, inputs)
            else:
                grid_hw = tuple(side // patch for side, patch in zip(pixels.shape[2:], self.patch_hw, strict=True))
                among = None if regions is None else torch.from_numpy(regions)
                tokens = dense_tokens(visual, inputs, variant, among)  # B x (1 + h w) x C
                patches = tokens[:, 1:].mT.unflatten(2, grid_hw)
            return _finite(F.normalize(patches.float(), dim=1).contiguous(), "the image")


def _finite(embeddings: Tensor, what: str) -> NDArray[np.float32]:
    """The numbers of `embeddings`; ValueError if they are none, from weights that are damaged or a range too small."""
    numbers = embeddings.cpu().numpy()
    if not np.isfinite(numbers).all():
        raise ValueError(f"CLIP's embeddings of {what} are not finite: expected whole weights, or try dtype float32")
    return numbers


@loaded_alone()
def load_backbone(config: OvsegConfig, *, device: str = "auto", dtype: str = "auto") -> Backbone:
    """Backbone of a config, from weights that are on this disk: nothing is downloaded.

    `device` and `dtype` as in ground.device. Raises what `fetch_weights` raises if weights are missing, and ValueError
    on bad arguments, files that do not load and models that are not supported.
    """
    torch_device = resolve_device(device)
    torch_dtype = resolve_dtype(dtype, torch_device)
    weights = fetch_weights(config, download=False)
    overlay = overlay_file(config.overlay) if config.overlay else None
    file, name, tokenizer_settings = Path(weights), config.model, {}
    if weights.startswith("local-dir:"):
        folder = Path(weights.removeprefix("local-dir:"))
        refuse_code(folder)
        file, name, settings = folder / WEIGHTS_FILE, weights, own_text_tower(folder)
        if text_config(folder).get("hf_tokenizer_name"):
            tokenizer_settings = {"trust_remote_code": False}
    else:
        settings = _tag_settings(config, weights)
    check_whole(file)
    with loading(f"the model of {file}"):
        model = open_clip.create_model(name, require_pretrained=True, **settings)
    if overlay:
        lay_over(model, overlay)
    with loading(f"the tokenizer of {weights.removeprefix('local-dir:')}"):
        tokenizer = open_clip.get_tokenizer(name, **tokenizer_settings)
    preprocess = model.visual.preprocess_cfg
    backbone = Backbone(
        model=model.eval().requires_grad_(False),
        tokenizer=tokenizer,
        mean=tuple(preprocess["mean"]),
        std=tuple(preprocess["std"]),
        logit_scale=model.logit_scale.exp().item(),  # before the cast: bfloat16 is off by a percent
    )
    model.to(device=torch_device, dtype=torch_dtype)
    if config.output_stride and backbone.tower != Tower.CONVOLUTIONAL:
        raise ValueError(f"ovseg.output_stride is {config.output_stride}, expected null for {backbone.tower.value}")
    if backbone.tower == Tower.CONVOLUTIONAL:
        if config.output_stride:
            conv.make_finer(model.visual, config.output_stride)
        # Equal numbers, in about 0.8 of the time on a CPU.
        model.visual.to(memory_format=torch.channels_last)
    log.info("loaded %s on %s in %s", config.model, torch_device, torch_dtype)
    return backbone


def lay_over(model: Any, file: Path) -> None:
    """Give `model` the weights of a .safetensors file in place of its own of the same names.

    FileNotFoundError if there is no such file, ValueError if it does not fit.
    """
    if not file.is_file():
        raise FileNotFoundError(f"no weights file {file}")
    check_whole(file)
    new, own = load_file(file), model.state_dict()
    if unfit := sorted(name for name, tensor in new.items() if name not in own or own[name].shape != tensor.shape):
        raise ValueError(f"{file} has weights that the model has not, or in another shape: {', '.join(unfit[:3])}")
    model.load_state_dict(new, strict=False)


def fetch_weights(config: OvsegConfig, *, download: bool) -> str:
    """What open_clip loads: "local-dir:FOLDER", or the path of a .safetensors file for a bare open_clip name.

    With `download`, missing files come from the Hugging Face hub (see `ground.weights.hub_folder`); without, no network
    is touched. Raises WeightsMissing for files of the hub that are not there, FileNotFoundError for others (both in one
    line, with what is missing), ValueError on an unknown model or on pickled weights.
    """
    schema, _, rest = config.model.partition(":")
    if not rest:
        return str(_named_weights(config, download=download))
    if schema == "builtin":
        folder = builtin_folder(rest)
    elif schema == "local-dir":
        folder = checked_folder(user_path(rest))
    elif schema == "hf-hub":
        folder = checked_folder(hub_files(rest, config, (CONFIG_FILE, WEIGHTS_FILE), download=download))
    else:
        raise ValueError(f"ovseg.model is {config.model!r}, expected {MODEL_FORMS}")
    return f"local-dir:{folder}"


def _named_weights(config: OvsegConfig, *, download: bool) -> Path:
    """The .safetensors file of a bare open_clip name: a path, or a tag's file in the hub's cache."""
    name, pretrained = config.model, config.pretrained
    if name not in open_clip.list_models():
        close = get_close_matches(name, open_clip.list_models(), n=5, cutoff=0.0)
        raise ValueError(f"ovseg.model is {name!r}, expected {MODEL_FORMS}; the nearest names: {', '.join(close)}")
    text_cfg = open_clip.get_model_config(name)["text_cfg"]
    if elsewhere := text_cfg.get("hf_model_name") or text_cfg.get("hf_tokenizer_name"):
        raise ValueError(f"{name} needs {elsewhere} as well: give it as hf-hub:ORG/REPO, with all its files")
    tags = ", ".join(list_pretrained_tags_by_model(name)) or "none"
    if pretrained is None:
        raise ValueError(f"ovseg.pretrained is missing, expected a .safetensors file or a tag of {name}: {tags}")
    if pretrained.endswith(".safetensors"):
        path = user_path(pretrained)
        if not path.is_file():
            raise FileNotFoundError(f"no weights file {path}")
        return path
    published = get_pretrained_cfg(name, pretrained)
    if not published:
        raise ValueError(f"ovseg.pretrained is {pretrained!r}, expected a .safetensors file or a tag of {name}: {tags}")
    repo, file = os.path.split(published["hf_hub"])
    file = file or WEIGHTS_FILE
    if not repo or not file.endswith(".safetensors"):
        origin = published["hf_hub"] or published["url"]
        raise ValueError(
            f"{name} {pretrained!r} is published as a pickle ({origin}), refused as unsafe: "
            f"set ovseg.model to hf-hub:ORG/REPO, a repository that holds {WEIGHTS_FILE}"
        )
    return hub_files(repo, config, (file,), download=download) / file


def _tag_settings(config: OvsegConfig, weights: str) -> dict[str, Any]:
    """open_clip arguments that load `weights` as its tag would: the file alone holds no mean and no activation."""
    # Empty if a file was given instead of a tag.
    published = get_pretrained_cfg(config.model, config.pretrained)
    return {
        "pretrained": weights,
        "force_quick_gelu": published.get("quick_gelu", False),
        "force_preprocess_cfg": {key: published[key] for key in ("mean", "std") if key in published},
    }
