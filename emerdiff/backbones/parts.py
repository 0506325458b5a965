"""Parts of a model's folder: what the families load from it, each checked, in the dtype and on the device asked for."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, DDPMScheduler, VQModel
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from emerdiff.backbones.single import checkpoint_part
from emerdiff.fetch import weights_files, weights_variant
from emerdiff.layout import Layout, layout_of
from emerdiff.schedule import FlowSchedule, NoiseSchedule, Schedule
from emerdiff.upsample import TransposedUpsample
from ground.weights import check_whole, loading

# Of a scheduler's config: the library would take its own defaults for what is missing.
_NOISE_SETTINGS = ("num_train_timesteps", "beta_schedule")


@dataclass(frozen=True)
class Parts:
    """A diffusers folder whose parts are loaded one by one; each method raises ValueError in one line for its part."""

    folder: Path  # with `checkpoint` of the configs alone
    decoder_folder: Path | None  # of an AutoencoderTiny that decodes in place of the VAE
    variant: str | None  # of weights files, to be preferred
    device: torch.device
    dtype: torch.dtype  # of the denoiser
    checkpoint: Path | None = None  # a file with the weights of all parts

    @property
    def layout(self) -> Layout:
        return layout_of(self.folder)

    def config(self, part: str) -> dict[str, Any]:
        """The config of a part as it stands in the folder, without the defaults of libraries."""
        path = self.folder / part / "config.json"
        with loading(f"{self.folder / part}"):
            return dict(json.loads(path.read_text(encoding="utf-8")))

    def loaded(self, cls: Any, part: str, dtype: torch.dtype, folder: Path | None = None) -> Any:
        """A model on the CPU, in eval mode."""
        if self.checkpoint is not None and folder is None:
            return checkpoint_part(cls, self.checkpoint, self.folder, part, dtype)
        return load_part(cls, folder or self.folder, part, dtype, self.variant if folder is None else None)

    def denoiser(self, cls: Any, part: str) -> Any:
        """A frozen model of diffusers, as it computes best."""
        return lean(self.loaded(cls, part, self.dtype).to(self.device))

    @property
    def _image_dtype(self) -> torch.dtype:
        # bfloat16 steps through the range of an image in 1/256: as large as the differences that masks are made of.
        return torch.float32 if self.dtype == torch.bfloat16 else self.dtype

    def vae(self, *, may_overflow: bool = False) -> Any:
        """What encodes and decodes; in float32 if it `may_overflow` in float16, and its config says that it does."""
        config = self.config("vae")
        dtype = torch.float32 if may_overflow and config.get("force_upcast") else self._image_dtype
        cls = VQModel if config.get("_class_name") == "VQModel" else AutoencoderKL
        return lean(self.loaded(cls, "vae", dtype).to(self.device))

    def decoder(self) -> Any:
        if (folder := self.decoder_folder) is None:
            return None
        tiny = self.loaded(AutoencoderTiny, folder.name, self._image_dtype, folder.parent)
        return lean(tiny.to(self.device))

    def noise_schedule(self) -> NoiseSchedule:
        """Any scheduler's config will do: only what it says of the training is read."""
        scheduler, named = self._scheduler()
        if missing := [key for key in _NOISE_SETTINGS if key not in named]:
            raise ValueError(
                f"{self.folder / 'scheduler' / 'scheduler_config.json'} has no {missing[0]}: expected that of a model "
                "that was trained to remove noise"
            )
        return NoiseSchedule(
            alphas_cumprod=tuple(scheduler.alphas_cumprod.double().tolist()),
            prediction_type=scheduler.config.prediction_type,
        )

    def schedule(self) -> Schedule:
        """Of noise or of a flow, as the scheduler's config says."""
        scheduler, named = self._scheduler()
        if named.get("_class_name", "").startswith("FlowMatch"):
            return FlowSchedule(scheduler.config.num_train_timesteps)
        return self.noise_schedule()

    def _scheduler(self) -> tuple[Any, dict[str, Any]]:
        """Whatever it is called, and its config without the library's defaults."""
        with loading(f"{self.folder / 'scheduler'}"):
            scheduler = DDPMScheduler.from_pretrained(self.folder, subfolder="scheduler")
            return scheduler, DDPMScheduler.load_config(self.folder, subfolder="scheduler")

    def sent(self, condition: Tensor) -> Tensor:
        """What the denoiser is conditioned on, in its dtype and on its device."""
        return condition.to(self.device, self.dtype)


def lean(model: nn.Module) -> nn.Module:
    """The model, frozen, in the layout of memory and with the layers that are the quickest for the same output."""
    return with_transposed_upsampling(model.requires_grad_(False)).to(memory_format=torch.channels_last)


def with_transposed_upsampling(model: nn.Module) -> nn.Module:
    """The model with every upsampling by two and 3×3 convolution as one layer: the same output for less."""
    for name, layer in list(model.named_modules()):
        if (
            isinstance(layer, Upsample2D)
            and layer.use_conv
            and not layer.use_conv_transpose
            and layer.interpolate
            and layer.norm is None
            and layer.name == "conv"
            and layer.conv.kernel_size == (3, 3)
        ):
            model.set_submodule(name, TransposedUpsample(layer.conv))
    return model


def load_part(cls: Any, folder: Path, part: str, dtype: torch.dtype, variant: str | None) -> Any:
    """A model of a diffusers folder, on the CPU, in eval mode; ValueError unless all its tensors are there."""
    for file in weights_files(folder, part, variant):
        check_whole(file)
    with loading(f"{folder / part}"):
        model, info = cls.from_pretrained(
            folder,
            subfolder=part,
            torch_dtype=dtype,
            use_safetensors=True,
            variant=weights_variant(folder, part, variant),
            ignore_mismatched_sizes=True,  # so that the tensors are named below
            output_loading_info=True,
        )
    # In their place libraries leave random numbers, and warn; releases differ in what they tell of another shape.
    mismatched = [found if isinstance(found, str) else found[0] for found in info["mismatched_keys"]]
    random = sorted([*info["missing_keys"], *mismatched])
    if random:
        files = ", ".join(file.name for file in weights_files(folder, part, variant))
        raise ValueError(f"{folder / part} needs {len(random)} tensors that {files} lacks, such as {random[0]}")
    return model.eval()
