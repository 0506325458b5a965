"""Laws of the places whose parts are named by hand: what a view shows, the truth says, and things stand before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.free.cutouts import Cutout
from training.free.dataset import MOST_LABELS, write_table
from training.free.panoramas import UNKNOWN
from training.free.places import (
    FILES,
    OTHER_NAMES,
    SIZE,
    Place,
    look,
    outdoors,
    painted,
    place_scene,
    read_areas,
    write_places,
)
from training.photos import read_photos

# Of road, of sky, and of what has no name.
COLOURS = np.array([(80, 80, 80), (40, 90, 220), (0, 0, 0)], np.float32)


def halves() -> Place:
    """Sky over road, blue over grey, and a strip at the horizon that nobody has named."""
    regions = np.full((128, 256), MOST_LABELS, np.uint8)
    regions[:60], regions[68:] = 1, 0
    return Place(COLOURS[np.minimum(regions, 2)], regions, ("road", "sky"))


def test_every_area_lies_within_its_panorama_and_has_a_package() -> None:
    for (package, panorama), areas in read_areas().items():
        assert package in FILES and panorama
        for _, corners in areas:
            assert len(corners) >= 3
            assert (corners >= 0).all() and (corners <= SIZE).all()
        assert set(np.unique(painted(areas, tuple(sorted({label for label, _ in areas if label}))))) - {MOST_LABELS}


def test_other_names_are_of_labels_that_are_there() -> None:
    assert OTHER_NAMES.keys() <= {label for areas in read_areas().values() for label, _ in areas}


def test_later_areas_lie_over_earlier_ones_and_what_has_no_name_is_unknown_again() -> None:
    whole, middle = np.array([[0, 0], [1024, 0], [1024, 512], [0, 512]]), np.array([[9, 9], [20, 9], [20, 20], [9, 20]])
    areas = [("sky", whole.astype(np.int32)), ("", middle.astype(np.int32))]
    regions = painted(areas, ("road", "sky"))
    assert regions[0, 0] == 1 and regions[15, 15] == MOST_LABELS and regions[25, 15] == 1


def test_a_view_has_the_truth_of_its_pixels() -> None:
    place = halves()
    for seed in range(4):
        image, regions, horizon = look(place, (48, 64), np.random.default_rng(seed))
        assert image.shape == (48, 64, 3) and regions.shape == (48, 64)
        # Blue, grey or, where nobody has named it, black: the nearest, as borders are blurred by the interpolation.
        nearest = np.abs(image[..., None, :] - COLOURS).sum(axis=-1).argmin(axis=-1)
        named = np.select([regions == 1, regions == 0], [1, 0], 2)
        assert (nearest == named).mean() > 0.95
        rows = np.nonzero((regions == MOST_LABELS).any(axis=1))[0]
        if len(rows) and 4 < horizon < 44:
            assert rows.min() - 4 <= horizon <= rows.max() + 4


def test_a_scene_of_a_place_names_what_is_known_and_nothing_else() -> None:
    scene = place_scene([halves()])(np.random.default_rng(0), (48, 64))
    assert scene.names == ["road", "sky", UNKNOWN]
    assert set(np.unique(scene.labels)) <= {0, 1, 2}


def test_things_stand_outdoors_alone() -> None:
    indoors = Place(np.zeros((4, 8, 3), np.float32), np.zeros((4, 8), np.uint8), ("road", "sky"))
    cutouts = [Cutout(f"{name}.png", name, "", "CC0-1.0", 150.0, "ground") for name in ("car", "man", "sofa")]
    kind = outdoors([indoors, halves()], cutouts)
    assert not indoors.shows("sky") and halves().shows("sky")
    assert kind.things == (("car",), ("car",), ("man",), ("man",))
    scene = kind.scene(np.random.default_rng(1), (48, 64))
    assert scene.image.max() > 0


def test_views_are_read_by_the_trainers(tmp_path: Path) -> None:
    rows = write_places(tmp_path, [halves()], 11, 32)
    write_table(tmp_path, rows)
    photos = read_photos(tmp_path)
    assert len(photos) == 9  # every tenth is for measuring
    assert {tag for photo in photos for tag in photo.tags} <= {"road", "sky"}
    assert (tmp_path / "labels/places/names.txt").read_text().split() == ["road", "sky"]
