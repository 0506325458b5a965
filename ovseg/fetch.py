"""Where the weights are: built-in name, folder or hub repository → files on this disk, or what is missing.

Only safetensors are read: a pickled checkpoint can run any code when it is loaded.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ground.weights
from ground.paths import user_path
from ovseg.config import MODEL_FORMS, OVERLAY_FORMS, OvsegConfig

CONFIG_FILE = "open_clip_config.json"
WEIGHTS_FILE = "open_clip_model.safetensors"
OVERLAY_FILE = "overlay.safetensors"
TEXT_TOWER_FILE = "config.json"  # of a Hugging Face text tower: its architecture, as transformers saves it
TOKENIZER_FILES = ("tokenizer*.json", "special_tokens_map.json", "vocab.json", "vocab.txt", "merges.txt")
PICKLES = (".bin", ".pt", ".pth", ".ckpt")

_BUILTIN = Path(__file__).parent / "weights"


def local_weights(config: OvsegConfig) -> list[Path]:
    """The weights file of a built-in or local model; none for a model of the hub: its revision names it."""
    schema, _, rest = config.model.partition(":")
    path = {
        "builtin": _BUILTIN / rest / WEIGHTS_FILE,
        "local-dir": user_path(rest) / WEIGHTS_FILE,
    }.get(schema, Path(config.pretrained or ""))
    files = [path, *([overlay_file(config.overlay)] if config.overlay else [])]
    return [file for file in files if file.is_file()]


def overlay_file(overlay: str) -> Path:
    """The file of an overlay, which need not be there unless it is a built-in one.

    FileNotFoundError with the names that there are; ValueError if it is no .safetensors file by its name.
    """
    schema, _, name = overlay.partition(":")
    if schema == "builtin":
        in_clone = f"ovseg.overlay=CLONE/ovseg/weights/{name}/{OVERLAY_FILE}"
        return ground.weights.builtin_folder(_BUILTIN, name, OVERLAY_FILE, in_clone=in_clone) / OVERLAY_FILE
    path = user_path(overlay)
    if path.suffix != ".safetensors":
        raise ValueError(f"ovseg.overlay is {overlay!r}, expected {OVERLAY_FORMS}")
    return path


def builtin_folder(name: str) -> Path:
    """Folder of a model that comes with the package; FileNotFoundError with the names that are there."""
    in_clone = f"ovseg.model=local-dir:CLONE/ovseg/weights/{name}"
    return checked_folder(ground.weights.builtin_folder(_BUILTIN, name, CONFIG_FILE, in_clone=in_clone))


def checked_folder(folder: Path) -> Path:
    """`folder` itself if it is an open_clip local-dir; else FileNotFoundError, or ValueError if pickled."""
    if not folder.is_dir():
        raise FileNotFoundError(f"no model folder {folder}")
    if not (folder / WEIGHTS_FILE).is_file():
        pickled = ", ".join(sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES))
        if pickled:
            raise ValueError(f"{folder} holds pickled weights ({pickled}), refused as unsafe: expected {WEIGHTS_FILE}")
    missing = [name for name in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(f"model folder {folder} lacks {', '.join(missing)}")
    timm_name = str(_tower_config(folder, "vision_cfg").get("timm_model_name", ""))
    if ":" in timm_name:
        # timm would read it from the hub, or from another folder.
        raise ValueError(f"{folder} has the image tower {timm_name}, expected an architecture of timm by its bare name")
    elsewhere = text_config(folder).get("hf_model_name")
    if elsewhere and not (folder / TEXT_TOWER_FILE).is_file():
        # open_clip would look for it on the hub.
        raise ValueError(
            f"{folder} has the text tower of {elsewhere}, expected its {TEXT_TOWER_FILE} beside the weights"
        )
    return folder


def text_config(folder: Path) -> dict[str, Any]:
    """The text tower's settings in an open_clip local-dir; ValueError if there are none."""
    return _tower_config(folder, "text_cfg")


def _tower_config(folder: Path, tower: str) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))["model_cfg"][tower])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{folder / CONFIG_FILE} is no open_clip config: {error!r}") from None


def own_text_tower(folder: Path) -> dict[str, Any]:
    """open_clip arguments with which a Hugging Face text tower is built from `folder` itself, not from the hub."""
    text_cfg = text_config(folder)
    if "hf_model_name" not in text_cfg:
        return {}
    return {"text_cfg": text_cfg | {"hf_model_name": str(folder), "hf_model_pretrained": False}}


def hub_files(repo: str, config: OvsegConfig, files: Sequence[str], *, download: bool) -> Path:
    """Folder in the hub's local cache that holds `files` of `repo`, with its tokenizer if it has one.

    Without `download` no network is touched. Raises WeightsMissing if the files are not here and could not, or should
    not, be downloaded, and ValueError if `repo` cannot be the id of a repository.
    """

    def checked(folder: Path) -> Path:
        if missing := [name for name in files if not (folder / name).is_file()]:
            raise FileNotFoundError(f"{', '.join(missing)} missing in {folder}")
        return folder

    try:
        return ground.weights.hub_folder(
            repo,
            revision=config.revision,
            patterns=(*files, TEXT_TOWER_FILE, *TOKENIZER_FILES),
            checked=checked,
            weights=files,
            size_mb=config.download_mb,
            license=config.license,
            download=download,
        )
    except ValueError as error:
        raise ValueError(f"ovseg.model is {config.model!r}, expected {MODEL_FORMS}") from error
