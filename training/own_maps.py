"""Label maps that a model draws for tagged images, where it may choose among an image's own tags alone.

    python -m training.own_maps MODEL FOLDER --images IMAGES --of streets,animals

What an image does not show is what a model is most often wrong about; the tags of the image rule it out. What is left
to choose from the model places better than it names, and its own maps teach its head to find these labels among all
(self-training; with image-level labels as in Papandreou et al., ICCV 2015). Logits are spread by the affinity of a
diffusion model, which follows what belongs together. No label map is read.
"""

from __future__ import annotations

import argparse
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image

from emerdiff import EmerDiff
from ground.images import read_image
from ovseg import Label, OpenVocabSegmenter
from ovseg.fetch import WEIGHTS_FILE
from ovseg.surroundings import SURROUNDINGS, surroundings_besides
from training.free.dataset import MOST_LABELS, Row, write_table, write_words
from training.hardware import CPU, Hardware
from training.photo_tags import TagVocabulary, embed_texts, guessed_places
from training.photo_words import SYNONYMS
from training.photos import Photo, read_photos, read_table
from training.tower_folder import BROADER, read_broader

# How sure a place must be of its label, as a share: others are unknown.
SURE = 0.6
UNKNOWN = MOST_LABELS
log = logging.getLogger(__name__)


class Artist:
    """Draws label maps by a model of words and the affinity of a model of masks."""

    def __init__(
        self, model: Path, preset: str, photos: Sequence[Photo], hardware: Hardware = CPU, *, masks: bool = True
    ) -> None:
        """`model` is an open_clip local-dir, in place of that of the preset; `photos` are all that tags are read of.

        Without `masks` the preset's diffusion model is not loaded, and logits are not spread.
        """
        settings, device = {"model": f"local-dir:{model}", "overlay": None}, str(hardware.device)
        self.words = OpenVocabSegmenter.from_preset(preset, device=device, dtype="float32", **settings)
        self.masks = EmerDiff.from_preset(preset, device=device, dtype="float32") if masks else None
        self.vocabulary = TagVocabulary(photos, self.words.backbone)
        self.around = dict(zip(SURROUNDINGS, embed_texts(SURROUNDINGS, self.words.backbone), strict=True))

    def labels(self, photo: Photo) -> tuple[list[str], list[str]]:
        """(tags, companions) that a map of the photo may have: broad tags alone where it has no others."""
        broad = self.vocabulary.broad_tags(photo)
        tags = [tag for tag in photo.tags if tag not in broad] or broad
        return tags, self.vocabulary.companions(photo)

    def draw(self, photo: Photo) -> tuple[list[str], NDArray[np.uint8]]:
        """The labels of the photo, and (H, W) uint8 indices of them, or UNKNOWN.

        Where tags leave room for others, usual surroundings take their places, which are unknown then.
        """
        image = read_image(photo.path)
        tags, companions = self.labels(photo)
        labels, exhaustive = [*tags, *companions], photo.source in self.vocabulary.exhaustive
        around = () if exhaustive else surroundings_besides(labels)
        rows = [self.vocabulary.embeddings[self.vocabulary.index[label]] for label in labels]
        text = torch.stack([*rows, *(self.around[name] for name in around)]).numpy()
        named = [Label(name) for name in (*labels, *around)]
        affinity = self.masks.affinity(image) if self.masks else None
        coarse = self.words.segment(image, named, text_embeddings=text, affinity=affinity)
        logits = torch.from_numpy(coarse.logits)
        grid_hw = logits.shape[1:]
        logs = logits.flatten(1).T.log_softmax(dim=1)  # P x N
        down = ((torch.arange(grid_hw[0]) + 0.5) / grid_hw[0]).repeat_interleave(grid_hw[1])
        shares = guessed_places(logs, down, tags, [*companions, *around], exhaustive=exhaustive)
        planes = shares.T.unflatten(1, grid_hw)[None]
        highest, label_map = F.interpolate(planes, image.shape[:2], mode="bilinear")[0].max(dim=0)
        unknown = (highest < SURE) | (label_map >= min(len(labels), UNKNOWN))
        return labels, torch.where(unknown, UNKNOWN, label_map).byte().numpy()


