"""Laws of what the free training set is made of: licences, names of drawings and emoji, and 3D models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.free.drawings import drawing_cutouts, fields_of, is_solid
from training.free.drawings import is_free as is_free_drawing
from training.free.emoji import fluent_cutouts
from training.free.licences import file_licences, is_free, licence_of
from training.free.models import read_catalogue
from training.free.names import ANIMAL, ARTIFACT, FOOD, Nouns
from training.free.packages import PACKAGES
from training.free.render import read_mtl, read_obj, sample_points, view

# offset, field, lemmas, hypernyms: a WordNet of a dozen nouns.
WORDS = [
    (1, 3, ["entity"], []),
    (2, 3, ["animal"], [1]),
    (3, 5, ["dog"], [2]),
    (4, 5, ["bulldog"], [3]),
    (5, 6, ["vehicle"], [1]),
    (6, 6, ["car", "automobile"], [5]),
    (7, 6, ["chair"], [1]),
    (8, 6, ["deck_chair"], [7]),
    (9, 6, ["mouse"], [1]),
    (10, 5, ["mouse"], [2]),
    (11, 3, ["person"], [1]),
    (12, 18, ["toaster"], [11]),
    (13, 6, ["toaster"], [1]),
    (14, 13, ["pie"], [1]),
]


@pytest.fixture
def nouns(tmp_path: Path) -> Nouns:
    senses: dict[str, list[int]] = {}
    data = ["  1 a licence"]
    for offset, field, lemmas, above in WORDS:
        for lemma in lemmas:
            senses.setdefault(lemma, []).append(offset)
        words = " ".join(f"{lemma} 0" for lemma in lemmas)
        links = " ".join(f"@ {up:08} n 0000" for up in above)
        data.append(f"{offset:08} {field:02} n {len(lemmas):02x} {words} {len(above):03} {links} | a gloss of @ things")
    index = [
        f"{lemma} n {len(found)} 0 {len(found)} 0 " + " ".join(f"{o:08}" for o in found)
        for lemma, found in senses.items()
    ]
    (tmp_path / "data.noun").write_text("\n".join(data) + "\n")
    (tmp_path / "index.noun").write_text("\n".join(index) + "\n")
    return Nouns(tmp_path)


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("Deck chair", "deck chair"),
        ("Plastic chair", "chair"),
        ("chairs", "chair"),
        ("Concept Sedan 02", "car"),
        ("Automobile", "car"),
        ("english_bulldog", "dog"),
        ("Entity", None),
        ("Quux", None),
    ],
)
def test_names_become_plain_nouns(nouns: Nouns, name: str, word: str | None) -> None:
    noun = nouns.noun(name)
    assert (noun.word if noun else None) == word


def test_the_kind_of_thing_decides_between_senses(nouns: Nouns) -> None:
    assert nouns.noun("mouse", (ANIMAL,)).broad == ("animal",)
    assert nouns.noun("mouse", (ARTIFACT,)).broad == ()
    assert nouns.noun("dog", (FOOD,)) is None
    # A tool rather than a person, though the person is the commoner sense.
    assert nouns.noun("toaster").broad == ()
    assert nouns.noun("car").broad == ("vehicle",)


def test_a_folder_without_wordnet_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"index\.noun"):
        Nouns(tmp_path / "none")


@pytest.mark.parametrize(
    "licence",
    ["CC0-1.0", "CC0", "CC-BY-3.0", "public-domain", "MIT", "OFL-1.1", "GPL-3 or CC-BY-4.0", "MIT and CC0-1.0"],
)
def test_licences_that_allow_any_use_are_free(licence: str) -> None:
    assert is_free(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "CC-BY-SA-4.0",
        "GPL-2+",
        "CC-BY-NC-SA-1.0",
        "CC-BY-ND-3.0",
        "unknown",
        "",
        "CC-BY-3.0 and GPL-2",
        "free-art",
        "LGPL-3",
    ],
)
def test_other_licences_are_not(licence: str) -> None:
    assert not is_free(licence)


def test_the_last_pattern_of_a_copyright_file_counts() -> None:
    text = """Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/

