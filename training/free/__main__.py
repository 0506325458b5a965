"""Command line: `python -m training.free OUTPUT --packages FOLDER`; see docs/training.md."""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from training.free.choose import kinds
from training.free.compose import loader
from training.free.cutouts import Cutout, save_cutouts
from training.free.dataset import Row, counted, write_composites, write_table, write_words
from training.free.drawings import drawing_cutouts
from training.free.emoji import fluent_cutouts, noto_cutouts
from training.free.models import model_cutouts
from training.free.names import Nouns
from training.free.packages import fetch
from training.free.panoramas import panorama_scene, read_panoramas
from training.free.photographs import write_photographs
from training.free.places import OTHER_NAMES, outdoors, read_places, write_places

# Labels of a part of what may be anywhere; an 8-bit map holds the scenery's beside them.
PART = 200
log = logging.getLogger(__name__)


def all_cutouts(packages: Path, folder: Path) -> list[Cutout]:
    """The cut-outs of all sources, made where they are not yet in `folder`."""
    nouns = Nouns(packages / "wordnet-base/usr/share/wordnet")
    emoji = packages / "emoji-datasource/package/emoji.json"
    png, svg = (packages / f"openclipart-{kind}/usr/share/openclipart/{kind}" for kind in ("png", "svg"))
    font = packages / "fonts-noto-color-emoji/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
    fluent = packages / "@lobehub/fluent-emoji-3d/package/assets"
    furniture = packages / "sweethome3d-furniture/usr/share/sweethome3d/furniture"
    return [
        *save_cutouts(folder, "models", model_cutouts(furniture, "models", nouns)),
        *save_cutouts(folder, "noto", noto_cutouts(font, emoji, "noto", nouns)),
        *save_cutouts(folder, "fluent", fluent_cutouts(fluent, emoji, "fluent", nouns)),
        *save_cutouts(folder, "drawings", drawing_cutouts(png, svg, "drawings", nouns)),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m training.free", description="Build a training set from packages whose licences allow any use."
    )
    parser.add_argument("output", type=Path, help="the folder of the training set: images/, labels/, captions.csv")
    parser.add_argument(
        "--packages", type=Path, required=True, help="where packages are unpacked, downloaded if missing"
    )
    parser.add_argument("--count", type=int, default=4000, help="composites in all (default: 4000)")
    parser.add_argument("--side", type=int, default=192, help="px of the composites' shorter side (default: 192)")
    parser.add_argument(
        "--places",
        type=int,
        default=0,
        help="views of panoramas whose parts are named by hand, and as many with things in them (default: 0)",
    )
    parser.add_argument("--flowers", type=Path, help="a folder of TensorFlow's flower_photos, one folder a flower")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")

    fetch(arguments.packages)
    folder = arguments.packages / "cutouts"
    cutouts = all_cutouts(arguments.packages, folder)
    log.info("cut-outs:\n%s", counted(cutouts))
    place = panorama_scene(read_panoramas(arguments.packages / "@pmndrs/assets/package/hdri"))
    rows: list[Row] = write_photographs(arguments.output, arguments.packages, arguments.flowers, arguments.side)
    log.info("%d photographs", len(rows))
    for kind in kinds(cutouts, place, PART):
        count = round(arguments.count * kind.share)
        rows += write_composites(arguments.output, kind, cutouts, loader(folder), count, arguments.side)
        log.info("%d composites %s", count, kind.name)
    if arguments.places:
        places, count = read_places(arguments.packages), arguments.places
        rows += write_places(arguments.output, places, count, arguments.side)
        populated = outdoors(places, cutouts)
        rows += write_composites(arguments.output, populated, cutouts, loader(folder), count, arguments.side)
        log.info("%d views of places, and as many with things in them", count)
    write_table(arguments.output, rows)
    write_words(arguments.output, cutouts, OTHER_NAMES if arguments.places else {})


if __name__ == "__main__":
    main()
