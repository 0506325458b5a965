"""An embedded diffusion transformer: a small PixArt on the VAE's latents, with a T5 of its own for captions.

The UNet's counterpart: the same latents, captions, noise and schedule, so that the two can be compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, PixArtSigmaPipeline, PixArtTransformer2DModel
from tokenizers import Tokenizer, processors
from torch import Tensor
from transformers import CLIPTokenizer, PreTrainedTokenizerFast, T5Config, T5EncoderModel

from training import denoiser
from training.denoiser import Captioned, Family
from training.loop import Schedule
from training.tokenizer import CONTEXT_LENGTH
from training.weights import forget_origin, half_copy, write_model

SCHEDULE = Schedule(minutes=60, learning_rate=1e-3, warmup_steps=500)
_HEADS, _HEAD_WIDTH, _BLOCKS = 6, 32, 6
_TEXT_WIDTH = 128


class CaptionedTransformer(Captioned):
    """As PixArt: the last hidden states of T5, padding masked, go to the cross-attentions; both learn."""

    def forward(self, noisy: Tensor, timesteps: Tensor, ids: Tensor) -> Tensor:
        ids, mask = t5_ids(ids)
        states = self.text_encoder(ids, attention_mask=mask).last_hidden_state
        predicted: Tensor = self.denoiser(
            noisy.to(self.dtype),
            encoder_hidden_states=states.to(self.dtype),
            encoder_attention_mask=mask,
            timestep=timesteps,
            added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        ).sample
        return predicted


def t5_ids(ids: Tensor) -> tuple[Tensor, Tensor]:
    """CLIP's token ids (B, L) as T5 has them, (B, L - 1) with no begin of text; and (B, L - 1) bool: what is text.

    The end of text, CLIP's highest id, is the last that is.
    """
    ids = ids[:, 1:].long()
    places = torch.arange(ids.shape[1], device=ids.device)
    return ids, (places <= ids.argmax(dim=1, keepdim=True)).to(ids.dtype)


def build_transformer(latent_channels: int) -> PixArtTransformer2DModel:
    """3.9 M parameters; tokens are of 2×2 latents, so that 256 px have 16×16 of them, as the UNet's middle has."""
    return PixArtTransformer2DModel(
        num_attention_heads=_HEADS,
        attention_head_dim=_HEAD_WIDTH,
        in_channels=latent_channels,
        out_channels=latent_channels,
        num_layers=_BLOCKS,
        cross_attention_dim=_HEADS * _HEAD_WIDTH,
        sample_size=32,
        patch_size=2,
        caption_channels=_TEXT_WIDTH,
        use_additional_conditions=False,
    )


def build_text_encoder(tokenizer: CLIPTokenizer) -> T5EncoderModel:
    """Two layers of T5, with the vocabulary of a CLIP."""
    return T5EncoderModel(
        T5Config(
            vocab_size=len(tokenizer),
            d_model=_TEXT_WIDTH,
            d_kv=32,
            d_ff=256,
            num_layers=2,
            num_heads=4,
            dropout_rate=0.0,
            feed_forward_proj="gated-gelu",
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def train(*data: Any, text: Path, start: Path | None, **options: Any) -> None:
    """Train a transformer in weights/pixart; see `denoiser.train`.

    `text`: an open_clip folder whose tokenizer the captions are read with. `start`: a folder to take the VAE from and,
    if it has a transformer, that with its text encoder.
    """

    def make(vae: AutoencoderKL, tokenizer: Any, tower: Any) -> CaptionedTransformer:
        if start and (start / "transformer").exists():
            parts = ((PixArtTransformer2DModel, "transformer"), (T5EncoderModel, "text_encoder"))
            return CaptionedTransformer(
                *(cls.from_pretrained(start / name, torch_dtype=torch.float32) for cls, name in parts)
            )
        return CaptionedTransformer(build_transformer(vae.config.latent_channels), build_text_encoder(tokenizer))

    def write_all(folder: Path, model: CaptionedTransformer, vae: AutoencoderKL, noiser: DDIMScheduler) -> None:
        parts = {"vae": vae, "text_encoder": model.text_encoder, "transformer": model.denoiser}
        PixArtSigmaPipeline(
            **{name: half_copy(part) for name, part in parts.items()},
            tokenizer=t5_tokenizer(text),
            scheduler=noiser,
        ).save_pretrained(folder)
        forget_origin(folder)

    def write(folder: Path, model: CaptionedTransformer) -> None:
        write_model(model.denoiser, folder / "transformer")
        write_model(model.text_encoder, folder / "text_encoder")

    family = Family("pixart", make, write_all, write)
    denoiser.train(family, *data, text=text, start=start, **options)


def t5_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """The tokenizer of a CLIP's folder with the ends that T5 puts: an end of text, and no begin."""
    clip = CLIPTokenizer.from_pretrained(folder)
    # A tokenizer of Python has its fast one within, or is one; releases differ.
    backend = getattr(clip, "_tokenizer", None) or clip.backend_tokenizer
    own = Tokenizer.from_str(backend.to_str())
    own.post_processor = processors.TemplateProcessing(
        single=f"$A {clip.eos_token}", special_tokens=[(clip.eos_token, clip.eos_token_id)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=own,
        eos_token=clip.eos_token,
        pad_token=clip.pad_token,
        model_max_length=CONTEXT_LENGTH - 1,
    )