Files: *
Copyright: 2020, A
License: GPL-2+

Files: nature/*.jpg
       other/one.png
Copyright: 2020, B
License: CC-BY-4.0
 The text of the licence.

Files: nature/hill.jpg
Copyright: 2020, C
License: CC-BY-2.0
Comment: https://example.org/Hill_(by-sa).jpg
"""
    licences = list(file_licences(text))
    assert licence_of("nature/tree.jpg", licences) == "CC-BY-4.0" == licence_of("other/one.png", licences)
    assert licence_of("other/two.png", licences) == "GPL-2+"
    assert licence_of("nature/hill.jpg", licences) == "unknown"
    assert licence_of("nature/tree.jpg", []) == "unknown"


def svg(title: str, keywords: list[str], licence: str = "http://web.resource.org/cc/PublicDomain") -> str:
    subject = "".join(f"<rdf:li>{word}</rdf:li>" for word in keywords)
    about = f"<dc:title>{title}</dc:title><dc:subject>{subject}</dc:subject>"
    return f'<svg>{about}<cc:license rdf:resource="{licence}"/></svg>'


def drawing(path: Path, filled: bool = True) -> None:
    rows, columns = np.mgrid[:64, :64]
    away = np.hypot(rows - 32, columns - 32)
    image = np.zeros((64, 64, 4), np.uint8)
    image[(away < 20) & (filled | (away > 17))] = (220, 40, 30, 255)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(image).save(path)


def test_drawings_are_named_by_their_keywords_and_kept_if_free_and_solid(tmp_path: Path, nouns: Nouns) -> None:
    files = {
        "animals/a_bulldog_01": (svg("Spike", ["animal", "bulldog"]), True),
        "animals/gpl": (svg("Spike", ["dog"], "http://creativecommons.org/licenses/GPL/2.0/"), True),
        "animals/nothing": (svg("Spike", ["dog"], ""), True),
        "animals/outline": (svg("Spike", ["dog"]), False),
        "animals/toaster": (svg("Toaster", ["toaster"]), True),
        "computer/icons/dog": (svg("Dog", ["dog"]), True),
    }
    for name, (text, filled) in files.items():
        drawing(tmp_path / f"png/{name}.png", filled)
        (tmp_path / f"svg/{name}.svg").parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / f"svg/{name}.svg").write_text(text)
    found = list(drawing_cutouts(tmp_path / "png", tmp_path / "svg", "drawings", nouns))
    assert [cutout.path for cutout, _ in found] == ["drawings/animals-a_bulldog_01.png"]
    cutout, image = found[0]
    assert (cutout.label, cutout.broad, cutout.licence) == ("dog", "animal", "public-domain")
    assert image.shape == (39, 39, 4)


def test_the_nearest_folder_says_what_drawings_may_be_named() -> None:
    assert fields_of("animals/birds") == (ANIMAL,)
    assert fields_of("people/smilies") == () == fields_of("shapes/stars")
    assert not is_free_drawing("<svg/>")
    assert not is_solid(np.full((9, 9, 4), 255, np.uint8))


def test_emoji_are_named_by_their_table(tmp_path: Path, nouns: Nouns) -> None:
    def entry(short: str, name: str, code: str, kind: str) -> dict:
        return {"short_name": short, "name": name, "unified": code, "subcategory": kind}

    table = tmp_path / "emoji.json"
    entries = [
        entry("dog", "DOG FACE", "1F436", "animal-mammal"),
        entry("car", "AUTOMOBILE", "1F697", "transport-ground"),
        entry("grinning", "GRINNING FACE", "1F600", "face-smiling"),
        entry("pie", "PIE", "1F967", "food-sweet"),
    ]
    table.write_text(json.dumps(entries))
    for code in ("1f436", "1f697", "1f600"):
        drawing(tmp_path / f"{code}.png")
        Image.open(tmp_path / f"{code}.png").save(tmp_path / f"{code}.webp", lossless=True)
    found = list(fluent_cutouts(tmp_path, table, "fluent", nouns))
    assert [(cutout.path, cutout.label) for cutout, _ in found] == [
        ("fluent/1f436.png", "dog"),
        ("fluent/1f697.png", "car"),
    ]


CUBE = """mtllib cube.mtl
v 0 0 0
v 1 0 0
v 1 1 0
v 0 1 0
v 0 0 1
v 1 0 1
v 1 1 1
v 0 1 1
vt 0 0
vt 1 0
vt 1 1
vt 0 1
usemtl front
f 5/1 6/2 7/3 8/4
usemtl back
f 1 4 3 2
f -8 -7 -3 -4
"""


def test_a_cube_is_read_with_its_materials() -> None:
    mesh = read_obj(CUBE)
    assert mesh.corners.tolist()[:2] == [[4, 5, 6], [4, 6, 7]]
    assert mesh.corners.tolist()[4] == [0, 1, 5] and len(mesh.corners) == 6
    assert [mesh.names[i] for i in mesh.materials] == ["front"] * 2 + ["back"] * 4
    materials = read_mtl("newmtl front\nKd 1 0 0\nd 0.5\nmap_Kd a.png\n\nnewmtl back\nKd 0 0 1\n")
    assert materials["front"].opacity == 0.5 and materials["front"].image == "a.png"
    assert materials["back"].colour == (0.0, 0.0, 1.0)
    with pytest.raises(ValueError, match="without faces"):
        read_obj("v 0 0 0\n")


def test_a_view_shows_the_nearest_side_in_its_colour() -> None:
    materials = read_mtl("newmtl front\nKd 1 0 0\n\nnewmtl back\nKd 0 0 1\n")
    points = sample_points(read_obj(CUBE), materials, lambda _: None, 20_000, np.random.default_rng(0))
    for turn, channel in ((0.0, 0), (np.pi, 2)):
        image = view(points, 32, turn, 0.0, np.array([0.0, 0.0, 1.0]))
        inner = image[8:24, 8:24]
        assert (inner[..., 3] == 255).all()
        assert (inner[..., channel] > 150).all() and (inner[..., 2 - channel] == 0).all()


def test_a_surface_shows_its_image_upright() -> None:
    texture = np.zeros((8, 8, 3), np.uint8)
    texture[:4] = (0, 255, 0)  # the upper half
    materials = read_mtl("newmtl front\nmap_Kd a.png\n\nnewmtl back\nKd 0 0 1\n")
    points = sample_points(read_obj(CUBE), materials, lambda name: texture, 20_000, np.random.default_rng(0))
    image = view(points, 32, 0.0, 0.0, np.array([0.0, 0.0, 1.0]))
    assert (image[6:12, 8:24, 1] > 150).all() and (image[20:26, 8:24, 1] < 50).all()


def test_a_catalogue_says_size_and_turn() -> None:
    entries = read_catalogue(
        "name#1=Door\nmodel#1=/a/door.obj\nwidth#1=90\ndepth#1=10\nheight#1=200\ndoorOrWindow#1=true\n"
        "name#2=Chair\nmodel#2=/a/chair.obj\nwidth#2=50\ndepth#2=50.5\nheight#2=80\n"
        "modelRotation#2=0 0 1 0 1 0 -1 0 0\n"
        "name#3=Lost\n"
    )
    assert [(entry.name, entry.path, entry.size_cm, entry.on_wall) for entry in entries] == [
        ("Door", "a/door.obj", (90.0, 200.0, 10.0), True),
        ("Chair", "a/chair.obj", (50.0, 80.0, 50.5), False),
    ]
    np.testing.assert_array_equal(entries[1].rotation @ [1, 2, 3], [3, 2, -1])


def test_every_package_is_listed_in_the_sources() -> None:
    text = (Path(__file__).parents[1] / "training/free/SOURCES.md").read_text(encoding="utf-8")
    for package in PACKAGES:
        assert f"`{package.name}`" in text, package.name
