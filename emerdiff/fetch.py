"""Where the weights are: config → local diffusers folder, fetched from the Hugging Face hub if asked to.

Only safetensors are read: pickled weights can run code when they are loaded.
"""

from __future__ import annotations

import logging
from pathlib import Path

from emerdiff.config import EmerDiffConfig

logger = logging.getLogger(__name__)

_BUILTIN = Path(__file__).parent / "weights"

# The parts of a Stable Diffusion folder that hold weights, and the stem of their files.
_STEMS = {"unet": "diffusion_pytorch_model", "vae": "diffusion_pytorch_model", "text_encoder": "model"}
_CONFIGS = ("scheduler/scheduler_config.json", *(f"{part}/config.json" for part in _STEMS))
_TOKENIZERS = ("tokenizer/tokenizer.json", "tokenizer/vocab.json")  # either will do
# By exact name: a repository may hold the same weights in several precisions and formats, gigabytes each.
_DOWNLOADED = [
    "model_index.json",
    "tokenizer/*",
    *_CONFIGS,
    *(f"{part}/{stem}.safetensors" for part, stem in _STEMS.items()),
    *(f"{part}/{stem}-*-of-*.safetensors" for part, stem in _STEMS.items()),
    *(f"{part}/{stem}.safetensors.index.json" for part, stem in _STEMS.items()),
]
_ANSWER_SECONDS = 10  # the hub must answer the first question within


def fetch_weights(config: EmerDiffConfig, *, download: bool, preset: str = "PRESET") -> Path:
    """The folder of the config's model: built-in, local, or in the hub's cache; complete, safetensors only.

    A hub model that is not in the cache is downloaded if `download`; HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT
    are honoured. What is in the cache is never looked up again, so later runs need no network. Raises FileNotFoundError
    in one line: what is missing, its size and licence, and the command that fetches it, for which `preset` is the name;
    ValueError for a model that is neither a folder nor the id of a repository.
    """
    if config.model.startswith("builtin:"):
        return _builtin(config.model.removeprefix("builtin:"))
    folder = Path(config.model).expanduser()
    if folder.is_dir():
        return _checked(folder)
    return _from_hub(config, download, preset)


def local_weights(config: EmerDiffConfig) -> list[Path]:
    """The weights files of a built-in or local model, sorted; of a hub's model none: its revision names them."""
    folder = Path(config.model).expanduser()
    if config.model.startswith("builtin:"):
        folder = _BUILTIN / config.model.removeprefix("builtin:")
    return sorted(file for part in _STEMS for file in (folder / part).glob("*.safetensors"))


def weights_variant(folder: Path, part: str) -> str | None:
    """What to ask diffusers for: "fp16" if the part's weights are there under that name alone, else None."""
    plain, fp16 = _weights_files(folder, part)
    return "fp16" if fp16 and not plain else None


def _builtin(name: str) -> Path:
    names = sorted(path.parent.name for path in _BUILTIN.glob("*/model_index.json"))
    if name not in names:
        there = ", ".join(names) or "none"
        raise FileNotFoundError(f"no built-in model {name!r} in this installation of emerdiff; there is: {there}")
    return _checked(_BUILTIN / name)


def _from_hub(config: EmerDiffConfig, download: bool, preset: str) -> Path:
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def snapshot(local_files_only: bool) -> Path:
        return _checked(
            Path(
                snapshot_download(
                    config.model,
                    revision=config.revision,
                    allow_patterns=_DOWNLOADED,
                    local_files_only=local_files_only,
                )
            )
        )

    try:
        return snapshot(local_files_only=True)
    except HFValidationError as error:
        raise ValueError(
            f"emerdiff.model: {config.model!r} given, a hub id, a folder or builtin:NAME expected"
        ) from error
    except LocalEntryNotFoundError:
        reason = "not in the cache"
    except FileNotFoundError as error:
        reason = str(error)
    size = f"about {config.download_mb} MB" if config.download_mb else "size not stated"
    if download:
        try:  # first a question asked once: a download repeats its own for half a minute without network
            HfApi().model_info(config.model, revision=config.revision, timeout=_ANSWER_SECONDS)
            logger.info("downloading %s, %s", config.model, size)
            return snapshot(local_files_only=False)
        except Exception as error:  # the hub's errors, and those of whichever HTTP library it uses
            reason = " ".join(str(error).split())
    raise FileNotFoundError(
        f"weights of {config.model} (revision {config.revision or 'main'}) are not on this machine: "
        f"`emerseg download {preset}` fetches them ({size}, licence: {config.license or 'not stated'}; "
        f"HF_HOME, HF_TOKEN and HF_ENDPOINT are honoured), or give a local folder; reason: {reason}"
    )


def _checked(folder: Path) -> Path:
    """The folder itself; FileNotFoundError naming the first file that it lacks."""
    missing = [name for name in _CONFIGS if not (folder / name).is_file()]
    missing += [_TOKENIZERS[0]] * (not any((folder / name).is_file() for name in _TOKENIZERS))
    missing += [f"{part}/{stem}.safetensors" for part, stem in _STEMS.items() if not any(_weights_files(folder, part))]
    if missing:
        raise FileNotFoundError(
            f"{missing[0]} is missing in {folder}: a Stable Diffusion folder of diffusers expected, "
            "with weights as safetensors (pickled ones, .bin or .ckpt, are refused)"
        )
    return folder


def _weights_files(folder: Path, part: str) -> tuple[list[Path], list[Path]]:
    """(plain, fp16 variant): the weights files of a part under either name, sharded ones included."""
    stem = folder / part / _STEMS[part]
    plain = [
        *stem.parent.glob(f"{stem.name}.safetensors"),
        *stem.parent.glob(f"{stem.name}-*-of-*.safetensors"),
    ]
    fp16 = [*stem.parent.glob(f"{stem.name}.fp16*.safetensors")]
    return plain, fp16
