"""Checkpoints in one file are read as the folders that they were made of, and what is none is refused in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from first_names import first_names, load_weights
from safetensors.torch import load_file, save_file
from tiny_backbones import save_family
from tiny_emerdiff import picture, save_folder, tiny_config
from transformers import CLIPTextModel, CLIPTokenizer

from emerdiff import EmerDiff, fetch_weights
from emerdiff.backbone import load_backbone
from emerdiff.backbones.single import library_names
from emerdiff.checkpoint import LAYOUTS, PREFIXES, Head, layout_told
from emerdiff.fetch import local_weights
from emerdiff.layout import layout_of
from fusion.models.presets import mask_hash

# Parameters as they were published: of the UNet, and of the text tower.
PUBLISHED = {
    "sd1": (859_520_964, 123_060_480),
    "sd2": (865_910_724, 340_387_840),
    "sd2-v": (865_910_724, 340_387_840),
    "sdxl": (2_567_463_684, None),
    "sdxl-v": (2_567_463_684, None),
    "ssd1b": (1_331_334_404, None),
}
FAMILIES = ("sd1", "sd2", "sdxl")


def parts_of(folder: Path) -> dict[str, dict[str, torch.Tensor]]:
    return {path.name: load_weights(path) for path in sorted(folder.iterdir()) if any(path.glob("*.safetensors"))}


def save_checkpoint(folder: Path, file: Path, *, metadata: dict[str, str] | None = None, **more: torch.Tensor) -> Path:
    """The folder's weights as one file; text towers of 2.x, and the second of XL, are open_clip's."""
    tensors = first_names(parts_of(folder), open_clip=folder.name == "sd2") | more
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, file, metadata=metadata)
    return file


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """Weights in half precision, so that reading them copies: where they lie in memory decides the last bit."""
    root = tmp_path_factory.mktemp("folders")
    made = {name: save_folder(root / name, name) for name in ("sd1", "sd2")}
    made["sdxl"] = save_family(root / "sdxl", "sdxl")
    for file in root.glob("*/*/*.safetensors"):
        tensors = load_weights(file.parent)
        save_file({name: tensor.half() for name, tensor in tensors.items()}, file, metadata={"format": "pt"})
    return made


@pytest.fixture(scope="module")
def files(folders, tmp_path_factory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("files")
    return {name: save_checkpoint(folder, root / f"{name}.safetensors") for name, folder in folders.items()}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_is_the_folder_that_it_was_made_of_to_the_bit(folders, files, family):
    ours = load_backbone(files[family], layout=str(folders[family]), device="cpu")
    theirs = load_backbone(folders[family], device="cpu")
    for part in ("unet", "vae"):
        expected = getattr(theirs, part).state_dict()
        found = getattr(ours, part).state_dict()
        assert list(found) == list(expected)
        assert all(torch.equal(found[name], expected[name]) for name in expected)
    assert torch.equal(ours.empty_prompt, theirs.empty_prompt)
    assert ours.schedule == theirs.schedule
    assert ours.pooled is theirs.pooled is None or torch.equal(ours.pooled, theirs.pooled)
    pixels = torch.rand(1, 3, 64, 64) * 2 - 1
    latents = ours.encode(pixels)
    assert torch.equal(latents, theirs.encode(pixels))
    assert torch.equal(ours.predict(latents, 21), theirs.predict(latents, 21))


def test_masks_of_a_file_are_those_of_its_folder(folders, files):
    of_file = tiny_config(model=str(files["sd1"]), layout=str(folders["sd1"]), speed="fast")
    of_folder = tiny_config(model=str(folders["sd1"]), speed="fast")
    found, expected = (EmerDiff.from_config(each, device="cpu").segment(picture()) for each in (of_file, of_folder))
    assert np.array_equal(found.label_map, expected.label_map)
    assert np.array_equal(found.features, expected.features)


def test_the_averaged_weights_of_a_unet_are_taken_where_they_are(folders, tmp_path):
    unet = first_names(parts_of(folders["sd1"]))
    unet = {name: tensor for name, tensor in unet.items() if name.startswith("model.")}
    averages = {f"model_ema.{name.removeprefix('model.').replace('.', '')}": each + 1 for name, each in unet.items()}
    file = save_checkpoint(folders["sd1"], tmp_path / "ema.safetensors", **averages)
    found = load_backbone(file, layout=str(folders["sd1"]), device="cpu").unet.conv_in.bias
    assert torch.equal(found, (load_weights(folders["sd1"] / "unet")["conv_in.bias"] + 1).float())


def test_text_towers_may_lack_a_level_of_their_names(folders, files, tmp_path):
    """As merged files of Stable Diffusion 1.x do."""
    tensors = load_file(files["sd1"])
    named = {name.replace("transformer.text_model.", "transformer."): tensor for name, tensor in tensors.items()}
    save_file(named, tmp_path / "merged.safetensors")
    prompts = [
        load_backbone(file, layout=str(folders["sd1"]), device="cpu").empty_prompt
        for file in (files["sd1"], tmp_path / "merged.safetensors")
    ]
    assert torch.equal(*prompts)


def test_text_towers_of_open_clip_may_have_more_blocks_than_are_used(folders, files, tmp_path):
    tensors = load_file(files["sd2"])
    beyond = {
        name.replace("resblocks.1.", "resblocks.2."): tensor
        for name, tensor in tensors.items()
        if "resblocks.1." in name
    }
    file = save_checkpoint(folders["sd2"], tmp_path / "more.safetensors", **beyond)
    assert beyond and load_backbone(file, layout=str(folders["sd2"]), device="cpu")


def test_where_xl_was_trained_with_zeros_no_text_tower_is_needed(folders, files, tmp_path):
    layout = shutil.copytree(folders["sdxl"], tmp_path / "zeros")
    index = json.loads((layout / "model_index.json").read_text())
    (layout / "model_index.json").write_text(json.dumps({**index, "force_zeros_for_empty_prompt": True}))
    tensors = {name: each for name, each in load_file(files["sdxl"]).items() if not name.startswith("conditioner.")}
    save_file(tensors, tmp_path / "bare.safetensors")
    backbone = load_backbone(tmp_path / "bare.safetensors", layout=str(layout), device="cpu")
    assert not backbone.empty_prompt.any() and not backbone.pooled.any()


def published(name: str) -> dict[str, Any]:
    """The models of a layout, without numbers in them."""

    def made(cls: Any, part: str) -> Any:
        if part == "text_encoder":
            return cls(cls.config_class.from_pretrained(LAYOUTS / name, subfolder=part))
        return cls.from_config(cls.load_config(LAYOUTS / name, subfolder=part))

    classes = {"unet": UNet2DConditionModel, "vae": AutoencoderKL, "text_encoder": CLIPTextModel}
    with torch.device("meta"):
        return {part: made(classes[part], part) for part in layout_of(LAYOUTS / name).parts}


def shapes_of(tensors: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name.removeprefix("text_model."): tuple(tensor.shape) for name, tensor in tensors.items()}


@pytest.mark.parametrize("name", PUBLISHED)
def test_layouts_are_the_published_models_and_are_told_by_their_names(name):
    models = published(name)
    count = {part: sum(each.numel() for each in model.parameters()) for part, model in models.items()}
    assert (count["unet"], count.get("text_encoder"), count["vae"]) == (*PUBLISHED[name], 83_653_863)
    named = first_names({part: model.state_dict() for part, model in models.items()}, name.startswith("sd2"))
    for part, model in models.items():
        own = {key: each for key, each in named.items() if key.startswith(PREFIXES[part])}
        assert shapes_of(library_names(part, own, model.config)) == shapes_of(model.state_dict())
    more = {"v_pred": (), "ztsnr": ()} if name == "sdxl-v" else {}
    says = {"modelspec.prediction_type": "v" if name.endswith("-v") else "epsilon"}
    assert layout_told(Path("a"), Head(shapes_of(named) | more, says)) == name


def head(count: int, width: int, *more: str, says: str | None = None) -> Head:
    """Of a UNet of so many tensors that takes texts so wide."""
    prefix = "model.diffusion_model."
    shapes = {f"{prefix}{number}": (1,) for number in range(count - 1)}
    shapes |= {f"{prefix}1.attn2.to_k.weight": (8, width), **{name: () for name in more}}
    return Head(shapes, {} if says is None else {"modelspec.prediction_type": says})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (head(686, 1024), r"Stable Diffusion 2\.x and does not say .* set emerdiff\.layout to sd2 .* or sd2-v"),
        (head(1680, 2048, "v_pred"), r"is sdxl and predicts v, .* set emerdiff\.layout to sdxl-v"),
        (head(686, 768, says="v"), r"is sd1 and predicts v, .* or to a folder of diffusers with its scheduler"),
        (head(1680, 2048, "edm_mean"), r"holds an EDM model: expected one of sd1, sd2, sdxl, ssd1b, or set"),
        (head(700, 768), r"holds a UNet of 700 tensors that takes texts 768 wide: expected one of sd1, sd2"),
    ],
)
def test_what_a_head_does_not_tell_is_asked_for(given, message):
    with pytest.raises(ValueError, match=message) as caught:
        layout_told(Path("a.safetensors"), given)
    assert "\n" not in str(caught.value)


def test_tokens_of_the_empty_prompt():
    """Begin, end, and what fills up: the end again in 1.x, "!" in 2.x."""
    for name, fill in {"sd1": 49407, "sd2": 0, "sd2-v": 0}.items():
        tokenizer = CLIPTokenizer.from_pretrained(LAYOUTS / name, subfolder="tokenizer")
        ids = tokenizer("", padding="max_length", max_length=77, truncation=True).input_ids
        assert ids == [49406, 49407, *[fill] * 75]


def test_schedules_of_the_layouts():
    def schedule(name: str) -> DDPMScheduler:
        return DDPMScheduler.from_pretrained(LAYOUTS / name, subfolder="scheduler")

    for name in ("sd1", "sd2", "sdxl", "ssd1b"):
        assert schedule(name).config.prediction_type == "epsilon"
        assert schedule(name).alphas_cumprod[-1].item() == pytest.approx(0.00466, abs=1e-5)
    assert schedule("sd2-v").config.prediction_type == schedule("sdxl-v").config.prediction_type == "v_prediction"
    assert torch.equal(schedule("sd2-v").alphas_cumprod, schedule("sd2").alphas_cumprod)
    assert schedule("sdxl-v").alphas_cumprod[-1] == 0


OTHERS = {
    "a LoRA, which changes a model and is none": ["lora_unet_mid_block.lora_up.weight"],
    "a ControlNet": ["control_model.input_blocks.0.0.weight"],
    "a textual inversion": ["emb_params"],
    "a FLUX transformer": ["double_blocks.0.img_attn.proj.weight"],
    "a transformer of Stable Diffusion 3": ["model.diffusion_model.joint_blocks.0.x"],
    "a UNet alone, under its names in diffusers": ["down_blocks.0.resnets.0.conv1.weight"],
    "a VAE alone": ["encoder.conv_in.weight"],
    "a UNet and a text encoder": ["model.diffusion_model.out.2.bias", "cond_stage_model.transformer.x"],
    "a VAE": ["first_stage_model.quant_conv.weight"],
    "nothing that is known": ["x"],
}


@pytest.mark.parametrize("what", OTHERS)
def test_files_of_something_else_say_what_it_is(tmp_path, what):
    file = tmp_path / "a.safetensors"
    save_file({name: torch.zeros(1) for name in OTHERS[what]}, file)
    with pytest.raises(ValueError, match=rf"a\.safetensors holds {what}: expected a whole checkpoint") as caught:
        fetch_weights(tiny_config(model=str(file)), download=True)
    assert "\n" not in str(caught.value)


def changed(files, tmp_path, family: str, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    tensors = load_file(files[family])
    change(tensors)
    save_file(tensors, tmp_path / "changed.safetensors")
    return tmp_path / "changed.safetensors"


UNET = "model.diffusion_model."


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda tensors: tensors.update({f"{UNET}input_blocks.0.0.weight": torch.zeros(8, 9, 3, 3)}),
            r"takes 9 channels, expected 4, as the VAE gives: models for inpainting",
        ),
        (
            lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("cond_stage")],
            r"holds a UNet and a VAE, and lacks a text encoder: expected a whole checkpoint",
        ),
        (
            lambda tensors: tensors.pop(f"{UNET}out.2.bias"),
            r"unet needs 1 tensors that .*changed\.safetensors lacks, such as conv_out\.bias",
        ),
        (
            lambda tensors: tensors.update({f"{UNET}out.2.bias": torch.zeros(5)}),
            r"unet needs 1 tensors that .*changed\.safetensors lacks, such as conv_out\.bias",
        ),
        (
            lambda tensors: tensors.update({f"{UNET}input_blocks.1.0.in_layers.2.scale_weight": torch.zeros(1)}),
            r"has 1 tensors that its UNet does not know, such as model\.diffusion_model\.input_blocks\.1\.0\.in_",
        ),
        (
            lambda tensors: tensors.update({f"{UNET}label_emb.0.0.weight": torch.zeros(1)}),
            r"has 1 tensors that its UNet does not know, such as model\.diffusion_model\.label_emb\.0\.0\.weight",
        ),
        (
            lambda tensors: tensors.pop("first_stage_model.decoder.conv_out.weight"),
            r"vae needs 1 tensors that .*changed\.safetensors lacks, such as decoder\.conv_out\.weight",
        ),
        (
            lambda tensors: tensors.pop("cond_stage_model.transformer.text_model.final_layer_norm.bias"),
            r"text_encoder needs 1 tensors that .* lacks, such as (text_model\.)?final_layer_norm\.bias",
        ),
    ],
)
def test_a_file_that_is_not_whole_is_one_line(folders, files, tmp_path, change, message):
    file = changed(files, tmp_path, "sd1", change)
    with pytest.raises(ValueError, match=message) as caught:
        EmerDiff.from_config(tiny_config(model=str(file), layout=str(folders["sd1"])), device="cpu")
    assert "\n" not in str(caught.value)


def test_a_file_of_another_size_than_its_layout_is_one_line(files):
    with pytest.raises(ValueError, match=r"unet needs \d+ tensors that .*sd1\.safetensors lacks, such as") as caught:
        load_backbone(files["sd1"], layout="sd1", device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".ckpt", ".pt", ".bin"])
def test_pickled_checkpoints_are_refused(tmp_path, suffix):
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"0")
    with pytest.raises(ValueError, match=rf"a{suffix} is pickled and refused, as it can run code: expected a \.safe"):
        fetch_weights(tiny_config(model=str(file)), download=True)


def test_files_that_are_not_there_cut_off_or_pointers(files, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"^no checkpoint .*nowhere\.safetensors$"):
        fetch_weights(tiny_config(model=str(tmp_path / "nowhere.safetensors")), download=True)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(files["sd1"].read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"cut\.safetensors is cut off, damaged or no safetensors file"):
        fetch_weights(tiny_config(model=str(cut)), download=True)


def test_layouts_that_are_none_say_what_there_is(folders, files, tmp_path):
    def fetch(model: Path, layout: Path | str) -> Path:
        return fetch_weights(tiny_config(model=str(model), layout=str(layout)), download=False)

    assert fetch(files["sd1"], folders["sd1"]) == files["sd1"]
    with pytest.raises(ValueError, match=r"emerdiff\.layout is 'sd9', expected one of sd1, sd2, sd2-v, .* or a folder"):
        fetch(files["sd1"], "sd9")
    with pytest.raises(ValueError, match=r"emerdiff\.layout is .*sd3', a sd3 model: single files are read for UNets"):
        fetch(files["sd1"], save_family(tmp_path / "sd3", "sd3"))
    with pytest.raises(ValueError, match=r"emerdiff\.layout is of a model in one file, which emerdiff\.model, "):
        fetch(folders["sd1"], "sd1")


def test_a_file_counts_in_the_hash_of_masks_as_a_folder_does(files, tmp_path):
    file = shutil.copy(files["sd1"], tmp_path / "a.safetensors")
    config = tiny_config(model=str(file), layout="sd1")
    assert local_weights(config) == [file]
    before = mask_hash(config, "emerdiff")
    shutil.copy(files["sd2"], file)
    assert mask_hash(config, "emerdiff") != before
