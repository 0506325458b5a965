from __future__ import annotations

import json
import shutil

import huggingface_hub
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file, save_file
from tiny_emerdiff import save_folder, tiny_config

from emerdiff import EmerDiff, fetch_weights
from emerdiff.fetch import weights_variant
from ground.weights import WeightsMissing

COMMIT = "0123456789abcdef0123456789abcdef01234567"


def hub_config(**changes):
    settings = {"model": "some-team/diffusion", "revision": COMMIT, "license": "MIT", "download_mb": 4270}
    return tiny_config(**settings | changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_folder(tmp_path_factory.mktemp("weights") / "sd1", "sd1")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty hub cache, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_local_folder_is_itself(folder):
    assert fetch_weights(tiny_config(model=str(folder)), download=False) == folder


@pytest.mark.parametrize(
    "missing",
    [
        "unet/config.json",
        "unet/diffusion_pytorch_model.safetensors",
        "text_encoder/model.safetensors",
        "vae/diffusion_pytorch_model.safetensors",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
    ],
)
def test_an_incomplete_folder_names_what_is_missing(folder, tmp_path, missing):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for path in (copy / "tokenizer").iterdir() if missing.startswith("tokenizer") else [copy / missing]:
        path.unlink()
    with pytest.raises(FileNotFoundError, match=f"^{missing} is missing in .*copy") as error:
        fetch_weights(tiny_config(model=str(copy)), download=True)
    assert "\n" not in str(error.value)


def test_pickled_weights_are_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "unet/diffusion_pytorch_model.safetensors").rename(copy / "unet/diffusion_pytorch_model.bin")
    with pytest.raises(FileNotFoundError, match=r"pickled ones, \.bin or \.ckpt, are refused"):
        EmerDiff.from_config(tiny_config(model=str(copy)))


def test_half_precision_files_are_found_by_their_name(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    for part, stem in (("unet", "diffusion_pytorch_model"), ("text_encoder", "model")):
        (copy / part / f"{stem}.safetensors").rename(copy / part / f"{stem}.fp16.safetensors")
    assert weights_variant(folder, "unet") is None
    assert weights_variant(copy, "unet") == "fp16"
    EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")


def test_an_unknown_builtin_model():
    with pytest.raises(FileNotFoundError, match=r"no built-in model 'maxi' in this installation; there is: .*mini"):
        fetch_weights(tiny_config(model="builtin:maxi"), download=True)


@pytest.mark.parametrize("download", [True, False])
def test_missing_weights_say_what_is_missing_and_what_it_takes(cache, download):
    with pytest.raises(WeightsMissing) as caught:
        fetch_weights(hub_config(), download=download)
    error = caught.value
    assert (error.model, error.size_mb, error.license, error.preset) == ("some-team/diffusion", 4270, "MIT", None)
    message = str(error)
    reason = "the download failed: " if download else "model_index.json not in the Hugging Face cache"
    for part in ("some-team/diffusion", COMMIT, "4270 MB", "MIT", "HF_HOME", "HF_TOKEN", "HF_ENDPOINT", reason):
        assert part in message
    assert "\n" not in message and "emerseg" not in message


def test_missing_weights_of_a_preset_are_said_in_python_too(cache):
    with pytest.raises(FileNotFoundError, match=r"model_index\.json.*4270 MB.*CreativeML.*HF_HOME"):
        EmerDiff.from_preset("sd15")


def test_a_name_that_no_repository_can_have(cache):
    with pytest.raises(ValueError, match=r"emerdiff\.model is 'not/a/repository', expected a hub id, a local"):
        fetch_weights(tiny_config(model="not/a/repository"), download=False)


def test_the_cache_is_used_without_network(cache, folder):
    snapshot = cache / "models--some-team--diffusion" / "snapshots" / COMMIT
    shutil.copytree(folder, snapshot)
    assert fetch_weights(hub_config(), download=False) == snapshot
    assert fetch_weights(hub_config(), download=True) == snapshot
    (snapshot / "vae/diffusion_pytorch_model.safetensors").unlink()  # an interrupted download
    with pytest.raises(WeightsMissing, match=r"vae/diffusion_pytorch_model\.safetensors is missing"):
        fetch_weights(hub_config(), download=False)


PARTS = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}


def without_a_tensor(file):
    tensors = load_file(file)
    del tensors[max(tensors)]
    save_file(tensors, file, metadata={"format": "pt"})


def with_another_shape(file):
    tensors = load_file(file)
    tensors[max(tensors)] = torch.zeros(7)
    save_file(tensors, file, metadata={"format": "pt"})


