"""Where the weights are: config → local diffusers folder, fetched from the Hugging Face hub if asked to.

Only safetensors are read: pickled weights can run code when they are loaded.
"""

from __future__ import annotations

import json
from pathlib import Path

from emerdiff.config import EmerDiffConfig
from ground.paths import user_path
from ground.weights import builtin_folder, hub_folder, loading

_BUILTIN = Path(__file__).parent / "weights"

# The parts of a Stable Diffusion folder that hold weights, and the stem of their files.
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
_WEIGHTS = tuple(f"{part}/{stem}.safetensors" for part, stem in _STEMS.items())
_CONFIGS = ("scheduler/scheduler_config.json", *(f"{part}/config.json" for part in _STEMS))
_TOKENIZERS = ("tokenizer/tokenizer.json", "tokenizer/vocab.json")  # either will do
_DECODER = ("config.json", "diffusion_pytorch_model.safetensors")
# By exact name: a repository may hold the same weights in several precisions and formats, gigabytes each.
_DOWNLOADED = (
    "model_index.json",
    "tokenizer/*",
    *_CONFIGS,
    *_WEIGHTS,
    *(f"{part}/{stem}-*-of-*.safetensors" for part, stem in _STEMS.items()),
    *(f"{part}/{stem}.safetensors.index.json" for part, stem in _STEMS.items()),
)


def fetch_weights(config: EmerDiffConfig, *, download: bool) -> Path:
    """The folder of the config's model: built-in, local, or in the hub's cache; complete, safetensors only.

    A hub model that is not in the cache is downloaded if `download`; see `ground.weights.hub_folder`. Raises
    WeightsMissing for a hub model that is not there, FileNotFoundError for an incomplete folder (both in one line, with
    what is missing), and ValueError for a model that is neither a folder nor the id of a repository.
    """
    if config.model.startswith("builtin:"):
        name = config.model.removeprefix("builtin:")
        return _checked(builtin_folder(_BUILTIN, name, "model_index.json"))
    folder = user_path(config.model)
    if folder.is_dir():
        return _checked(folder)
    try:
        return hub_folder(
            config.model,
            revision=config.revision,
            patterns=_DOWNLOADED,
            checked=_checked,
            weights=_WEIGHTS,
            size_mb=config.download_mb,
            license=config.license,
            download=download,
        )
    except ValueError as error:
        expected = "expected a hub id, a local folder or builtin:NAME"
        raise ValueError(f"emerdiff.model is {config.model!r}, {expected}") from error


def fetch_decoder(config: EmerDiffConfig, *, download: bool) -> Path | None:
    """The folder of `config.decoder`, None if it names none; found, and missing, as in `fetch_weights`."""
    if config.decoder is None:
        return None
    folder = user_path(config.decoder)
    if folder.is_dir():
        return _checked_decoder(folder)
    try:
        return hub_folder(
            config.decoder,
            revision=config.decoder_revision,
            patterns=_DECODER,
            checked=_checked_decoder,
            weights=_DECODER[1:],
            size_mb=0,
            license="",
            download=download,
        )
    except ValueError as error:
        expected = "expected a hub id or a local folder of an AutoencoderTiny"
        raise ValueError(f"emerdiff.decoder is {config.decoder!r}, {expected}") from error


def local_weights(config: EmerDiffConfig) -> list[Path]:
    """The weights files of a built-in or local model and decoder, sorted; none of the hub: a revision names them."""
    folder = user_path(config.model)
    if config.model.startswith("builtin:"):
        folder = _BUILTIN / config.model.removeprefix("builtin:")
    decoders = [] if config.decoder is None else user_path(config.decoder).glob("*.safetensors")
    return sorted([*(file for part in _STEMS for file in (folder / part).glob("*.safetensors")), *decoders])


def weights_variant(folder: Path, part: str) -> str | None:
    """What to ask diffusers for: "fp16" if the part's weights are there under that name alone, else None."""
    plain, fp16 = _weights_files(folder, part)
    return "fp16" if fp16 and not plain else None


def weights_files(folder: Path, part: str) -> list[Path]:
    """The files that hold a part's weights, under the name that `weights_variant` tells.

    ValueError if an index of such files names others: libraries would unpickle them.
    """
    plain, fp16 = _weights_files(folder, part)
    files = sorted(plain or fp16)
    for index in (folder / part).glob("*.safetensors.index.json"):
        with loading(str(index)):
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if others := sorted(named - {file.name for file in [*plain, *fp16]}):
            raise ValueError(f"{index} names {others[0]!r}, expected .safetensors files beside it")
    return files


def _checked(folder: Path) -> Path:
    """The folder itself; FileNotFoundError naming the first file that it lacks."""
    missing = [name for name in _CONFIGS if not (folder / name).is_file()]
    missing += [_TOKENIZERS[0]] * (not any((folder / name).is_file() for name in _TOKENIZERS))
    missing += [f"{part}/{stem}.safetensors" for part, stem in _STEMS.items() if not any(_weights_files(folder, part))]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is missing in {folder}, expected a Stable Diffusion folder of diffusers "
            "with weights as safetensors (pickled ones, .bin or .ckpt, are refused)"
        )
    return folder


def _checked_decoder(folder: Path) -> Path:
    if missing := [name for name in _DECODER if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing in {folder}, expected a folder of diffusers' AutoencoderTiny")
    return folder


def _weights_files(folder: Path, part: str) -> tuple[list[Path], list[Path]]:
    """(plain, fp16 variant): the weights files of a part under either name, sharded ones included."""
    stem = folder / part / _STEMS.get(part, "diffusion_pytorch_model")  # a decoder's folder has a name of its own
    plain = [
        *stem.parent.glob(f"{stem.name}.safetensors"),
        *stem.parent.glob(f"{stem.name}-*-of-*.safetensors"),
    ]
    fp16 = [*stem.parent.glob(f"{stem.name}.fp16*.safetensors")]
    return plain, fp16