def draw_maps(artist: Artist, photos: Sequence[Photo], images: Path, folder: Path) -> None:
    """Add the maps of `photos`, all of one source of `images`, to `folder`: whole, or not at all after a stop.

    ValueError if the source has more labels than a map can hold.
    """
    source = Path(photos[0].source).name
    names = sorted({label for photo in photos for part in artist.labels(photo) for label in part})
    if len(names) > MOST_LABELS:
        raise ValueError(f"{source} has {len(names)} labels, expected at most {MOST_LABELS}")
    maps = folder / "labels" / source
    part = maps.with_name(f"{source}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    (part / "names.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    numbers = np.full(UNKNOWN + 1, UNKNOWN, np.uint8)
    for count, photo in enumerate(photos):
        labels, label_map = artist.draw(photo)
        numbers[: len(labels)] = [names.index(label) for label in labels]
        Image.fromarray(numbers[label_map]).save(part / f"{photo.path.stem}.png", optimize=True)
        if count % 50 == 0:
            log.info("%s: %d of %d maps", source, count, len(photos))
    known = read_table(folder) if (folder / "captions.csv").exists() else []
    rows = [_row(photo, photo.path.relative_to(folder).as_posix()) for photo in known]
    write_table(folder, rows + [_row(photo, f"images/{source}/{photo.path.name}") for photo in photos])
    (folder / "images").mkdir(exist_ok=True)
    (folder / "images" / source).symlink_to((images / "images" / source).resolve())
    add_words(folder, artist, photos)
    part.rename(maps)


def _row(photo: Photo, path: str) -> Row:
    return path, ";".join(photo.tags), photo.caption


def add_words(folder: Path, artist: Artist, photos: Sequence[Photo]) -> None:
    """Add to `folder`/broader.csv what else the labels of `photos` go by."""
    others = {label: {*of} for label, of in read_broader(folder / BROADER).items()}
    for label, words in labels_and_others(artist, photos).items():
        others.setdefault(label, set()).update(words)
    write_words(folder, (), {label: ";".join(sorted(of)) for label, of in others.items() if of})


def labels_and_others(artist: Artist, photos: Sequence[Photo]) -> dict[str, tuple[str, ...]]:
    """All labels of maps of `photos`, and what else each goes by: synonyms, broad tags that come with it."""
    others: dict[str, set[str]] = {}
    for photo in photos:
        broad = artist.vocabulary.broad_tags(photo)
        tags, companions = artist.labels(photo)
        for label in (*tags, *companions):
            more = [*SYNONYMS.get(label, ()), *(broad if label in tags else ())]
            others.setdefault(label, set()).update(word for word in more if word != label)
    return {label: tuple(sorted(of)) for label, of in others.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.own_maps", description="Label maps that a model draws for tagged images."
    )
    parser.add_argument("model", type=Path, help="an open_clip local-dir")
    parser.add_argument("folder", type=Path, help="where to add the sources with their maps, as for training.map_head")
    parser.add_argument("--images", type=Path, required=True, help="a folder with captions.csv, as for the trainers")
    parser.add_argument("--of", required=True, help="sources, as NAME,NAME")
    parser.add_argument("--count", type=int, default=400, help="images of each, at most (default: 400)")
    parser.add_argument("--tags", default="", help="only images with one of these, as TAG,TAG (default: all)")
    parser.add_argument("--preset", default="mini", help="whose UNet spreads the logits (default: mini)")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if not (arguments.model / WEIGHTS_FILE).is_file():
        parser.error(f"{arguments.model} has no {WEIGHTS_FILE}: expected an open_clip local-dir")
    photos = [photo for photo in read_photos(arguments.images) if photo.tags]
    tags = {*filter(None, arguments.tags.split(","))}
    by_source: dict[str, list[Photo]] = {}
    for photo in photos:
        if tags and tags.isdisjoint(photo.tags):
            continue
        by_source.setdefault(Path(photo.source).name, []).append(photo)
    wanted = arguments.of.split(",")
    if missing := [name for name in wanted if name not in by_source]:
        given = f"images tagged with {' or '.join(sorted(tags))}" if tags else "tagged images"
        known = ", ".join(sorted(by_source)) or "no source: expected other --tags"
        parser.error(f"no {given} of {', '.join(missing)}: expected some of {known}")
    there = [name for name in wanted if any((arguments.folder / of / name).exists() for of in ("images", "labels"))]
    if there:
        parser.error(f"{arguments.folder} has {', '.join(there)} already: expected other sources, or another folder")
    artist = Artist(arguments.model, arguments.preset, photos)
    for name in wanted:
        own = by_source[name]
        drawn = np.random.default_rng(0).permutation(len(own))[: arguments.count]
        draw_maps(artist, [own[i] for i in sorted(drawn)], arguments.images, arguments.folder)


if __name__ == "__main__":
    main()
