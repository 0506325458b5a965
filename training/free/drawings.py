"""Public-domain drawings with names: the PNG files of Debian's openclipart-png, named by the SVG files' metadata."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from training.free.cutouts import Cutout, trimmed
from training.free.names import ANIMAL, ARTIFACT, FOOD, PERSON, PLANT, THINGS, Noun, Nouns, listed

# Folders of drawings of things → what their names may be; the longest that fits counts, () leaves out.
FOLDERS: dict[str, tuple[int, ...]] = {
    "animals": (ANIMAL,),
    "food": (FOOD, PLANT),
    "food/beverages": (FOOD, ARTIFACT),
    "plants": (PLANT,),
    "buildings": (ARTIFACT,),
    "transportation": (ARTIFACT,),
    "transportation/roadsigns": (),
    "transportation/aiga-symbols": (),
    "people": (PERSON,),
    "people/clothing": (ARTIFACT,),
    "people/smilies": (),
    "people/stickmen": (),
    "people/bodypart": (),
    "tools": (ARTIFACT,),
    "recreation/music": (ARTIFACT,),
    "recreation/sports": (ARTIFACT,),
    "recreation/toys": (ARTIFACT,),
    "office": (ARTIFACT,),
    "education": (ARTIFACT,),
    "electronics": (ARTIFACT,),
    "containers": (ARTIFACT,),
    "computer/hardware": (ARTIFACT,),
    "unsorted": THINGS,
}
# Licence terms in the metadata that say public domain.
FREE = re.compile(r"(web\.resource\.org/cc/PublicDomain|creativecommons\.org/licenses/publicdomain)")
# Nouns that say how something is drawn, or too little.
NO_NAMES = frozenset(
    listed(
        "icon, symbol, sign, line, drawing, cartoon, picture, image, art, clip, outline, silhouette, shape, thing, "
        "object, item, tool, animal, food, plant, person, people, artist, creator, author, logo, draw, colour, "
        "color, black, white, red, blue, green, set, part, head, face, body, side, top, back, front, end, print, "
        "work, mammal, bird, insect, fish, fruit, vegetable, flower, tree, vehicle, transport, building, clothing, "
        "toy, furniture, instrument, equipment, device, container, home, way, mark, sheet, plate, base, model, "
        "stock, frame, design, pattern, card, button, stamp, character, adult, user, worker, player, member, hash, "
        "road, rana, landscape, portrait, donna, menu, harvest, spring, lovely, bust, hardware, transportation, "
        "sport, arrow, dessert, flat, mobile, paint, pin, virus, hopper, fang, weapon, knot, alcohol, beverage, "
        "park, library, mom, kid, burner, vacuum, chain, flag, can, feline, mix, stamper, studio, pointer, "
        "youngster, bach, guy, beethoven, jack, logos, handel, friend, maya, reminder, self, gates, pink, load, "
        "future, water, block, cleaner, projectile, street, john, letter, sulla, psycho, gallina, sacco, pop, angel, "
        "workstation, camper, joker, signore, signorina, petal, footwear, stereo, disc, net, roller, nail, engine, "
        "dish, antilope, cuppa"
    )
)
# Broad words may name a drawing that has no narrower one.
BROAD_NAMES = frozenset(listed("bird, fish, insect, fruit, vegetable, flower, tree, building, toy, person"))
# How much of what its outline encloses a drawing must fill, and how colourful it must be.
FILLED, COLOURFUL = 0.75, 12.0
SIZE = 256
# Larger files take seconds to open: px.
LARGEST = 12e6


def drawing_cutouts(png: Path, svg: Path, source: str, nouns: Nouns) -> Iterator[tuple[Cutout, np.ndarray]]:
    """The drawings in the folder `png` whose SVG file in `svg` says public domain, and that have a name."""
    for path in sorted(png.rglob("*.png")):
        name = path.relative_to(png).with_suffix("")
        metadata = svg / name.with_suffix(".svg")
        fields = fields_of(name.parent.as_posix())
        if not fields or not metadata.is_file():
            continue
        text = metadata.read_text(encoding="utf-8", errors="replace")
        noun = drawing_noun(text, fields, nouns) if is_free(text) else None
        opened = None if noun is None else _opened(path)
        image = None if opened is None else trimmed(opened, SIZE)
        if noun is not None and image is not None and is_solid(image):
            label = "-".join(name.parts)
            yield Cutout(f"{source}/{label}.png", noun.word, ";".join(noun.broad), "public-domain", 0.0, "any"), image


def fields_of(folder: str) -> tuple[int, ...]:
    """What the drawings of `folder` may be named; () if they are left out."""
    fitting = [start for start in FOLDERS if folder == start or folder.startswith(start + "/")]
    return FOLDERS[max(fitting, key=len)] if fitting else ()


def is_free(metadata: str) -> bool:
    """Whether the metadata of an SVG file name a licence, and none but the public domain."""
    licences = re.findall(r"<cc:license[^>]*rdf:resource=\"([^\"]*)\"", metadata)
    return bool(licences) and all(FREE.search(licence) for licence in licences)


def drawing_noun(metadata: str, fields: tuple[int, ...], nouns: Nouns) -> Noun | None:
    """The noun for what is drawn: in the title and the keywords before in one alone, the more specific first."""
    title = re.search(r"<dc:title>(.*?)</dc:title>", metadata, re.S)
    subject = re.search(r"<dc:subject>(.*?)</dc:subject>", metadata, re.S)
    keywords = re.findall(r"<rdf:li>\s*(.*?)\s*</rdf:li>", subject[1], re.S) if subject else []
    in_keywords = {noun for word in keywords if (noun := nouns.noun(word, fields))}
    words = re.findall(r"[a-z]+", title[1].lower()) if title else []
    phrases = [" ".join(words[i:j]) for i in range(len(words)) for j in (i + 1, i + 2) if j <= len(words)]
    in_title = {noun for phrase in phrases if (noun := nouns.noun(phrase, fields))}
    for some in (in_keywords & in_title, in_keywords, in_title):
        for names in (lambda n: n.word not in NO_NAMES, lambda n: n.word in BROAD_NAMES):
            fitting = [noun for noun in some if len(noun.word) > 2 and names(noun)]
            if fitting:
                return max(fitting, key=lambda noun: (noun.depth, noun.word))
    return None


def _opened(path: Path) -> np.ndarray | None:
    with Image.open(path) as image:
        if image.width * image.height > LARGEST:
            return None
        image.thumbnail((4 * SIZE, 4 * SIZE), Image.Resampling.BOX)
        return np.asarray(image.convert("RGBA"))


def is_solid(image: np.ndarray) -> bool:
    """Whether a drawing (H, W, 4) covers what its outline encloses, in colours: no line art, no black shape."""
    visible = (image[..., 3] > 127).astype(np.uint8)
    outlines, _ = cv2.findContours(visible, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    enclosed = cv2.drawContours(np.zeros_like(visible), outlines, -1, 1, cv2.FILLED)
    colours = image[visible > 0][:, :3].astype(np.float32)
    saturated = (colours.max(axis=1) - colours.min(axis=1)).mean()
    return bool(visible.sum() >= FILLED * enclosed.sum() and visible.mean() < 0.97 and saturated > COLOURFUL)
