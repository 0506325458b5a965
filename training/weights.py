"""Weights on disk: half precision, in diffusers' layout, and never half written."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import TypeVar

from diffusers import ModelMixin
from torch import nn

Model = TypeVar("Model", bound=nn.Module)


def half_copy(model: Model) -> Model:
    """A float16 copy on the CPU."""
    return copy.deepcopy(model).to("cpu").half()


def write_model(model: ModelMixin, folder: Path) -> None:
    """Write a float16 copy of `model` to `folder`; what is there stays whole until the new files take its place."""
    new = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(new, ignore_errors=True)
    half_copy(model).save_pretrained(new)
    forget_origin(new)
    folder.mkdir(parents=True, exist_ok=True)
    for path in new.iterdir():
        path.replace(folder / path.name)
    new.rmdir()


def forget_origin(folder: Path) -> None:
    """Take out of the configs of `folder` where its weights were loaded from: a path of this machine."""
    for path in folder.rglob("config.json"):
        config = json.loads(path.read_text(encoding="utf-8"))
        if config.pop("_name_or_path", None) is not None:
            path.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
