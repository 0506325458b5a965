"""All labels that an image tower learns, embedded once: sets of tags → `Words`, kept in a folder.

With the files there the text tower is not needed, so that they can be made on one machine and used on another.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor

from ovseg import OvsegConfig
from ovseg.backbone import load_backbone
from training.photo_clip import class_names
from training.photo_tags import SIMILAR, TagVocabulary, embed_texts
from training.photo_words import BROAD, HEIGHTS, SYNONYMS, UNSURE, WORN
from training.photos import Photo

_TENSORS, _TABLE = "words.safetensors", "words.json"


@dataclass(frozen=True)
class TagSet:
    """What images of one source with the same tags show, as indices of labels, the largest first."""

    source: str
    specific: tuple[int, ...]  # tags, but for those that cover others
    broad: tuple[int, ...]
    companions: tuple[int, ...]  # what may be there as well
    exhaustive: bool  # nothing else that the source has a tag for


@dataclass(frozen=True, eq=False)
class Words:
    """V labels; the tensors are on one device."""

    labels: tuple[str, ...]
    sets: tuple[TagSet, ...]
    embeddings: Tensor  # (V, C) float32 unit vectors
    names: Tensor  # (1000, C) of the teacher's classes
    similar: Tensor  # (V, V) bool: too near in meaning to be told apart, synonyms and broader words among them
    negatives: Tensor  # (S, V) bool: what images of a set do not show

    @cached_property
    def index(self) -> dict[str, int]:
        return {label: i for i, label in enumerate(self.labels)}

    @cached_property
    def synonyms(self) -> dict[int, tuple[int, ...]]:
        """Of the labels that have some."""
        known = {self.index[label]: others for label, others in SYNONYMS.items() if label in self.index}
        return {i: tuple(self.index[label] for label in others) for i, others in known.items()}

    @cached_property
    def of_tags(self) -> list[int]:
        """Indices of all that is a tag."""
        return sorted({label for of in self.sets for label in (*of.specific, *of.broad)})

    @cached_property
    def heights(self) -> NDArray[np.float32]:
        """(V + 1,) where each label usually is: 1 above, -1 below; the last is none."""
        return np.array([*(HEIGHTS.get(label, 0) for label in self.labels), 0], np.float32)

    @cached_property
    def unsure(self) -> NDArray[np.bool_]:
        """(V + 1,) labels that as companions may as well be missing."""
        return np.array([*(label in UNSURE for label in self.labels), False])


def words_of(
    folder: Path, photos: Sequence[Photo], others: Sequence[str], broader: Mapping[str, Sequence[str]], start: Path
) -> tuple[Words, list[int]]:
    """The words of `photos` and `others`, and the set of tags of each photo; `broader` words cover others.

    Made with the text tower of the open_clip local-dir `start` if `folder` does not hold them; ValueError if it holds
    those of other images.
    """
    sets = {(photo.source, photo.tags): photo for photo in photos}
    order = {key: i for i, key in enumerate(sets)}
    mark = zlib.crc32(json.dumps([[*map(str, sets)], list(others)]).encode())
    if not (folder / _TABLE).exists():
        _make(photos, list(sets.values()), others, start, mark, folder)
    table = json.loads((folder / _TABLE).read_text())
    if table["mark"] != mark:
        raise ValueError(f"{folder} holds the words of other images: remove it, or give another --runs")
    labels = tuple(table["labels"])
    tag_sets = tuple(
        TagSet(source, tuple(specific), tuple(broad), tuple(companions), exhaustive)
        for source, specific, broad, companions, exhaustive in table["sets"]
    )
    tensors = load_file(folder / _TENSORS)
    embeddings, names = tensors["embeddings"].float(), tensors["names"].float()
    negatives = np.unpackbits(tensors["negatives"].numpy(), axis=1, count=len(labels)).astype(bool)
    similar = embeddings @ embeddings.T > SIMILAR
    index = {label: i for i, label in enumerate(labels)}
    covered = [(one, other) for known in (broader, SYNONYMS) for one, others in known.items() for other in others]
    for one, other in covered:
        if one in index and other in index:
            similar[index[one], index[other]] = similar[index[other], index[one]] = True
    words = Words(labels, tag_sets, embeddings, names, similar, torch.from_numpy(negatives))
    return words, [order[photo.source, photo.tags] for photo in photos]


def _make(
    photos: Sequence[Photo], sets: Sequence[Photo], others: Sequence[str], start: Path, mark: int, folder: Path
) -> None:
    """Write the files of the folder."""
    backbone = load_backbone(OvsegConfig(model=f"local-dir:{start}"), dtype="float32")
    vocabulary = TagVocabulary(photos, backbone)
    more = [label for label in dict.fromkeys(others) if label not in vocabulary.index]
    labels = [*vocabulary.labels, *more]
    index = {label: i for i, label in enumerate(labels)}
    negatives = np.zeros((len(sets), len(labels)), bool)
    tag_sets = []
    for row, photo in zip(negatives, sets, strict=True):
        row[: len(vocabulary.labels)] = vocabulary.negatives(photo).numpy()
        worn = not WORN.isdisjoint(photo.tags)
        broad = [tag for tag in photo.tags if tag in BROAD or (tag == "person" and worn)]
        parts = [tag for tag in photo.tags if tag not in broad], broad, vocabulary.companions(photo)
        specific, covering, companions = (tuple(index[label] for label in part) for part in parts)
        exhaustive = photo.source in vocabulary.exhaustive
        tag_sets.append(TagSet(photo.source, specific, covering, companions, exhaustive))
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {
        "embeddings": torch.cat([vocabulary.embeddings, *([embed_texts(more, backbone)] if more else [])]).half(),
        "names": embed_texts(class_names(), backbone).half(),
        "negatives": torch.from_numpy(np.packbits(negatives, axis=1)),
    }
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / _TENSORS)
    # Last: its presence says that the rest is complete.
    (folder / _TABLE).write_text(json.dumps({"mark": mark, "labels": labels, "sets": [astuple(of) for of in tag_sets]}))
