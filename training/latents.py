"""What a UNet learns from: latents of scenes and photographs with the ids of their captions, and batches of them."""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor
from transformers import CLIPTokenizer

from training.crops import cut, integers, to_model_range, token_ids
from training.data import CAPTIONS, LATENT, PART, SceneCache
from training.hardware import CPU, Hardware
from training.photos import Squares
from training.tokenizer import CONTEXT_LENGTH

# Of the images of a batch of whole ones, how many are photographs where there are any: 6 of 16.
PHOTOS = 6 / 16
# Pixels that are encoded at once, as images of 256 px.
_ENCODED, _GPU_ENCODED = 16, 128
log = logging.getLogger(__name__)
Draw = Callable[[torch.Generator], tuple[Tensor, Tensor]]


@torch.inference_mode()
def encode_images(vae: AutoencoderKL, images: np.ndarray, folder: Path, hardware: Hardware = CPU) -> np.ndarray:
    """Scaled latent means (N, C, h, w) float16 of (N, 8 h, 8 w, 3) uint8 images, kept in `folder`.

    The file's name holds a checksum of the encoder's weights and of some images, so that others get their own latents.
    """
    mark = zlib.crc32(images[:: max(1, len(images) // 16)].tobytes())
    for part in (vae.encoder, vae.quant_conv):
        for weights in part.state_dict().values():
            mark = zlib.crc32(weights.cpu().numpy().tobytes(), mark)
    path = folder / f"latents-{len(images)}-{mark:08x}.npy"
    if not path.exists():
        vae.to(hardware.device)
        parts = []
        at_once = _GPU_ENCODED if hardware.is_gpu else _ENCODED
        at_once = max(1, at_once * 256**2 // images[0, ..., 0].size)
        for start in range(0, len(images), at_once):
            with hardware.autocast():
                batch = to_model_range(torch.as_tensor(images[start : start + at_once]).to(hardware.device))
                mean = vae.encode(batch).latent_dist.mean
            parts.append((mean.float() * vae.config.scaling_factor).half().cpu().numpy())
            if start // at_once % 100 == 0:
                log.info("encoded %d of %d images for %s", start, len(images), path.name)
        np.save(path.with_suffix(".tmp.npy"), np.concatenate(parts))
        path.with_suffix(".tmp.npy").replace(path)
    return np.load(path, mmap_mode="c")


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of many images of one size, on one device, and what may be said about each."""

    values: Tensor  # (N, C, h, w) float16
    ids: Tensor  # (N, K, L) int32: token ids of K captions each

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents (count, C, h, w) and ids (count, L) of random images."""
        chosen = integers(len(self.values), count, rng)
        return self.values[chosen], self.ids[chosen, integers(self.ids.shape[1], count, rng)]


@dataclass(frozen=True, eq=False)
class Parts:
    """Parts of the latents of scenes, where it is clearer than in a whole scene what a caption refers to."""

    values: Tensor  # (N, C, h, w) float16, of the scenes
    ids: Tensor  # (N, P, L) int32, of the parts
    corners: Tensor  # (N, P, 2) uint8: y, x of the parts, in latents

    def draw(self, count: int, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Latents (count, C, 16, 16) and ids (count, L) of random parts."""
        chosen, which = (integers(high, count, rng) for high in self.ids.shape[:2])
        squares = cut(self.values.permute(0, 2, 3, 1), chosen, self.corners[chosen, which], PART // LATENT)
        return squares.permute(0, 3, 1, 2), self.ids[chosen, which]


def batches(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    scenes: SceneCache,
    photos: Squares | None,
    large: Squares | None,
    folder: Path,
    size: int,
    hardware: Hardware,
) -> tuple[torch.device, list[Draw]]:
    """Where the latents are kept, and the kinds of batches that steps take in turn, about the same work each.

    They are: `size` whole scenes and `photos`, three times as many parts of scenes, and fewer of the photographs
    `large`, in proportion to their area. Latents are kept in `folder` as well.
    """

    def pairs(values: np.ndarray, texts: list[list[str]]) -> tuple[Tensor, Tensor]:
        ids = token_ids(tokenizer, [text for some in texts for text in some], CONTEXT_LENGTH)
        return torch.as_tensor(values), ids.reshape(len(texts), -1, CONTEXT_LENGTH)

    def encoded(squares: Squares) -> tuple[Tensor, Tensor]:
        return pairs(encode_images(vae, squares.images, folder, hardware), [[text] for text in squares.texts])

    values, ids = pairs(encode_images(vae, scenes.images, folder, hardware), scenes.texts)
    tensors = [values, ids, torch.as_tensor(scenes.corners // LATENT)]
    for squares in (photos, large):
        tensors += encoded(squares) if squares else ()
    home = hardware.home(*tensors)
    values, ids, corners, *others = (tensor.to(home) for tensor in tensors)
    whole, parts = Latents(values, ids[:, :CAPTIONS]), Parts(values, ids[:, CAPTIONS:], corners)
    kept = [Latents(*others[at : at + 2]) for at in range(0, len(others), 2)]
    beside = round(PHOTOS * size) if photos else 0

    def mixed(rng: torch.Generator) -> tuple[Tensor, Tensor]:
        drawn = [whole.draw(size - beside, rng)] + ([kept[0].draw(beside, rng)] if beside else [])
        values, ids = (torch.cat(some) for some in zip(*drawn, strict=True))
        return values, ids

    kinds: list[Draw] = [mixed, lambda rng: parts.draw(3 * size, rng)]
    if large:
        count = max(1, size * values[0, 0].numel() // kept[-1].values[0, 0].numel())
        kinds.append(lambda rng: kept[-1].draw(count, rng))
    return home, kinds
