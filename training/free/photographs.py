"""The few photographs that are free, with what they show: as they are, without label maps."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources
from pathlib import Path

from PIL import Image, ImageOps

from training.free.dataset import QUALITY, Row
from training.free.licences import file_licences, is_free, licence_of

# Wallpapers that show something with a name, by their names in lomiri-wallpapers.
WALLPAPERS = {
    "aitzgorri_by_Aitzol_Berasategi": "mountain;grass;forest;sky",
    "friends_by_Aitzol_Berasategi": "dog;wall;window",
    "life_by_Aitzol_Berasategi": "rock;stream;tree;forest",
    "picosdeeuropa_by_Aitzol_Berasategi": "mountain;grass;sky;path",
    "Picture_0B_by_freespace": "bowl;fig;fruit",
    "Picture_1A_by_freespace": "brush;paint",
    "seeding_by_Clements_Engelhardt": "dandelion;grass;sky",
    "sunset_by_Aitzol_Berasategi": "mountain;sky;sun",
    "Wine_by_Jakkub_Mede": "beanbag;drum;table;wine bottle;floor",
}
# Photographs that Python packages bring along: package, file → what it shows. Their licences are in SOURCES.md.
SAMPLES = {
    ("skimage.data", "chelsea.png"): "cat",
    ("skimage.data", "coffee.png"): "coffee cup;spoon;table",
    ("skimage.data", "astronaut.png"): "woman;flag",
    ("skimage.data", "rocket.jpg"): "rocket;sky",
    ("skimage.data", "brick.png"): "wall",
    ("skimage.data", "grass.png"): "grass",
    ("skimage.data", "gravel.png"): "gravel",
    ("sklearn.datasets.images", "china.jpg"): "building;sky;tree",
    ("sklearn.datasets.images", "flower.jpg"): "flower",
}
FLOWERS = ("daisy", "dandelion", "rose", "sunflower", "tulip")


def write_photographs(folder: Path, packages: Path, flowers: Path | None, side: int) -> list[Row]:
    """All photographs, made smaller: at most `side` px of the shorter side."""
    sources = {"wallpapers": wallpapers(packages), "samples": samples()}
    if flowers is not None:
        sources["flowers"] = flower_photographs(flowers)
    rows = []
    for source, photographs in sources.items():
        (folder / "images" / source).mkdir(parents=True, exist_ok=True)
        for name, tags, image in photographs:
            path = f"images/{source}/{name}.jpg"
            _smaller(image, side).save(folder / path, quality=QUALITY)
            rows.append((path, tags, ""))
    return rows


def _smaller(image: Image.Image, side: int) -> Image.Image:
    """At most `side` px of the shorter side, and at most 1.5 times as long."""
    image = ImageOps.exif_transpose(image).convert("RGB")
    short = min(image.size)
    width, height = (min(length, round(1.5 * short)) for length in image.size)
    scale = min(1.0, side / short)
    return ImageOps.fit(image, (round(width * scale), round(height * scale)), Image.Resampling.LANCZOS)


Photographs = Iterator[tuple[str, str, Image.Image]]  # name, tags, image


def wallpapers(packages: Path) -> Photographs:
    """Those of WALLPAPERS whose licence is free, as the package's copyright file says."""
    root = packages / "lomiri-wallpapers-16.04/usr/share"
    licences = list(file_licences((root / "doc/lomiri-wallpapers-16.04/copyright").read_text(encoding="utf-8")))
    for name, tags in WALLPAPERS.items():
        if is_free(licence_of(f"16.04/{name}.jpg", licences)):
            yield name, tags, Image.open(root / f"backgrounds/{name}.jpg")


def samples() -> Photographs:
    """Those of SAMPLES, as the installed packages have them."""
    for (package, file), tags in SAMPLES.items():
        with resources.as_file(resources.files(package) / file) as path, Image.open(path) as image:
            yield path.stem, tags, image.convert("RGB")


def flower_photographs(folder: Path) -> Photographs:
    """Photographs of TensorFlow's flower_photos (CC-BY): FLOWER/NAME.jpg, FLOWERs/NAME.jpg or FLOWER_NAME.jpg."""
    for path in sorted(folder.rglob("*.jpg")):
        kind = next((flower for flower in FLOWERS if flower in (path.parent.name + path.name)[: len(flower) + 9]), "")
        if kind:
            yield path.stem, f"{kind};flower", Image.open(path)
