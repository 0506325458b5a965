"""FLOPs counted, and what the paper's settings cost at Stable Diffusion 1.x's size, on PyTorch's meta device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.studies.sizes import SD1, SD1_PROMPT, SD_VAE, sd_schedule
from emerdiff import Backbone, EmerDiffConfig
from emerdiff.affinity import Affinity, affinity_modules, affinity_of
from emerdiff.attention import first_outputs, shared_attention
from emerdiff.backbones.parts import with_transposed_upsampling
from emerdiff.backbones.unet import UNetBackbone
from emerdiff.prefix import recorded_prefix, resumed_after
from emerdiff.speed import SPEEDS


def counted(call: Callable[[], object]) -> int:
    """FLOPs of a call, multiply and add as two."""
    with FlopCounterMode(display=False) as counter:
        call()
    return int(counter.get_total_flops())


@torch.no_grad()
def paper_costs(clusters: int = 30, timesteps: int = 15, batch: int = 16) -> dict[str, Any]:
    """TFLOP of each kind of call of Stable Diffusion 1.x at 512×512, for one item, and of each mode altogether.

    A call for a batch shares one softmax: `batch` items bear its cost together.
    """
    with torch.device("meta"):
        unet, vae = UNet2DConditionModel(**SD1).eval(), AutoencoderKL(**SD_VAE).eval()
        latents, prompts = torch.empty(batch, 4, 64, 64), torch.empty(batch, *SD1_PROMPT)
        timestep, offsets = torch.zeros(()), torch.empty(batch, 16, 16)

    backbone = UNetBackbone(unet, vae, prompts[:1], sd_schedule())

    def unet_call(count: int = 1) -> object:
        return unet(latents[:count], timestep, prompts[:count])

    def until(modules: list[Any]) -> int:
        def call() -> None:
            with first_outputs(modules):
                unet_call()

        return counted(call)

    defaults = EmerDiffConfig(model="meta")
    layer = unet.get_submodule(defaults.modulation_layer)
    plain = {"unet": counted(unet_call), "decode": counted(lambda: vae.decode(latents[:1]))}
    with_transposed_upsampling(unet)
    with_transposed_upsampling(vae)
    with shared_attention(unet):
        with recorded_prefix(unet, layer) as prefix:
            first = counted(unet_call)
        with resumed_after(prefix, offsets, (64, 64)):
            tail = counted(lambda: unet_call(batch)) // batch
        follower = counted(lambda: unet_call(batch)) // batch
    parts = {
        "encode": counted(lambda: vae.encode(torch.empty(1, 3, 512, 512, device="meta"))),
        "unet, as the paper": plain["unet"],
        "decode, as the paper": plain["decode"],
        "unet": first,
        "follower": follower,
        "tail": tail,
        "decode": counted(lambda: vae.decode(latents[:1])),
        "features": until([unet.get_submodule(defaults.feature_layer).to_q]),
        "affinity": until(affinity_modules(backbone)),
        "spread": counted(lambda: _meta_affinity(backbone).spread(torch.empty(clusters, 16, 16, device="meta"))),
    }
    trajectories, passes = 2 * clusters, SPEEDS["fast"].passes
    instant = parts["encode"] + parts["features"] + parts["affinity"] + parts["spread"]
    modes = {
        "reference": parts["encode"]
        + (1 + timesteps + trajectories * timesteps) * parts["unet, as the paper"]
        + trajectories * parts["decode, as the paper"],
        "exact": parts["encode"]
        + parts["features"]
        + timesteps * parts["unet"]
        + trajectories * (parts["tail"] + (timesteps - 1) * parts["follower"] + parts["decode"]),
        "fast": instant + parts["unet"] + passes * parts["tail"],
        "instant": instant,
    }
    return {
        "clusters": clusters,
        "timesteps": timesteps,
        "parts_tflop": {name: count / 1e12 for name, count in parts.items()},
        "modes_tflop": {name: count / 1e12 for name, count in modes.items()},
    }


def _meta_affinity(backbone: Backbone) -> Affinity:
    projections = [torch.empty(64 * 64, module.out_features, device="meta") for module in affinity_modules(backbone)]
    return affinity_of(backbone, projections, (64, 64))


def paper_table(paper: dict[str, Any]) -> str:
    """What `paper_costs` has counted, in Markdown."""
    modes = paper["modes_tflop"]
    lines = [f"K = {paper['clusters']}, {paper['timesteps']} timesteps from t_m, 512×512, as counted:", ""]
    lines += ["| mode | TFLOP | of the reference |", "|---" * 3 + "|"]
    lines += [f"| {mode} | {cost:.2f} | {cost / modes['reference']:.4f} |" for mode, cost in modes.items()]
    lines += ["", "One item of " + " · ".join(f"{name}: {cost:.3f}" for name, cost in paper["parts_tflop"].items())]
    return "\n".join(lines) + "\n"
