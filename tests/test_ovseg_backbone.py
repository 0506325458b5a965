"""Loading: real folder layouts work offline; what is missing, pickled or unsupported is said in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_ovseg import (
    MEAN,
    STD,
    VIT_B16_SHAPED,
    save_local_dir,
    save_with_bert,
    save_with_own_tokenizer,
    tiny_backbone,
)

from ground.weights import WeightsMissing
from ovseg import OpenVocabSegmenter, OvsegConfig
from ovseg.backbone import Backbone, fetch_weights, load_backbone
from ovseg.choices import DenseVariant
from ovseg.fetch import local_weights

IMAGE = np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_local_dir(tmp_path / "model", VIT_B16_SHAPED)
    return tmp_path / "model"


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache; nothing of the machine's own is seen."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    return tmp_path / "hub"


def test_a_vit_b16_shaped_folder_loads_as_open_clip_loads_it(folder: Path) -> None:
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{folder}"), device="cpu")
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    own = model.state_dict()
    assert all(torch.equal(tensor, own[name]) for name, tensor in backbone.model.state_dict().items())
    assert (backbone.mean, backbone.std, backbone.patch_hw) == (MEAN, STD, (16, 16))
    assert backbone.logit_scale == pytest.approx(1 / 0.07, rel=1e-3)
    assert not backbone.model.training
    texts = ["a photo of a cat", "grass"]
    expected = model.eval().encode_text(open_clip.tokenize(texts), normalize=True)
    np.testing.assert_allclose(backbone.encode_text(texts), expected.detach(), atol=1e-6)


def test_prompts_are_encoded_in_batches_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, texts = tiny_backbone(), [f"word {i}" for i in range(7)]
    together = backbone.encode_text(texts)
    monkeypatch.setattr("ovseg.backbone.TEXT_BATCH", 3)
    np.testing.assert_allclose(backbone.encode_text(texts), together, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_a_folder_with_its_own_tokenizer_loads_offline(tmp_path: Path) -> None:
    save_with_own_tokenizer(tmp_path)
    segmenter = OpenVocabSegmenter.from_config(OvsegConfig(model=f"local-dir:{tmp_path}", image_size=64))
    ids = segmenter.backbone.tokenizer(["Cat", "naïve 猫 " * 20])
    assert ids.shape == (2, 32) and ids.max() == 514
    assert segmenter.segment(IMAGE, ["cat", "grass"]).label_map.shape == (60, 90)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision_stays_near_float32_and_the_logits_are_float32(folder: Path, dtype: str) -> None:
    config = OvsegConfig(model=f"local-dir:{folder}", image_size=64, templates="simple")
    segmenters = [OpenVocabSegmenter.from_config(config, device="cpu", dtype=name) for name in (dtype, "float32")]
    assert segmenters[0].backbone.model.visual.proj.dtype == getattr(torch, dtype)
    assert segmenters[0].backbone.logit_scale == segmenters[1].backbone.logit_scale
    half, full = (segmenter.segment(IMAGE, ["cat", "sky", "tree"]) for segmenter in segmenters)
    assert half.logits.dtype == half.embeddings.dtype == half.text_embeddings.dtype == np.float32
    assert (half.embeddings * full.embeddings).sum(axis=0).min() > 0.99
    assert (half.text_embeddings * full.text_embeddings).sum(axis=1).min() > 0.99


def test_layer_scale_works_in_half_precision(tmp_path: Path) -> None:
    vision_cfg = VIT_B16_SHAPED["vision_cfg"] | {"ls_init_value": 0.1}
    save_local_dir(tmp_path, VIT_B16_SHAPED | {"vision_cfg": vision_cfg})
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{tmp_path}"), device="cpu", dtype="float16")
    for variant in DenseVariant.values():
        assert np.isfinite(backbone.encode_patches(np.zeros((1, 3, 32, 48), np.float32), variant)).all()


def test_the_stride_of_a_vit_is_its_patch(tmp_path: Path) -> None:
    save_local_dir(tmp_path, VIT_B16_SHAPED)
    with pytest.raises(ValueError, match=r"ovseg.output_stride is 8, expected null for a ViT"):
        load_backbone(OvsegConfig(model=f"local-dir:{tmp_path}", output_stride=8), device="cpu")


def test_weights_of_an_overlay_take_the_places_of_the_models_own(tmp_path: Path) -> None:
    folder, file = tmp_path / "model", tmp_path / "other.safetensors"
    save_local_dir(folder, VIT_B16_SHAPED)
    config = OvsegConfig(model=f"local-dir:{folder}", overlay=str(file))
    with pytest.raises(FileNotFoundError, match=r"no weights file .*other.safetensors"):
        load_backbone(config, device="cpu")
    own = load_backbone(replace(config, overlay=None), device="cpu").model.state_dict()
    save_file({"visual.proj": own["visual.proj"] + 1}, file)
    changed = load_backbone(config, device="cpu").model.state_dict()
    assert {name for name in own if not torch.equal(own[name], changed[name])} == {"visual.proj"}
    torch.testing.assert_close(changed["visual.proj"], own["visual.proj"] + 1)
    assert local_weights(config) == [folder / "open_clip_model.safetensors", file]
    save_file({"visual.proj": own["visual.proj"][:2], "visual.more": torch.zeros(1)}, file)
    with pytest.raises(
        ValueError, match=r"weights that the model has not, or in another shape: visual.more, visual.pr"
    ):
        load_backbone(config, device="cpu")


@pytest.mark.parametrize(("overlay", "error"), [("builtin:none", FileNotFoundError), ("weights.bin", ValueError)])
def test_an_overlay_that_cannot_be_is_refused(tmp_path: Path, overlay: str, error: type[Exception]) -> None:
    save_local_dir(tmp_path, VIT_B16_SHAPED)
    with pytest.raises(
        error, match=r"no built-in model 'none'|ovseg.overlay is 'weights.bin', expected a .safetensors"
    ):
        load_backbone(OvsegConfig(model=f"local-dir:{tmp_path}", overlay=overlay), device="cpu")


def test_a_hub_model_comes_from_the_cache_and_without_network(folder: Path, hub_cache: Path) -> None:
    snapshot = hub_cache / "models--org--repo" / "snapshots" / REVISION
    shutil.copytree(folder, snapshot)
    config = OvsegConfig(model="hf-hub:org/repo", revision=REVISION)
    assert fetch_weights(config, download=False) == f"local-dir:{snapshot}"
    assert load_backbone(config, device="cpu").patch_hw == (16, 16)
    (snapshot / "open_clip_model.safetensors").unlink()
    with pytest.raises(WeightsMissing, match=r"open_clip_model.safetensors missing in .*snapshots"):
        load_backbone(config)


def test_a_tag_of_open_clip_is_looked_up_in_the_cache(hub_cache: Path) -> None:
    config = OvsegConfig(model="ViT-B-16-quickgelu", pretrained="openai", revision=REVISION)
    with pytest.raises(FileNotFoundError, match=r"timm/vit_base_patch16_clip_224.openai .*open_clip_model.safe"):
        fetch_weights(config, download=False)
    cached = hub_cache / "models--timm--vit_base_patch16_clip_224.openai" / "snapshots" / REVISION
    cached.mkdir(parents=True)
    (cached / "open_clip_model.safetensors").touch()
    assert fetch_weights(config, download=False) == str(cached / "open_clip_model.safetensors")


def test_a_named_architecture_takes_a_safetensors_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-b16", VIT_B16_SHAPED)
    saved = save_local_dir(tmp_path / "model", VIT_B16_SHAPED)
    config = OvsegConfig(model="tiny-b16", pretrained=str(tmp_path / "model" / "open_clip_model.safetensors"))
    backbone = load_backbone(config, device="cpu")
    assert torch.equal(backbone.model.visual.proj, saved.visual.proj)
    assert backbone.mean == open_clip.OPENAI_DATASET_MEAN


def test_a_tag_brings_its_own_pixels_and_activation(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = {"hf_hub": "org/tiny/", "url": "", "mean": MEAN, "std": STD, "quick_gelu": True}
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "tiny-b16", VIT_B16_SHAPED)
    monkeypatch.setitem(open_clip.pretrained._PRETRAINED, "tiny-b16", {"sketch": published})
    save_local_dir(hub_cache / "models--org--tiny" / "snapshots" / REVISION, VIT_B16_SHAPED)
    config = OvsegConfig(model="tiny-b16", pretrained="sketch", revision=REVISION)
    backbone = load_backbone(config, device="cpu")
    assert (backbone.mean, backbone.std) == (MEAN, STD)
    assert type(backbone.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


def test_missing_weights_are_one_line_with_files_size_and_licence(hub_cache: Path) -> None:
    config = OvsegConfig(model="hf-hub:org/repo", license="MIT", download_mb=599)
    with pytest.raises(WeightsMissing) as caught:
        load_backbone(config)
    error, message = caught.value, str(caught.value)
    assert (error.model, error.size_mb, error.license, error.revision) == ("org/repo", 599, "MIT", None)
    assert "\n" not in message and "emerseg" not in message
    for part in ("org/repo", "open_clip_config.json, open_clip_model.safetensors", "599 MB", "licence: MIT", "HF_HOME"):
        assert part in message


def test_a_download_in_offline_mode_says_why_it_fails(hub_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(FileNotFoundError, match=r"of org/repo .*the download failed: .*HF_HUB_OFFLINE") as caught:
        fetch_weights(OvsegConfig(model="hf-hub:org/repo"), download=True)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (OvsegConfig(model="ViT-B-61"), "ovseg.model is 'ViT-B-61', expected .*; the nearest names: .*ViT-B-16"),
        (OvsegConfig(model="ViT-B-16"), "pretrained is missing, expected .* of ViT-B-16: .*openai"),
        (OvsegConfig(model="ViT-B-16", pretrained="x"), "pretrained is 'x', expected .*openai"),
        (OvsegConfig(model="ViTamin-S", pretrained="datacomp1b"), "published as a pickle .*hf-hub:ORG/REPO"),
        (OvsegConfig(model="roberta-ViT-B-32", pretrained="x"), "needs roberta-base as well"),
        (OvsegConfig(model="hub:org/repo"), "ovseg.model is 'hub:org/repo', expected"),
        (OvsegConfig(model="hf-hub:not/a/repository"), "ovseg.model is 'hf-hub:not/a/repository', expected"),
    ],
)
def test_unknown_and_unsafe_models_are_refused(config: OvsegConfig, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fetch_weights(config, download=True)


@pytest.mark.parametrize(
    ("model", "pretrained", "message"),
    [
        ("local-dir:/nowhere", None, "no model folder /nowhere"),
        ("builtin:nonsense", None, "no built-in model 'nonsense'"),
        ("ViT-B-16", "/nowhere/x.safetensors", "no weights file /nowhere/x.safetensors"),
    ],
)
def test_files_that_are_not_there_are_named(model: str, pretrained: str | None, message: str) -> None:
    with pytest.raises(FileNotFoundError, match=message):
        fetch_weights(OvsegConfig(model=model, pretrained=pretrained), download=False)


def test_broken_folders_are_refused_with_the_reason(folder: Path) -> None:
    config = OvsegConfig(model=f"local-dir:{folder}")
    weights, settings = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    good = settings.read_text()

    settings.write_text(good.replace('"width": 64', '"width": 32'))
    with pytest.raises(ValueError, match=r"model\.safetensors cannot be loaded: .* size mismatch for visual\."):
        load_backbone(config)
    settings.write_text(good.replace('"text_cfg": {', '"text_cfg": {"hf_model_name": "roberta-base", '))
    with pytest.raises(ValueError, match="has the text tower of roberta-base"):
        load_backbone(config)
    settings.write_text("{}")
    with pytest.raises(ValueError, match="is no open_clip config"):
        load_backbone(config)
    settings.write_text(good)

    weights.rename(folder / "open_clip_pytorch_model.bin")
    with pytest.raises(ValueError, match=r"pickled weights \(open_clip_pytorch_model.bin\), refused"):
        load_backbone(config)
    (folder / "open_clip_pytorch_model.bin").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks open_clip_model.safetensors"):
        load_backbone(config)


def lacking_a_tensor(file: Path) -> None:
    tensors = load_file(file)
    del tensors["visual.proj"]
    save_file(tensors, file)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-1]), r"open_clip_model\.safetensors is cut off"),
        (lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\n"), "pointer of Git LFS"),
        (lacking_a_tensor, r"open_clip_model\.safetensors cannot be loaded: .*visual\.proj"),
        (lambda file: (file.parent / "vocab.json").write_text("{}"), "the tokenizer of .*model cannot be loaded"),
        (lambda file: (file.parent / "tokenizer_config.json").write_text("[]"), "tokenizer_config.json holds list"),
    ],
)
def test_weights_that_are_not_whole_are_one_line_with_part_and_file(
    tmp_path: Path, damage: Callable[[Path], object], message: str
) -> None:
    save_with_own_tokenizer(tmp_path / "model")
    damage(tmp_path / "model" / "open_clip_model.safetensors")
    with pytest.raises(ValueError, match=message) as caught:
        load_backbone(OvsegConfig(model=f"local-dir:{tmp_path / 'model'}"), device="cpu")
    assert "\n" not in str(caught.value)


CODE = {"auto_map": {"AutoConfig": "own.Own", "AutoModel": "own.Own", "AutoTokenizer": ["own.Own", "own.Own"]}}


@pytest.mark.parametrize(
    ("file", "changes"),
    [
        ("config.json", {"model_type": "own", **CODE}),
        ("config.json", {"model_type": "bert", **CODE}),
        ("config.json", {"attn_implementation": "org/kernel"}),
        ("config.4.0.json", {"model_type": "own", **CODE}),
        ("tokenizer_config.json", {"tokenizer_class": "Own", **CODE}),
        ("open_clip_config.json", {"model_cfg": {"text_cfg": {"tokenizer_kwargs": {"trust_remote_code": True}}}}),
    ],
)
def test_a_folder_that_names_code_is_refused_and_nothing_of_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, changes: dict[str, Any]
) -> None:
    folder, ran = tmp_path / "model", tmp_path / "ran"
    save_with_bert(folder, VIT_B16_SHAPED["vision_cfg"])
    (folder / "own.py").write_text(f"open({str(ran)!r}, 'w')")
    monkeypatch.setattr("builtins.input", lambda prompt: "y")
    path = folder / file
    settings = json.loads(path.read_text()) if path.exists() else json.loads((folder / "config.json").read_text())
    if file == "open_clip_config.json":
        settings["model_cfg"]["text_cfg"] |= changes["model_cfg"]["text_cfg"]
    else:
        settings |= changes
    path.write_text(json.dumps(settings))
    if file == "config.4.0.json":
        (folder / "config.json").write_text(json.dumps({"configuration_files": [file]}))
    with pytest.raises(ValueError, match=f"{file} has the key '.*', by which a model runs code of its own") as caught:
        load_backbone(OvsegConfig(model=f"local-dir:{folder}"), device="cpu")
    assert "\n" not in str(caught.value) and not ran.exists()


def test_an_image_tower_from_elsewhere_is_refused(folder: Path) -> None:
    settings = folder / "open_clip_config.json"
    settings.write_text(settings.read_text().replace('"patch_size"', '"timm_model_name": "hf-hub:org/x", "patch_size"'))
    with pytest.raises(ValueError, match="has the image tower hf-hub:org/x, expected an architecture of timm"):
        load_backbone(OvsegConfig(model=f"local-dir:{folder}"), device="cpu")


@pytest.mark.parametrize(
    ("vision", "tower"),
    [
        ({"layers": (1, 1, 1, 1), "head_width": 8, "image_size": 32}, "ModifiedResNet"),
        ({"attentional_pool": True}, "VisionTransformer with attentional pooling"),
        ({"timm_model_name": "test_vit", "image_size": 160}, "TimmModel"),
    ],
)
def test_other_image_towers_are_refused_by_name(vision: dict[str, object], tower: str) -> None:
    vision_cfg = {"image_size": 32, "patch_size": 8, "width": 32, "head_width": 16, "layers": 1} | vision
    model = open_clip.CLIP(embed_dim=16, vision_cfg=vision_cfg, text_cfg=VIT_B16_SHAPED["text_cfg"])
    with pytest.raises(ValueError, match=f"image tower {tower} is not supported: expected .*ViT-B-16"):
        Backbone(model=model, tokenizer=open_clip.tokenize, mean=MEAN, std=STD, logit_scale=1.0)


@pytest.mark.parametrize(
    ("device", "dtype", "message"),
    [
        ("gpu", "auto", "device is 'gpu', expected auto or a usable one of cpu, cuda, mps"),
        ("cpu", "float8", "dtype is 'float8', expected one of auto, float32, bfloat16, float16"),
    ],
)
def test_unusable_devices_and_dtypes_are_refused(folder: Path, device: str, dtype: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_backbone(OvsegConfig(model=f"local-dir:{folder}"), device=device, dtype=dtype)
