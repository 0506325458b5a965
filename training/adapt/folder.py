"""A user's folder → its images, each with what is said of it, in a table, in text files or by names of folders."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from fusion.runs.inputs import find_images
from training.photos import Photo, read_table

TABLE, TEXT_FILES, FOLDER_NAMES, NOTHING = "captions.csv", "text files", "names of folders", "nothing"
# A tenth of fewer would be one image.
MIN_IMAGES = 20
# Words of a tag in a text file; what is longer is a caption.
_TAG_WORDS = 3
# Names of folders that say nothing of their images.
_NO_CLASSES = frozenset(
    [
        *(
            "images",
            "image",
            "img",
            "imgs",
            "photos",
            "photo",
            "pictures",
            "data",
            "raw",
            "input",
            "inputs",
            "new",
            "old",
        ),
        *("train", "training", "val", "valid", "validation", "test", "testing", "jpg", "jpeg", "png"),
    ]
)


@dataclass(frozen=True)
class Collection:
    """The images of a folder."""

    folder: Path  # absolute
    photos: tuple[Photo, ...]  # by path
    said_by: str  # where tags and captions are from: TABLE, TEXT_FILES, FOLDER_NAMES or NOTHING

    @property
    def tags(self) -> list[str]:
        """All tags, the most frequent first."""
        counts: dict[str, int] = {}
        for photo in self.photos:
            for tag in photo.tags:
                counts[tag] = counts.get(tag, 0) + 1
        return sorted(counts, key=lambda tag: (-counts[tag], tag))

    @property
    def captions(self) -> list[str]:
        """All captions, each once, sorted."""
        return sorted({photo.caption for photo in self.photos if photo.caption})


def read_collection(folder: Path, output: Path) -> Collection:
    """The images of `folder`; nothing is looked for in `output`, where it lies in there.

    Raises, in one line, FileNotFoundError where there is no folder, and ValueError on one with fewer than MIN_IMAGES
    images, on a captions.csv that names no columns, files that are not there or an image twice, and on tags without a
    letter.
    """
    folder = folder.absolute()
    if not folder.is_dir():
        raise FileNotFoundError(f"no folder {folder}: expected one of images")
    if (folder / TABLE).is_file():
        photos, said_by = _listed(folder), TABLE
    else:
        photos, said_by = _found(folder, output)
    if len(photos) < MIN_IMAGES:
        raise ValueError(
            f"{folder} has {len(photos)} images, expected at least {MIN_IMAGES}: a tenth of them is for the report"
        )
    for photo in photos:
        for tag in photo.tags:
            if not any(letter.isalpha() for letter in tag):
                raise ValueError(f"the tag {tag!r} of {photo.path} names nothing: expected words, separated by ;")
    return Collection(folder, tuple(sorted(photos, key=lambda photo: photo.path)), said_by)


def check_words(collection: Collection) -> None:
    """ValueError, in one line, if what is said of the images cannot teach words."""
    if collection.said_by == NOTHING:
        raise ValueError(
            f"nothing says what the images of {collection.folder} show, so that words cannot be adapted: expected "
            f"{TABLE} (path,tags,caption), NAME.txt beside NAME.jpg, or a folder for each class; --masks needs none"
        )
    said = sum(bool(photo.tags or photo.caption) for photo in collection.photos)
    if said < MIN_IMAGES:
        raise ValueError(
            f"{said} images of {collection.folder} have tags or a caption, expected at least {MIN_IMAGES} for words"
        )
    kinds = {photo.tags for photo in collection.photos if photo.tags}
    if len(kinds) < 2 and len(collection.captions) < 2:
        shown = ", ".join(collection.tags) or collection.captions[0]
        raise ValueError(f"all images of {collection.folder} are said to show the same ({shown}): words need two kinds")


def _listed(folder: Path) -> list[Photo]:
    photos = read_table(folder)
    missing = [photo.path for photo in photos if not photo.path.is_file()]
    if missing:
        rest = f", and {len(missing) - 1} others" if len(missing) > 1 else ""
        raise ValueError(f"{folder / TABLE} names {missing[0]}{rest}: no such file")
    seen: set[Path] = set()
    for photo in photos:
        if photo.path in seen:
            raise ValueError(f"{folder / TABLE} names {photo.path} twice, expected a line for each image")
        seen.add(photo.path)
    return photos


def _found(folder: Path, output: Path) -> tuple[list[Photo], str]:
    """The images themselves, with the texts beside them or, without any, the names of their folders."""
    inside = folder / "images"
    # Label maps are images, too, but none to learn from.
    root = inside if inside.is_dir() and (folder / "labels").is_dir() else folder
    paths = sorted(find_images([root], outside=[output.absolute()]))
    photos = [_with_text(Photo(path, path.relative_to(folder).parent.as_posix(), (), "")) for path in paths]
    if any(photo.tags or photo.caption for photo in photos):
        return photos, TEXT_FILES
    classes = {photo.path.parent: _class_of(photo.path.parent.name) for photo in photos if photo.path.parent != root}
    if len(set(classes.values())) < 2 or "" in classes.values() or any(p.path.parent == root for p in photos):
        return photos, NOTHING
    return [replace(photo, tags=(classes[photo.path.parent],)) for photo in photos], FOLDER_NAMES


def _class_of(name: str) -> str:
    """ "garbage_truck" → "garbage truck"; "" where a folder's name is that of no class, such as "2024" or "train"."""
    words = re.sub(r"[-_\s]+", " ", name).strip()
    known = words.casefold() not in _NO_CLASSES and not any(sign.isdigit() for sign in words)
    return words if known and any(sign.isalpha() for sign in words) else ""


def _with_text(photo: Photo) -> Photo:
    """The photo with what NAME.txt beside it says: in each line tags or a caption."""
    path = photo.path.with_suffix(".txt")
    if not path.is_file():
        return photo
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise ValueError(f"{path} cannot be read as text: {' '.join(str(error).split())}") from None
    tags: list[str] = []
    captions: list[str] = []
    for line in filter(None, map(str.strip, text.splitlines())):
        found = as_tags(line)
        tags += found
        captions += [line] * (not found)
    return replace(photo, tags=tuple(dict.fromkeys(tags)), caption=" ".join(captions))


def as_tags(line: str) -> list[str]:
    """The tags that a line lists, separated by `;` or else by commas; none if it is a caption.

    Between commas a tag has three words at most, does not begin with an article and ends without a full stop.
    """
    if ";" in line:
        return [tag for tag in map(str.strip, line.split(";")) if tag]
    parts = [part for part in map(str.strip, line.split(",")) if part]
    short = all(len(part.split()) <= _TAG_WORDS and not re.match(r"(an?|the)\s", part, re.I) for part in parts)
    return parts if short and not line.endswith(".") else []
