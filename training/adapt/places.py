"""Places: the words learn once more, from label maps that they draw of the user's images among each image's own tags.

To rank the tags of an image one need not know where things are; to label its places one must (training.own_maps). The
words that draw lie halfway between those that rank and those of the start: what the start knew of places, they know.
"""

from __future__ import annotations

import logging
import shutil
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ground.files import replacing
from ovseg.fetch import WEIGHTS_FILE
from training.adapt.split import Split
from training.hardware import CPU, Hardware
from training.map_head import SIDE, STRIDE, Recipe, look, teach
from training.own_maps import Artist, labels_and_others
from training.photos import Photo, read_photos
from training.tower_folder import mapped_of
from training.tower_model import average, load_tower, save
from training.tower_teaching import Eyes
from training.tower_words import words_of

# Maps that are drawn, at most: some ten minutes on one core.
MAPS = 400
RECIPE = Recipe(steps=160, places=10, rare=0.5)
# Of the way to what was learned.
PART = 0.7
log = logging.getLogger(__name__)


def halfway(start: Path, ranked: Path, folder: Path) -> Path:
    """The open_clip folder `folder`, with the average of the weights of two others."""
    shutil.rmtree(folder, ignore_errors=True)
    average(start, ranked, 0.5, folder)
    return folder


def train_places(
    split: Split, start: Path, preset: str, run: Path, target: Path, hardware: Hardware, *, masks: bool = True
) -> int:
    """The number of label maps that the model `start` drew and its head learned from; with 0 nothing is written.

    `preset` names the preset whose UNet follows what belongs together, unless `masks` is False. The model goes into
    the open_clip folder `target`; `run` keeps the maps, so that a later call goes on.
    """
    tagged = [photo for photo in read_photos(split.train) if photo.tags]
    if not tagged:
        return 0
    drawn = np.sort(np.random.default_rng(0).permutation(len(tagged))[:MAPS])
    photos = [tagged[i] for i in drawn]
    artist = Artist(start, preset, tagged, hardware, masks=masks)
    named = labels_and_others(artist, photos)
    labels = sorted({word for label, of in named.items() for word in (label, *of)})
    others = {label: of for label, of in named.items() if of}
    own = _folder_of(start, run)
    words, _ = words_of(own / "words", [], labels, others, start)
    mapped = mapped_of([photo.path for photo in photos], _maps(artist, photos, own), others, words, own)
    tower = load_tower(start, STRIDE)
    seen = look(tower, Eyes(start, SIDE, CPU), mapped)
    teach(tower, seen, [np.arange(len(photos))], words, RECIPE, PART)
    save(tower, start, target)
    return len(photos)


def _folder_of(start: Path, run: Path) -> Path:
    """A folder in `run` for what this model draws; what another one drew, before more steps, is removed."""
    own = run / f"{zlib.crc32((start / WEIGHTS_FILE).read_bytes()):08x}"
    for other in run.glob("*"):
        if other != own:
            shutil.rmtree(other)
    own.mkdir(parents=True, exist_ok=True)
    return own


def _maps(artist: Artist, photos: Sequence[Photo], folder: Path) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """The labels and the map of each photo, drawn unless `folder` has it."""
    for number, photo in enumerate(photos):
        path = folder / f"{number}.png"
        if path.exists():
            tags, companions = artist.labels(photo)
            with Image.open(path) as image:
                yield [*tags, *companions], np.asarray(image)
            continue
        labels, label_map = artist.draw(photo)
        with replacing(path) as file:
            Image.fromarray(label_map).save(file, "PNG")
        yield labels, label_map
        if number % 50 == 0:
            log.info("the words drew %d of %d label maps", number, len(photos))
