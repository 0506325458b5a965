"""Checkpoints in one file, as image generators share them: a .safetensors file → the folder of configs it is read with.

Such a file holds weights alone, under the names of the models' first releases. Which model it is, is told by the names
and shapes in its head; nothing is loaded, and nothing is asked of a hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from emerdiff.layout import INDEX, layout_of
from ground.paths import user_path
from ground.weights import check_whole

SUFFIX = ".safetensors"
PICKLES = (".ckpt", ".pt", ".pth", ".bin")
LAYOUTS = Path(__file__).parent / "layouts"
# How the names of a part's tensors begin.
PREFIXES: dict[str, tuple[str, ...]] = {
    "unet": ("model.diffusion_model.",),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("cond_stage_model.", "conditioner.embedders.0."),
    "text_encoder_2": ("conditioner.embedders.1.",),
}
_WORDS = {"unet": "a UNet", "vae": "a VAE", "text_encoder": "a text encoder", "text_encoder_2": "a second text encoder"}

# How many tensors the UNet has, and how wide the texts are that it takes → the folder in LAYOUTS.
_UNETS = {(686, 768): "sd1", (686, 1024): "sd2", (1680, 2048): "sdxl", (944, 2048): "ssd1b"}
# What else comes as one file: a pattern of its tensors' names, and what it is.
_OTHERS = {
    r"lora_|\.lora|hada_w1|lokr_w1": "a LoRA, which changes a model and is none",
    r"^control_model\.|^input_hint_block\.": "a ControlNet",
    r"^string_to_param|^emb_params": "a textual inversion",
    r"double_blocks\.\d+\.img_attn": "a FLUX transformer",
    r"joint_blocks\.\d+\.": "a transformer of Stable Diffusion 3",
    r"^(down_blocks|mid_block|up_blocks)\.": "a UNet alone, under its names in diffusers",
    r"^(encoder|decoder)\.(mid|mid_block|conv_in)\.": "a VAE alone",
}
_EXPECTED = "expected a whole checkpoint of Stable Diffusion 1.x, 2.x, XL or SSD-1B: UNet, VAE and text encoder"


@dataclass(frozen=True)
class Head:
    """What a .safetensors file says of itself."""

    shapes: Mapping[str, tuple[int, ...]]  # of its tensors
    metadata: Mapping[str, str] = field(default_factory=dict)

    def prefix(self, part: str) -> str | None:
        """How the names of a part's tensors begin in this file; None: it has none."""
        return next((each for each in PREFIXES[part] if any(name.startswith(each) for name in self.shapes)), None)

    @property
    def unet(self) -> dict[str, tuple[int, ...]]:
        """The UNet's tensors, without their prefix."""
        prefix = PREFIXES["unet"][0]
        return {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)}


def names_file(model: str) -> bool:
    """Whether a config's model names a file rather than a folder or a repository."""
    return user_path(model).suffix.lower() in (SUFFIX, *PICKLES)


def checked_file(model: str, layout: str | None) -> Path:
    """The file of a config's model, as far as its head tells whether it can be loaded; see `configs_of`.

    FileNotFoundError if it is not there; ValueError, in one line, for one that is pickled.
    """
    file = user_path(model)
    if not file.is_file():
        raise FileNotFoundError(f"no checkpoint {file}")
    if file.suffix.lower() != SUFFIX:
        raise ValueError(f"{file} is pickled and refused, as it can run code: expected a {SUFFIX} file or a folder")
    configs_of(file, layout)
    return file


def configs_of(file: Path, layout: str | None) -> Path:
    """The folder of diffusers, its weights apart, that a checkpoint is read with.

    `layout` is the name of a folder in LAYOUTS or the path of one; None: what the file's head tells. ValueError, in one
    line with what was found, for a file that is no whole model, one that takes more than a noised image, one whose head
    does not tell, and a layout that is none.
    """
    head = read_head(file)
    _check_model(file, head)
    folder = LAYOUTS / layout_told(file, head) if layout is None else _named(layout)
    needed = [part for part in layout_of(folder).parts if head.prefix(part) is None]
    if needed:
        raise ValueError(f"{file} holds {_parts(head)}, and lacks {_WORDS[needed[0]]}: {_EXPECTED}")
    return folder


def read_head(file: Path) -> Head:
    """Names, shapes and metadata; ValueError for a file that is cut off or no safetensors file."""
    from safetensors import safe_open

    check_whole(file)
    with safe_open(file, framework="numpy") as tensors:
        shapes = {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}  # noqa: SIM118
        return Head(shapes, tensors.metadata() or {})


def _check_model(file: Path, head: Head) -> None:
    """ValueError unless there are a UNet and a VAE, and the one takes what the other gives and no more."""
    if not head.unet or head.prefix("vae") is None:
        others = [what for pattern, what in _OTHERS.items() if any(re.search(pattern, name) for name in head.shapes)]
        raise ValueError(f"{file} holds {(others or [_parts(head)])[0]}: {_EXPECTED}")
    taken = head.unet.get("input_blocks.0.0.weight", ())
    given = head.shapes.get(f"{head.prefix('vae')}decoder.conv_in.weight", ())
    if len(taken) == len(given) == 4 and taken[1] != given[1]:
        raise ValueError(
            f"the UNet of {file} takes {taken[1]} channels, expected {given[1]}, as the VAE gives: models for "
            "inpainting, editing, depth or upscaling take more than a noised image"
        )


def layout_told(file: Path, head: Head) -> str:
    """The name of the layout in LAYOUTS; ValueError if the head does not tell."""
    width = next((shape[-1] for name, shape in head.unet.items() if name.endswith("attn2.to_k.weight")), 0)
    name = _UNETS.get((len(head.unet), width))
    if name is None or any(name.startswith("edm_") for name in head.shapes):
        what = f"a UNet of {len(head.unet)} tensors that takes texts {width} wide" if name is None else "an EDM model"
        raise ValueError(f"{file} holds {what}: expected one of {', '.join(_UNETS.values())}, or set emerdiff.layout")
    says = head.metadata.get("modelspec.prediction_type")
    if says == "v" or "v_pred" in head.shapes:
        if name == "sd2" or (name == "sdxl" and "ztsnr" in head.shapes):
            return f"{name}-v"
        raise ValueError(
            f"{file} is {name} and predicts v, by a schedule that it does not tell: set emerdiff.layout to sdxl-v (XL, "
            "the schedule ends in pure noise) or to a folder of diffusers with its scheduler"
        )
    if name == "sd2" and says != "epsilon":
        raise ValueError(
            f"{file} is Stable Diffusion 2.x and does not say what it predicts: set emerdiff.layout to sd2 (2.0-base, "
            "2.1-base: the noise, 512 px) or sd2-v (2.0, 2.1: v, 768 px)"
        )
    return name


def _named(layout: str) -> Path:
    names = sorted(path.parent.name for path in LAYOUTS.glob(f"*/{INDEX}"))
    if layout in names:
        return LAYOUTS / layout
    folder = user_path(layout)
    if not (folder / INDEX).is_file():
        raise ValueError(f"emerdiff.layout is {layout!r}, expected one of {', '.join(names)}, or a folder of diffusers")
    if (family := layout_of(folder).family) != "unet":
        raise ValueError(f"emerdiff.layout is {layout!r}, a {family} model: single files are read for UNets alone")
    return folder


def _parts(head: Head) -> str:
    """What is there of a model, in words."""
    found = [_WORDS[part] for part in PREFIXES if head.prefix(part) is not None]
    return " and ".join(found) if found else "nothing that is known"
