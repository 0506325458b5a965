"""Steps 1, 3 and 4 of EmerDiff as the paper writes them, one trajectory at a time: slow, obvious, sharing nothing with
the package but the model. The tests hold the package's fast path against it.
"""

from __future__ import annotations

from math import sqrt
from typing import Any

import torch
from diffusers import FluxPipeline
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn.functional import interpolate

from emerdiff.backbone import Backbone
from emerdiff.config import EmerDiffConfig
from emerdiff.schedule import FlowSchedule


class ExplicitAttention:
    """softmax(QKᵀ/√d)·V with the softmax written out, kept, and on demand used again; plus an offset at the end.

    A layer of joint attention, which has projections for text besides, mixes the tokens of both and gives them apart.
    """

    def __init__(self) -> None:
        self.weights = torch.empty(0)
        self.tokens = 0  # of the image
        self.reuse = False
        self.offset: Tensor | float = 0.0

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
    ) -> Any:
        self.tokens = hidden_states.shape[1]
        if image_rotary_emb is not None:
            return self.rotated(attn, hidden_states, encoder_hidden_states, image_rotary_emb)
        if encoder_hidden_states is not None and attn.added_kv_proj_dim is not None:
            return self.joint(attn, hidden_states, encoder_hidden_states)
        source = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        value = attn.head_to_batch_dim(attn.to_v(source))
        if not self.reuse:
            query = attn.head_to_batch_dim(attn.to_q(hidden_states))
            key = attn.head_to_batch_dim(attn.to_k(source))
            if attn.norm_q is not None:
                query, key = attn.norm_q(query), attn.norm_k(key)
            self.weights = (query @ key.transpose(1, 2) / sqrt(query.shape[-1])).softmax(-1)
        return attn.to_out[0](attn.batch_to_head_dim(self.weights @ value)) + self.offset

    def joint(self, attn: Any, image: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
        split = attn.head_to_batch_dim
        value = torch.cat([split(attn.to_v(image)), split(attn.add_v_proj(text))], dim=1)
        if not self.reuse:
            queries = [split(attn.to_q(image)), split(attn.add_q_proj(text))]
            keys = [split(attn.to_k(image)), split(attn.add_k_proj(text))]
            if attn.norm_q is not None:
                queries = [attn.norm_q(queries[0]), attn.norm_added_q(queries[1])]
                keys = [attn.norm_k(keys[0]), attn.norm_added_k(keys[1])]
            query, key = torch.cat(queries, dim=1), torch.cat(keys, dim=1)
            self.weights = (query @ key.transpose(1, 2) / sqrt(query.shape[-1])).softmax(-1)
        mixed = attn.batch_to_head_dim(self.weights @ value)
        ours, theirs = mixed[:, : self.tokens], mixed[:, self.tokens :]
        return attn.to_out[0](ours) + self.offset, theirs if attn.context_pre_only else attn.to_add_out(theirs)

    def rotated(self, attn: Any, image: Tensor, text: Tensor | None, rotations: Any) -> Any:
        """FLUX: text comes first, queries and keys are turned; in blocks of one stream the tokens are those of both."""

        def projected(*names: str) -> list[Tensor]:
            return [
                getattr(attn, name)(image if "to" in name else text).unflatten(-1, (attn.heads, -1)) for name in names
            ]

        query, key, value = projected("to_q", "to_k", "to_v")
        query, key = attn.norm_q(query), attn.norm_k(key)
        if text is not None:
            queries, keys, values = projected("add_q_proj", "add_k_proj", "add_v_proj")
            query = torch.cat([attn.norm_added_q(queries), query], dim=1)
            key = torch.cat([attn.norm_added_k(keys), key], dim=1)
            value = torch.cat([values, value], dim=1)
        if not self.reuse:
            query, key = (apply_rotary_emb(each, rotations, sequence_dim=1) for each in (query, key))
            product = torch.einsum("bnhd,bmhd->bhnm", query, key)
            self.weights = (product / sqrt(query.shape[-1])).softmax(-1)
        mixed = torch.einsum("bhnm,bmhd->bnhd", self.weights, value).flatten(2)
        if text is None:
            return mixed
        theirs, ours = mixed[:, : -self.tokens], mixed[:, -self.tokens :]
        return attn.to_out[0](ours) + self.offset, attn.to_add_out(theirs)


class ExplicitNorm:
    """In place of a group norm's forward: its statistics written out, kept, and on demand used again."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        self.norm = norm
        self.mean = self.deviation = torch.empty(0)
        self.reuse = False

    def __call__(self, states: Tensor) -> Tensor:
        groups = states.reshape(len(states), self.norm.num_groups, -1)
        if not self.reuse:
            self.mean = groups.mean(2, keepdim=True)
            self.deviation = ((groups - self.mean).square().mean(2, keepdim=True) + self.norm.eps).sqrt()
        normed = ((groups - self.mean) / self.deviation).reshape(states.shape)
        channels = (1, -1, *[1] * (states.dim() - 2))
        return normed * self.norm.weight.view(channels) + self.norm.bias.view(channels)


def reference_differences(
    backbone: Backbone, clean: Tensor, low_res: Tensor, timesteps: list[int], config: EmerDiffConfig, seed: int
) -> Tensor:
    """(K, H, W) d^i without any blur, for the z0 `clean` and the (h, w) clusters that a run with `seed` finds."""
    denoiser: Any = backbone.denoiser
    layers = {name: module for name, module in denoiser.named_modules() if hasattr(module, "to_q")}
    originals = {name: layer.processor for name, layer in layers.items()}
    processors = {name: ExplicitAttention() for name in layers}
    for name, layer in layers.items():
        layer.processor = processors[name]
    norms = [ExplicitNorm(module) for module in denoiser.modules() if isinstance(module, nn.GroupNorm)]
    for explicit in norms:
        explicit.norm.forward = explicit
    modulated = processors[config.modulation_layer]

    flow = isinstance(backbone.schedule, FlowSchedule)

    def alpha(timestep: int | None) -> float:
        return 1.0 if timestep is None else backbone.schedule.alphas_cumprod[timestep]

    def noised(timestep: int, noise: Tensor) -> Tensor:
        if flow:
            return (1 - timestep / 1000) * clean + timestep / 1000 * noise
        return sqrt(alpha(timestep)) * clean + sqrt(1 - alpha(timestep)) * noise

    def step(latent: Tensor, timestep: int, previous: int | None) -> tuple[Tensor, float]:
        """μ̂_t(x_t) and σ_t, as DDIM writes them for η = 1 (arXiv 2010.02502, eq. 12 and 16); of a flow Euler's step."""
        noise = prediction(backbone, latent, timestep)
        if flow:
            return latent + noise * ((previous or 0) - timestep) / 1000, 0.0
        a, p = alpha(timestep), alpha(previous)
        if backbone.schedule.prediction_type == "v_prediction":
            noise = sqrt(a) * noise + sqrt(1 - a) * latent
        sigma = sqrt((1 - p) / (1 - a)) * sqrt(1 - a / p)
        mean = sqrt(p) * (latent - sqrt(1 - a) * noise) / sqrt(a) + sqrt(max(1 - p - sigma**2, 0)) * noise
        return mean, sigma

    generator = torch.Generator().manual_seed(seed)
    for _ in range(config.feature_draws):
        torch.randn(clean.shape, generator=generator)  # the features' noise comes first
    noisy = {t: noised(t, torch.randn(clean.shape, generator=generator)) for t in timesteps}

    def replay(mask: Tensor, strength: float) -> Tensor:
        latent = noisy[timesteps[0]]
        for t, previous in zip(timesteps, [*timesteps[1:], None], strict=True):
            target = clean if previous is None else noisy[previous]
            mean, sigma = step(noisy[t], t, previous)  # unmodulated: leaves its softmaxes behind
            for processor in processors.values():
                processor.reuse = config.inject_attention
            for explicit in norms:
                explicit.reuse = config.inject_norms
            if t == timesteps[0] or config.modulate == "onward":
                modulated.offset = strength * _on_grid_of(modulated, mask, clean)
            modulated_mean, _ = step(latent, t, previous)
            for processor in processors.values():
                processor.reuse, processor.offset = False, 0.0
            for explicit in norms:
                explicit.reuse = False
            if sigma > 0:
                latent = modulated_mean + sigma * ((target - mean) / sigma)
            else:
                latent = modulated_mean + (target - mean)
        return latent

    planes = []
    for index in range(int(low_res.max()) + 1):
        mask = (low_res == index).float()
        minus, plus = (replay(mask, sign * config.strength) for sign in (-1, 1))
        scale = backbone.vae.config.scaling_factor
        images = [backbone.vae.decode(latent / scale).sample[0] / 2 + 0.5 for latent in (minus, plus)]
        planes.append(((images[0] - images[1]) ** 2).sum(0).sqrt())
    for explicit in norms:
        del explicit.norm.forward
    for name, layer in layers.items():
        layer.processor = originals[name]
    return torch.stack(planes)


def prediction(backbone: Any, latent: Tensor, timestep: int) -> Tensor:
    """What each family's pipeline asks its model for, without a prompt, for one latent."""
    height, width = (8 * side for side in latent.shape[2:])
    at = torch.tensor([timestep])
    if type(backbone).__name__ == "UNetBackbone":
        sizes = torch.tensor([[height, width, 0, 0, height, width]])
        added = None if backbone.pooled is None else {"text_embeds": backbone.pooled, "time_ids": sizes}
        return backbone.unet(latent, timestep, backbone.empty_prompt, added_cond_kwargs=added).sample
    model = backbone.transformer
    if type(backbone).__name__ == "FluxBackbone":
        return flux_prediction(backbone, latent, timestep)
    if type(backbone).__name__ == "SD3Backbone":
        return model(latent, backbone.empty_prompt, backbone.pooled, at).sample
    if type(backbone).__name__ == "DiTBackbone":
        return model(latent, at, torch.tensor([model.config.num_embeds_ada_norm])).sample.chunk(2, dim=1)[0]
    added = {"resolution": torch.tensor([[height, width]]), "aspect_ratio": torch.tensor([[height / width]])}
    if not model.config.use_additional_conditions:
        added = {"resolution": None, "aspect_ratio": None}
    return model(latent, backbone.empty_prompt, at, added).sample.chunk(2, dim=1)[0]


def flux_prediction(backbone: Any, latent: Tensor, timestep: int) -> Tensor:
    _, channels, rows, columns = latent.shape
    tokens = backbone.transformer(
        FluxPipeline._pack_latents(latent, 1, channels, rows, columns),
        backbone.empty_prompt,
        backbone.pooled,
        torch.tensor([timestep / 1000]),
        FluxPipeline._prepare_latent_image_ids(1, rows // 2, columns // 2, "cpu", torch.float32),
        torch.zeros(backbone.empty_prompt.shape[1], 3),
        torch.ones(1) if backbone.transformer.config.guidance_embeds else None,
    ).sample
    return FluxPipeline._unpack_latents(tokens, 8 * rows, 8 * columns, 8)


def _on_grid_of(processor: ExplicitAttention, mask: Tensor, clean: Tensor) -> Tensor:
    """The mask as one scalar per token of the layer, (1, N, 1), the layer's grid being a halving of the latent's."""
    tokens = processor.tokens
    height, width = next(
        (clean.shape[2] // 2**n, clean.shape[3] // 2**n)
        for n in range(4)
        if clean.shape[2] // 2**n * (clean.shape[3] // 2**n) == tokens
    )
    return interpolate(mask[None, None], size=(height, width), mode="bilinear").reshape(1, tokens, 1)
