"""Weights on disk: what ships with a package, or what lies in the Hugging Face cache, downloaded if asked to."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path

logger = logging.getLogger(__name__)

_MARK_BYTES = 2**20  # at the end of a weights file
_ANSWER_SECONDS = 10  # within which the hub must answer the first question


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


def builtin_folder(weights: Path, name: str, marker: str) -> Path:
    """The folder `name` of a package's folder `weights`; FileNotFoundError with the names that are there.

    `marker` is a file that every model's folder holds.
    """
    names = sorted(path.parent.name for path in weights.glob(f"*/{marker}"))
    if name not in names:
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
