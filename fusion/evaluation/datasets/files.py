"""The files of a data set on disk: folders, lists of names, images with their label maps; what is missing is named."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fusion.evaluation.missing import MissingFilesError
from ground.paths import user_path

_SHOWN = 3  # missing files that a message names


def folder_of(root: str | Path, *choices: str) -> Path:
    """The first of the folders `choices` that is there in the data set's root; MissingFilesError if none is."""
    base = root_of(root)
    for choice in choices:
        if (base / choice).is_dir():
            return base / choice
    raise MissingFilesError(f"no folder {' or '.join(choices)} in {base}")


def root_of(root: str | Path) -> Path:
    """The folder of a data set; MissingFilesError if there is none."""
    base = user_path(root)
    if not base.is_dir():
        raise MissingFilesError(f"root is {str(root)!r}, and there is no such folder")
    return base


def stems(folder: Path, suffix: str) -> list[str]:
    """The sorted names, without `suffix`, of the files in `folder` that end in it and are not hidden."""
    files = (path.name for path in folder.iterdir() if not path.name.startswith("."))
    return sorted(name.removesuffix(suffix) for name in files if name.endswith(suffix))


def listed(path: Path) -> list[str]:
    """The names in a list of a data set's split, one a line.

    MissingFilesError if there is no such file, ValueError if it lists nothing, or one name twice, or no plain names.
    """
    if not path.is_file():
        raise MissingFilesError(f"no list {path}")
    try:
        names = [line.split()[0] for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not UTF-8 text, expected a name a line") from None
    odd = [name for name in names if Path(name).name != name]
    if not names or odd or len(set(names)) < len(names):
        found = f"{odd[0]!r}" if odd else "a name twice" if names else "no name"
        raise ValueError(f"{path} has {found}, expected names of images, one a line")
    return names


def pairs(
    names: Sequence[str], images: Path, maps: Path, image_suffix: str = ".jpg", map_suffix: str = ".png"
) -> dict[str, tuple[Path, Path]]:
    """Name → its image and its label map; MissingFilesError if there are no names, or if a file is not there."""
    if not names:
        raise MissingFilesError(f"no file ends in {image_suffix} in {images}")
    found = {name: (images / f"{name}{image_suffix}", maps / f"{name}{map_suffix}") for name in names}
    check_files([path for pair in found.values() for path in pair])
    return found


def check_files(paths: Sequence[Path]) -> None:
    """MissingFilesError, with the first of them and how many more, if any of these files is not there."""
    missing = [path for path in paths if not path.is_file()]
    if missing:
        shown = ", ".join(map(str, missing[:_SHOWN]))
        more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
        raise MissingFilesError(f"no {shown}{more}")


def read_records(path: Path, *keys: str) -> list[list[Any]]:
    """The lists under `keys` of a JSON file.

    MissingFilesError if there is no such file, ValueError if it is no JSON or lacks one of the lists.
    """
    check_files([path])
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON: {' '.join(str(error).split())}") from None
    missing = [key for key in keys if not (isinstance(content, dict) and isinstance(content.get(key), list))]
    if missing:
        raise ValueError(f"{path} has no list of {missing[0]}")
    return [content[key] for key in keys]
