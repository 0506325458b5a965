"""Batches of crops and of token ids, made of whole tensors so that a GPU that holds the data makes them itself."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPTokenizer


def to_model_range(images: np.ndarray | Tensor) -> Tensor:
    """(B, H, W, 3) uint8 → (B, 3, H, W) float32 in −1 … 1."""
    return torch.as_tensor(images).permute(0, 3, 1, 2).float() / 127.5 - 1


def integers(high: int, count: int, rng: torch.Generator) -> Tensor:
    """(count,) of 0 … high − 1 on the generator's device, whose numbers are not those of another kind of device."""
    return torch.randint(high, (count,), generator=rng, device=rng.device)


def uniform(count: int, rng: torch.Generator) -> Tensor:
    """(count,) float32 of 0 … 1 on the generator's device."""
    return torch.rand(count, generator=rng, device=rng.device)


def cut(images: Tensor, chosen: Tensor, corners: Tensor, side: int, mirrored: Tensor | None = None) -> Tensor:
    """(B, side, side, C) squares of `images` (N, H, W, C): the corners (B, 2) are (y, x), `mirrored` is (B,) bool."""
    along = torch.arange(side, device=images.device)
    rows, columns = (corner[:, None].long() + along for corner in corners.unbind(1))  # B x side
    if mirrored is not None:
        columns = torch.where(mirrored[:, None], columns.flip(1), columns)
    return images[chosen[:, None, None], rows[:, :, None], columns[:, None, :]]


def random_squares(images: Tensor, count: int, side: int, rng: torch.Generator, places: Tensor | None = None) -> Tensor:
    """(count, side, side, C) squares of random ones of `images` (N, S, S, C), mirrored half of the time.

    They are anywhere or, with `places` (N, K, 2), about a random one of the places of that image.
    """
    chosen, room = integers(len(images), count, rng), images.shape[1] - side
    if places is None:
        corners = torch.stack([integers(room + 1, count, rng) for _ in range(2)], dim=1)
    else:
        centres = places[chosen, integers(places.shape[1], count, rng)].long()
        corners = (centres - side // 2).clamp(0, room)
    return cut(images, chosen, corners, side, uniform(count, rng) < 0.5)


def shrunk(images: Tensor, size: int) -> Tensor:
    """(B, C, size, size) of larger squares (B, C, S, S): means over what a pixel covers."""
    return images if images.shape[-1] == size else F.interpolate(images, size, mode="area")


def token_ids(tokenizer: CLIPTokenizer, texts: Sequence[str], length: int) -> Tensor:
    """(N, length) int32, as `tokenizer` itself says with padding and truncation, but each word is asked for once."""
    known: dict[str, list[int]] = {}
    rows = np.full((len(texts), length), tokenizer.pad_token_id, np.int32)
    for row, text in zip(rows, texts, strict=True):
        ids = [tokenizer.bos_token_id]
        for word in text.split():
            if word not in known:
                known[word] = tokenizer(word, add_special_tokens=False).input_ids
            ids += known[word]
        ids = [*ids[: length - 1], tokenizer.eos_token_id]
        row[: len(ids)] = ids
    return torch.from_numpy(rows)
