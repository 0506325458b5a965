"""The empty prompt: text encoders of a model's folder → what a denoiser is conditioned on when nothing is asked for.

Each encoder serves once, on the CPU, and is dropped.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel
from transformers.utils import logging as transformers_logging

from emerdiff.backbones.parts import Parts
from ground.weights import loading


def clip_states(parts: Parts) -> Tensor:
    """(1, tokens, C) float32: the last hidden states of CLIP's text tower, which Stable Diffusion 1.x and 2.x take."""
    return _clip(parts, CLIPTextModel, "").last_hidden_state


def clip_penultimate(parts: Parts, number: str) -> Tensor:
    """(1, tokens, C) float32: the hidden states before the last, as Stable Diffusion XL takes them."""
    states: Tensor = _clip(parts, CLIPTextModel, number).hidden_states[-2]
    return states


def clip_pooled(parts: Parts, number: str) -> tuple[Tensor, Tensor]:
    """(1, tokens, C) and (1, D) float32: the hidden states before the last, and the projected embedding of the end.

    As Stable Diffusion XL takes them of its second text tower, "_2", and 3 of its first, "", too.
    """
    encoded = _clip(parts, CLIPTextModelWithProjection, number)
    return encoded.hidden_states[-2], encoded.text_embeds


def clip_end(parts: Parts) -> Tensor:
    """(1, C) float32: the last hidden state of the end of text, as FLUX takes it of CLIP."""
    state: Tensor = _clip(parts, CLIPTextModel, "").pooler_output
    return state


@torch.no_grad()
def t5_states(parts: Parts, number: str, *, tokens: int) -> Tensor:
    """(1, tokens, C) float32: the last hidden states of T5's encoder for its end of text and then padding.

    That is "" in T5's tokens, whose ids are in its config. The padding is seen, as Stable Diffusion 3 has it.
    """
    # Five billion parameters: half the memory, unless all is to be exact.
    dtype = torch.float32 if parts.dtype == torch.float32 else torch.bfloat16
    with _quiet_transformers():
        text_encoder = parts.loaded(T5EncoderModel, f"text_encoder{number}", dtype)
        config = text_encoder.config
        ids = torch.tensor([[config.eos_token_id, *[config.pad_token_id] * (tokens - 1)]])
        states: Tensor = text_encoder(ids).last_hidden_state.float()
        return states


@torch.no_grad()
def _clip(parts: Parts, cls: Any, number: str) -> Any:
    tokenizers = f"tokenizer{number}"
    with _quiet_transformers():
        text_encoder = parts.loaded(cls, f"text_encoder{number}", torch.float32)
        with loading(f"{parts.folder / tokenizers}"):
            tokenizer = CLIPTokenizer.from_pretrained(parts.folder, subfolder=tokenizers)
            length = min(tokenizer.model_max_length, text_encoder.config.max_position_embeddings)
            tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt")
            return text_encoder(tokens.input_ids, output_hidden_states=True)


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Keeps transformers from drawing a progress bar for every file, even the smallest."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