WEIGHTS_DAMAGES = {
    "cut": (lambda file: file.write_bytes(file.read_bytes()[:-1]), "{part}/{file} is cut off, damaged or no"),
    "empty": (lambda file: file.write_bytes(b""), "{part}/{file} is cut off, damaged or no"),
    "pointer": (
        lambda file: file.write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"),
        "{part}/{file} is a pointer of Git LFS, expected the weights",
    ),
    "lacking": (without_a_tensor, "{part} needs 1 tensors that {file} lacks, such as (text_model.)?{tensor}"),
    "other shape": (with_another_shape, "{part} .*{tensor}"),
}


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", WEIGHTS_DAMAGES)
def test_weights_that_are_not_whole_are_one_line_with_part_and_file(folder, tmp_path, part, damage):
    copy = shutil.copytree(folder, tmp_path / "copy")
    file = copy / part / PARTS[part]
    tensor = max(load_file(file)).removeprefix("text_model.")
    change, message = WEIGHTS_DAMAGES[damage]
    change(file)
    with pytest.raises(ValueError, match=message.format(part=part, file=file.name, tensor=tensor)) as caught:
        EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["tokenizer/tokenizer.json", "scheduler/scheduler_config.json", "unet/config.json", "text_encoder/config.json"],
)
@pytest.mark.parametrize("content", ["[]", "", "{", "[" * 100_000])
def test_configs_that_are_none_are_one_line_with_their_part(folder, tmp_path, name, content):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / name).write_text(content)
    with pytest.raises(ValueError, match=name.split("/")[0]) as caught:
        EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")
    assert "\n" not in str(caught.value)


def test_an_empty_tokenizer_is_named(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "tokenizer/tokenizer.json").write_text("{}")
    with pytest.raises(ValueError, match=r"copy/tokenizer cannot be loaded: "):
        EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("unet/config.json", "_class_name", ["own", "Own"]),
        ("vae/config.json", "auto_map", {"AutoModel": "own.Own"}),
        ("text_encoder/config.json", "auto_map", {"AutoConfig": "own.Own"}),
        ("tokenizer/tokenizer_config.json", "auto_map", {"AutoTokenizer": ["own.Own", None]}),
        ("scheduler/scheduler_config.json", "_class_name", ["own", "Own"]),
        ("model_index.json", "_class_name", ["pipeline", "Own"]),
        ("model_index.json", "custom_pipeline", "own"),
    ],
)
def test_a_folder_that_names_code_is_refused(folder, tmp_path, name, key, value):
    copy = shutil.copytree(folder, tmp_path / "copy")
    settings = json.loads((copy / name).read_text()) | {key: value}
    (copy / name).write_text(json.dumps(settings))
    with pytest.raises(ValueError, match=f"{name} has the key '{key}', by which a model runs code of its own"):
        EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")


@pytest.mark.parametrize("missing", ["num_train_timesteps", "beta_schedule"])
def test_a_scheduler_config_without_its_noise_is_refused(folder, tmp_path, missing):
    copy = shutil.copytree(folder, tmp_path / "copy")
    path = copy / "scheduler/scheduler_config.json"
    path.write_text(json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != missing}))
    with pytest.raises(ValueError, match=rf"scheduler_config\.json has no {missing}: expected"):
        EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")


def test_shards_load_and_an_index_that_names_a_pickle_is_refused(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    unet = UNet2DConditionModel.from_pretrained(copy / "unet")
    (copy / "unet/diffusion_pytorch_model.safetensors").unlink()
    unet.save_pretrained(copy / "unet", max_shard_size="200KB")
    assert len(list((copy / "unet").glob("*-of-*.safetensors"))) > 1
    EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")
    index = copy / "unet/diffusion_pytorch_model.safetensors.index.json"
    files = json.loads(index.read_text())
    files["weight_map"]["conv_in.bias"] = "other.bin"
    index.write_text(json.dumps(files))
    with pytest.raises(ValueError, match=r"index\.json names 'other\.bin', expected \.safetensors files beside it"):
        EmerDiff.from_config(tiny_config(model=str(copy)), device="cpu")


@pytest.mark.parametrize("name", ["adapter_config.json", "pytorch_lora_weights.safetensors"])
def test_a_lora_is_refused(tmp_path, name):
    (tmp_path / name).write_text("{}")
    with pytest.raises(
        ValueError, match=rf"holds a LoRA \({name}\), which changes a model and is none: expected"
    ) as caught:
        fetch_weights(tiny_config(model=str(tmp_path)), download=False)
    assert "\n" not in str(caught.value)


def test_the_variant_that_is_asked_for_is_taken(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "copy")
    shutil.copy(
        copy / "unet/diffusion_pytorch_model.safetensors", copy / "unet/diffusion_pytorch_model.fp16.safetensors"
    )
    assert [weights_variant(copy, "unet", wanted) for wanted in (None, "fp16", "bf16")] == [None, "fp16", None]
