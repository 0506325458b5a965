"""Places: the words learn once more, from label maps that they draw of the user's images among each image's own tags.

To rank the tags of an image one need not know where things are; to label its places one must (training.own_maps).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ground.files import replacing
from training.adapt.split import Split
from training.hardware import CPU, Hardware
from training.map_head import SIDE, STRIDE, Recipe, look, teach
from training.own_maps import Artist, labels_and_others
from training.photos import Photo, read_photos
from training.tower_lessons import mapped_of
from training.tower_model import load_tower, save
from training.tower_teaching import Eyes
from training.tower_words import words_of

# Maps that are drawn, at most: some ten minutes on one core.
MAPS = 400
RECIPE = Recipe(steps=160, places=10, rare=0.5)
# Of the way to what was learned.
PART = 0.7
log = logging.getLogger(__name__)


def train_places(
    split: Split, start: Path, ranked: Path, preset: str, run: Path, target: Path, hardware: Hardware
) -> int:
    """The number of label maps that the head of the model `ranked` learned from; with 0 nothing is written.

    The model `start` draws them, from before it learned to rank tags, which moves labels to wrong places where it knew
    the right ones. `preset` names the preset whose UNet follows what belongs together. The model goes into the
    open_clip folder `target`; `run` keeps the maps, so that a later call goes on.
    """
    tagged = [photo for photo in read_photos(split.train) if photo.tags]
    if not tagged:
        return 0
    drawn = np.sort(np.random.default_rng(0).permutation(len(tagged))[:MAPS])
    photos = [tagged[i] for i in drawn]
    artist = Artist(start, preset, tagged, hardware)
    named = labels_and_others(artist, photos)
    labels = sorted({word for label, of in named.items() for word in (label, *of)})
    others = {label: of for label, of in named.items() if of}
    words, _ = words_of(run, [], labels, others, start)
    mapped = mapped_of([photo.path for photo in photos], _maps(artist, photos, run / "maps"), others, words, run)
    tower = load_tower(ranked, STRIDE)
    seen = look(tower, Eyes(ranked, SIDE, CPU), mapped)
    teach(tower, seen, [np.arange(len(photos))], words, RECIPE, PART)
    save(tower, ranked, target)
    return len(photos)


def _maps(artist: Artist, photos: Sequence[Photo], folder: Path) -> Iterator[tuple[list[str], NDArray[np.uint8]]]:
    """The labels and the map of each photo, drawn unless `folder` has it."""
    for number, photo in enumerate(photos):
        path = folder / f"{number}.png"
        if path.exists():
            tags, companions = artist.labels(photo)
            yield [*tags, *companions], np.asarray(Image.open(path))
            continue
        labels, label_map = artist.draw(photo)
        with replacing(path) as file:
            Image.fromarray(label_map).save(file, "PNG")
        yield labels, label_map
        if number % 50 == 0:
            log.info("the words drew %d of %d label maps", number, len(photos))
