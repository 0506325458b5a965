"""Where the weights are: config → local diffusers folder or file, fetched from the Hugging Face hub if asked to.

Only safetensors are read: pickled weights can run code when they are loaded.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from emerdiff.checkpoint import checked_file, names_file
from emerdiff.config import EmerDiffConfig
from emerdiff.layout import INDEX, TELLING, Layout, layout_of, stem
from ground.paths import user_path
from ground.weights import builtin_folder, hub_folder, loading

_BUILTIN = Path(__file__).parent / "weights"
_IN_CLONE = "emerdiff.model=CLONE/emerdiff/weights/{}"

_DECODER = ("config.json", "diffusion_pytorch_model.safetensors")
_TOKENIZERS = ("tokenizer.json", "vocab.json")  # either will do
_LORAS = ("adapter_config.json", "pytorch_lora_weights.safetensors")
_SCHEDULER = "scheduler/scheduler_config.json"


def fetch_weights(config: EmerDiffConfig, *, download: bool) -> Path:
    """The config's model: a folder, built-in, local, or in the hub's cache, or a file; complete, safetensors only.

    A hub model that is not in the cache is downloaded if `download`; see `ground.weights.hub_folder`. Raises
    WeightsMissing for a hub model that is not there, FileNotFoundError for an incomplete folder (both in one line, with
    what is missing), and ValueError for a model that is no folder, no whole file and not the id of a repository.
    """
    if names_file(config.model):
        return checked_file(config.model, config.layout)
    if config.layout is not None:
        raise ValueError(f"emerdiff.layout is of a model in one file, which emerdiff.model, {config.model!r}, is not")
    if config.model.startswith("builtin:"):
        name = config.model.removeprefix("builtin:")
        return _checked(builtin_folder(_BUILTIN, name, INDEX, in_clone=_IN_CLONE.format(name)), None)
    folder = user_path(config.model)
    if folder.is_dir():
        return _checked(folder, config.variant)
    try:
        # What a folder consists of is known from its index alone.
        telling = _hub(config, TELLING, lambda folder: _with(folder, [INDEX]), download=download)
    except ValueError as error:
        expected = "expected a hub id, a local folder, a .safetensors file or builtin:NAME"
        raise ValueError(f"emerdiff.model is {config.model!r}, {expected}") from error
    patterns = _downloaded(layout_of(telling), config.variant)
    return _hub(config, patterns, lambda folder: _checked(folder, config.variant), download=download)


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
    decoders = [] if config.decoder is None else user_path(config.decoder).glob("*.safetensors")
    folder = user_path(config.model)
    if folder.is_file():
        return sorted([folder, *decoders])
    if config.model.startswith("builtin:"):
        folder = _BUILTIN / config.model.removeprefix("builtin:")
    parts = ("unet", "transformer", "vae", "text_encoder*")
    return sorted([*(file for part in parts for file in folder.glob(f"{part}/*.safetensors")), *decoders])


def weights_variant(folder: Path, part: str, wanted: str | None = None) -> str | None:
    """What to ask diffusers for: the `wanted` variant of a part's weights if it is there, else the plain weights.

    Where neither is there, the variant that is, such as "fp16".
    """
    found = _weights_files(folder, part)
    if wanted in found or not found:
        return wanted if found else None
    return None if None in found else min(found, key=str)


def weights_files(folder: Path, part: str, wanted: str | None = None) -> list[Path]:
    """The files that hold a part's weights, under the name that `weights_variant` tells.

    ValueError if an index of such files names others: libraries would unpickle them.
    """
    found = _weights_files(folder, part)
    files = sorted(found.get(weights_variant(folder, part, wanted), []))
    known = {file.name for each in found.values() for file in each}
    for index in (folder / part).glob("*.safetensors.index*.json"):
        with loading(str(index)):
            named = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
        if others := sorted(named - known):
            raise ValueError(f"{index} names {others[0]!r}, expected .safetensors files beside it")
    return files


def _hub(config: EmerDiffConfig, patterns: Sequence[str], checked: Callable[[Path], Path], *, download: bool) -> Path:
    """The folder of the config's model in the hub's cache; see `ground.weights.hub_folder`."""
    return hub_folder(
        config.model,
        revision=config.revision,
        patterns=patterns,
        checked=checked,
        weights=[pattern for pattern in patterns if "*" not in pattern and pattern.endswith(".safetensors")] or [INDEX],
        size_mb=config.download_mb,
        license=config.license,
        download=download,
    )


def _downloaded(layout: Layout, variant: str | None) -> list[str]:
    """By exact name: a repository may hold the same weights in several precisions and formats, gigabytes each."""
    dotted = f".{variant}" if variant else ""
    stems = [f"{part}/{stem(part)}" for part in layout.parts]
    return [
        *TELLING,
        _SCHEDULER,
        *(f"{part}/*" for part in layout.tokenizers),
        *(f"{part}/config.json" for part in layout.parts),
        *(f"{each}{dotted}.safetensors" for each in stems),
        *(f"{each}{dotted}-*-of-*.safetensors" for each in stems),
        *(f"{each}.safetensors.index{dotted}.json" for each in stems),
    ]


def _checked(folder: Path, variant: str | None) -> Path:
    """The folder itself; FileNotFoundError naming the first file that it lacks, ValueError for a LoRA."""
    if loras := [name for name in _LORAS if (folder / name).is_file() and not (folder / INDEX).is_file()]:
        raise ValueError(
            f"{folder} holds a LoRA ({loras[0]}), which changes a model and is none: expected a whole folder of "
            "diffusers, such as its model's with the LoRA fused into it"
        )
    layout = layout_of(folder)
    missing = [
        name
        for name in (_SCHEDULER, *(f"{part}/config.json" for part in layout.parts))
        if not (folder / name).is_file()
    ]
    for part in layout.tokenizers:
        if not any((folder / part / name).is_file() for name in _TOKENIZERS):
            missing.append(f"{part}/{_TOKENIZERS[0]}")
    dotted = f".{variant}" if variant else ""
    missing += [f"{part}/{stem(part)}{dotted}.safetensors" for part in layout.parts if not _weights_files(folder, part)]
    return _with(folder, missing)


def _with(folder: Path, names: Sequence[str]) -> Path:
    """The folder itself; FileNotFoundError naming the first of the files that it lacks."""
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise FileNotFoundError(
            f"{missing[0]} is missing in {folder}, expected a folder of diffusers "
            "with weights as safetensors (pickled ones, .bin or .ckpt, are refused)"
        )
    return folder


def _checked_decoder(folder: Path) -> Path:
    if missing := [name for name in _DECODER if not (folder / name).is_file()]:
        raise FileNotFoundError(f"{missing[0]} is missing in {folder}, expected a folder of diffusers' AutoencoderTiny")
    return folder


def _weights_files(folder: Path, part: str) -> dict[str | None, list[Path]]:
    """The weights files of a part, sharded ones included, by their variant; None: the plain ones.

    A variant stands before the number of a shard, in files of older releases behind it.
    """
    pattern = re.compile(re.escape(stem(part)) + r"(?:\.([^.]+?))?(?:-\d+-of-\d+)?(?:\.([^.]+))?\.safetensors")
    found: dict[str | None, list[Path]] = {}
    for file in (folder / part).glob("*.safetensors"):
        if match := pattern.fullmatch(file.name):
            found.setdefault(match[1] or match[2], []).append(file)
    return found
