"""Weights on disk: what ships with a package, or what lies in the Hugging Face cache, downloaded if asked to."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger(__name__)

_MARK_BYTES = 2**20  # at the end of a weights file
_ANSWER_SECONDS = 10  # within which the hub must answer the first question
# Keys of configs by which a model's folder names code, or lets libraries run it.
_CODE_KEYS = ("auto_map", "custom_pipeline", "custom_pipelines", "trust_remote_code", "allow_all_kernels")
_LFS_POINTER = b"version https://git-lfs"
# The built-in models that learned from images for research lie in the source repository, and in no wheel.
RESEARCH = "research"
_REASON_CHARACTERS = 300  # of a library's message: it may list a thousand tensors


class WeightsMissing(FileNotFoundError):  # noqa: N818 (it says what is the case)
    """Weights of a hub repository that are not on this machine; the message is one line that names no command."""

    # The preset whose weights they are, where the caller knows it.
    preset: str | None = None

    def __init__(self, model: str, *, size_mb: int, license: str, revision: str | None, reason: str) -> None:
        size = f"about {size_mb} MB" if size_mb else "size not stated"
        super().__init__(
            f"weights of {model} (revision {revision or 'main'}) are not on this machine: {reason}; download: {size}, "
            f"licence: {license or 'not stated'} (HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT are honoured)"
        )
        self.model = model  # id of the repository
        self.size_mb = size_mb  # MB that the download takes; 0: not known
        self.license = license  # of the weights; empty: not known
        self.revision = revision  # commit; None: the main branch
        self.reason = reason  # which files are missing, or why they could not be downloaded


def hub_folder(
    repo: str,
    *,
    revision: str | None,
    patterns: Sequence[str],
    checked: Callable[[Path], Path],
    weights: Sequence[str],
    size_mb: int,
    license: str,
    download: bool,
) -> Path:
    """The folder of a hub repository in the local cache, with the files of `patterns`, as `checked` returns it.

    `checked` takes the folder and raises FileNotFoundError if it is incomplete; `weights` are the files that an error
    names when nothing is there. With `download`, what is missing is fetched; what is in the cache is never looked up
    again, so that later runs need no network. HF_HOME, HF_HUB_OFFLINE, HF_TOKEN and HF_ENDPOINT are honoured. Raises
    WeightsMissing, and ValueError if `repo` cannot be the id of a repository.
    """
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    def snapshot(local_files_only: bool) -> Path:
        return checked(
            Path(
                snapshot_download(
                    repo, revision=revision, allow_patterns=list(patterns), local_files_only=local_files_only
                )
            )
        )

    try:
        return snapshot(local_files_only=True)
    except HFValidationError as error:
        raise ValueError(f"{repo!r} is not the id of a hub repository") from error
    except LocalEntryNotFoundError:
        reason = f"{', '.join(weights)} not in the Hugging Face cache"
    except FileNotFoundError as error:
        reason = str(error)
    if download:
        try:
            # A question that is asked once: without network, the download itself would retry for half a minute.
            HfApi().model_info(repo, revision=revision, timeout=_ANSWER_SECONDS)
            logger.info("downloading %s, %s MB", repo, size_mb or "unknown")
            return snapshot(local_files_only=False)
        except Exception as error:  # the hub's errors, and those of whichever HTTP library it uses
            reason = f"the download failed: {' '.join(str(error).split())}"
    raise WeightsMissing(repo, size_mb=size_mb, license=license, revision=revision, reason=reason)


def builtin_folder(weights: Path, name: str, marker: str, *, in_clone: str) -> Path:
    """The folder `name` of a package's folder `weights`; FileNotFoundError with the names that are there.

    `marker` is a file that every model's folder holds; `in_clone`, for an error about weights that wheels lack, is the
    setting that finds it in a clone of the source repository.
    """
    names = sorted(path.parent.name for path in weights.glob(f"*/{marker}"))
    if name not in names:
        if name == RESEARCH:
            raise FileNotFoundError(
                f"builtin:{name} is not in this installation: its weights are for research, and lie in the source "
                f"repository alone; install from a clone of it by `pip install -e CLONE`, or set {in_clone}"
            )
        there = ", ".join(names) or "none"
        raise FileNotFoundError(f"no built-in model {name!r} in this installation; there is: {there}")
    return weights / name


def file_marks(files: Sequence[Path]) -> list[str]:
    """What tells weights files from others of the same names: their sizes and ends, as the whole may be gigabytes."""
    marks = []
    for file in files:
        with file.open("rb") as stream:
            size = stream.seek(0, os.SEEK_END)
            stream.seek(max(0, size - _MARK_BYTES))
            marks.append(f"{size}:{hashlib.sha256(stream.read()).hexdigest()}")
    return marks


def refuse_code(folder: Path) -> None:
    """ValueError if a config in a model's folder, or in a folder of it, names code to be run: models are data alone.

    Libraries would offer to run it, or do. They take other configs than `config.json` too, such as `config.4.0.json`.
    """
    for path in sorted([*folder.glob("*.json"), *folder.glob("*/*.json")]):
        if "config" not in path.name and path.name != "model_index.json":
            continue
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path} cannot be read as JSON: {one_line(error)}") from None
        if not isinstance(config, dict):
            raise ValueError(f"{path} holds {type(config).__name__}, expected an object of JSON")
        if key := next(_code_keys(config), None):
            raise ValueError(f"{path} has the key {key!r}, by which a model runs code of its own: refused as unsafe")


def _code_keys(value: Any) -> Iterator[str]:
    """The keys in plain data of JSON that name code."""
    if isinstance(value, list):
        for part in value:
            yield from _code_keys(part)
    if isinstance(value, dict):
        for key, part in value.items():
            # Diffusers' name of a class is a list where a file defines the class; one of attention, such as "org/name",
            # is a repository of compiled code.
            is_file = key == "_class_name" and isinstance(part, list)
            is_repository = key.endswith("_implementation") and "/" in str(part)
            if is_file or is_repository or (key in _CODE_KEYS and part):
                yield key
            yield from _code_keys(part)


def check_whole(file: Path) -> None:
    """ValueError if a .safetensors file is cut, or something else: its head tells how long it must be."""
    from safetensors import safe_open

    with file.open("rb") as stream:
        if stream.read(len(_LFS_POINTER)) == _LFS_POINTER:
            raise ValueError(f"{file} is a pointer of Git LFS, expected the weights: `git lfs pull` fetches them")
    try:
        with safe_open(file, framework="numpy"):
            pass
    except Exception as error:  # safetensors' own, which is a plain Exception
        raise ValueError(f"{file} is cut off, damaged or no safetensors file: {one_line(error)}") from None


@contextmanager
def loading(what: str) -> Iterator[None]:
    """Whatever is raised within becomes a ValueError of one line about `what`.

    Files that do not fit make the libraries raise almost anything.
    """
    try:
        yield
    except Exception as error:
        raise ValueError(f"{what} cannot be loaded: {one_line(error)}") from error


def one_line(error: Exception) -> str:
    """A library's message on one line that is not too long; with the error's name where the message is a mere key."""
    text = " ".join(str(error).split())
    if len(text) > _REASON_CHARACTERS:
        text = f"{text[:_REASON_CHARACTERS]} …"
    return f"{type(error).__name__} {text}".strip() if isinstance(error, KeyError) or not text else text
