"""Emoji with names: the bitmaps of Noto Color Emoji (OFL 1.1) and the renderings of Fluent Emoji (MIT)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from training.free.cutouts import Cutout, trimmed
from training.free.names import ANIMAL, ARTIFACT, FOOD, OBJECT, PERSON, PLANT, Noun, Nouns

# Kinds of emoji that show a thing → what their names may be.
KINDS: dict[str, tuple[int, ...]] = {
    "animal-": (ANIMAL,),
    "plant-": (PLANT,),
    "food-": (FOOD, PLANT),
    "drink": (FOOD, ARTIFACT),
    "dishware": (ARTIFACT,),
    "person": (PERSON,),
    "transport-": (ARTIFACT,),
    "place-building": (ARTIFACT,),
    "place-religious": (ARTIFACT,),
    "household": (ARTIFACT,),
    "clothing": (ARTIFACT,),
    "tool": (ARTIFACT,),
    "sport": (ARTIFACT,),
    "musical-instrument": (ARTIFACT,),
    "computer": (ARTIFACT,),
    "phone": (ARTIFACT,),
    "light & video": (ARTIFACT,),
    "office": (ARTIFACT,),
    "book-paper": (ARTIFACT,),
    "place-geographic": (OBJECT,),
}
LEFT_OUT = ("person-symbol", "person-fantasy", "transport-sign")
# The only size of the bitmaps in the font, px.
BITMAP = 109
SIZE = 256


def named_emoji(table: Path, nouns: Nouns) -> Iterator[tuple[list[str], Noun]]:
    """(code points of the variants of an emoji as hexadecimal joined by `-`, its noun) of emoji.json."""
    for entry in json.loads(table.read_text(encoding="utf-8")):
        kind = entry["subcategory"]
        fields = next((fields for start, fields in KINDS.items() if kind.startswith(start)), None)
        if fields is None or kind in LEFT_OUT:
            continue
        texts = [entry["short_name"], entry["name"].partition(" WITH ")[0].replace(" FACE", "")]
        if kind.startswith("person") and kind not in ("person-role", "person-sport"):
            texts = [_person(entry["short_name"])]
        noun = next((noun for text in texts if (noun := nouns.noun(text.replace("-", " "), fields))), None)
        if noun is not None:
            codes = [entry["unified"], *(skin["unified"] for skin in entry.get("skin_variations", {}).values())]
            yield [code.lower() for code in codes], noun


def _person(name: str) -> str:
    words = name.replace("_", "-").split("-")
    if not {"woman", "female", "girl"}.isdisjoint(words):
        return "woman"
    return "man" if not {"man", "male", "boy"}.isdisjoint(words) else "person"


def noto_cutouts(font: Path, table: Path, source: str, nouns: Nouns) -> Iterator[tuple[Cutout, np.ndarray]]:
    """The emoji of the font that are one character."""
    face = ImageFont.truetype(str(font), BITMAP)
    for codes, noun in named_emoji(table, nouns):
        if len(codes[0].split("-")) > 2 or (parts := codes[0].split("-"))[1:] not in ([], ["fe0f"]):
            continue
        canvas = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(canvas).text((10, 10), chr(int(parts[0], 16)), font=face, embedded_color=True)
        image = trimmed(np.asarray(canvas), SIZE)
        if image is not None:
            yield _cutout(source, codes[0], noun, "OFL-1.1"), image


def fluent_cutouts(folder: Path, table: Path, source: str, nouns: Nouns) -> Iterator[tuple[Cutout, np.ndarray]]:
    """The emoji of a folder of `CODE.webp`, persons in all colours of skin."""
    for codes, noun in named_emoji(table, nouns):
        for code in codes:
            path = folder / f"{code}.webp"
            image = trimmed(np.asarray(Image.open(path).convert("RGBA")), SIZE) if path.is_file() else None
            if image is not None:
                yield _cutout(source, code, noun, "MIT"), image


def _cutout(source: str, code: str, noun: Noun, licence: str) -> Cutout:
    return Cutout(f"{source}/{code}.png", noun.word, ";".join(noun.broad), licence, 0.0, "any")
