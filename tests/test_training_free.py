"""Laws of the free training set: composites say what was pasted, licences let through only what is free, names fit."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.free import scenes
from training.free.choose import by_label, draw_things, kinds
from training.free.compose import compose, paste, resized
from training.free.cutouts import Cutout, read_cutouts, save_cutouts, trimmed
from training.free.dataset import write_composites, write_table
from training.free.panoramas import UNKNOWN, panorama_scene, view
from training.free.scenes import Scene
from training.photos import read_photos

RED = np.array([200, 10, 10, 255], np.uint8)


def square(label: str, height_cm: float = 0.0, place: str = "any") -> Cutout:
    return Cutout(f"test/{label}.png", label, "", "CC0-1.0", height_cm, place)


def plain(size_hw: tuple[int, int] = (40, 60)) -> Scene:
    return Scene(np.full((*size_hw, 3), 90, np.float32), np.zeros(size_hw, np.int32), ["wall"], 20.0, 160.0)


def test_a_pasted_thing_owns_the_pixels_it_covers_and_no_others() -> None:
    scene, cutout = plain(), np.zeros((10, 12, 4), np.uint8)
    cutout[2:8, 3:9] = RED
    paste(scene, "ball", cutout, 5, 7)
    expected = np.zeros((40, 60), bool)
    expected[7:13, 10:16] = True
    assert scene.names == ["wall", "ball"]
    np.testing.assert_array_equal(scene.labels == 1, expected)
    np.testing.assert_array_equal(scene.image[expected], np.broadcast_to(RED[:3], (36, 3)))
    assert (scene.image[~expected] == 90).all()


@pytest.mark.parametrize(("top", "left"), [(-6, -4), (35, 55), (-50, 3), (3, 90)])
def test_what_is_pasted_beyond_the_edges_is_cut(top: int, left: int) -> None:
    scene = plain()
    paste(scene, "ball", np.broadcast_to(RED, (10, 12, 4)), top, left)
    expected = np.zeros((60, 80), bool)
    expected[max(0, top + 10) : max(0, top + 20), max(0, left + 10) : max(0, left + 22)] = True
    np.testing.assert_array_equal(scene.labels == 1, expected[10:50, 10:70])


def test_half_transparent_pixels_blend_and_keep_their_label() -> None:
    scene, cutout = plain(), np.zeros((2, 2, 4), np.uint8)
    cutout[:] = (190, 190, 190, 102)
    paste(scene, "glass", cutout, 0, 0)
    assert not (scene.labels == 1).any()
    np.testing.assert_allclose(scene.image[:2, :2], 90 * 0.6 + 190 * 0.4)


def test_resizing_takes_no_colour_from_what_is_transparent() -> None:
    image = np.zeros((16, 16, 4), np.uint8)
    image[4:12, 4:12] = RED
    image[:4, :, 1] = 255  # green that cannot be seen
    small = resized(image, 0.25)
    assert small.shape == (4, 4, 4)
    np.testing.assert_array_equal(small[small[..., 3] > 0][:, :3], np.broadcast_to(RED[:3], (4, 3)))


@pytest.mark.parametrize("maker", [scenes.land, scenes.sea, scenes.street, scenes.room, scenes.backdrop])
def test_scenes_name_every_pixel_and_are_the_same_again(maker) -> None:
    for seed in range(2):
        first, again = (maker(np.random.default_rng(seed), (24, 32)) for _ in range(2))
        np.testing.assert_array_equal(first.image, again.image)
        np.testing.assert_array_equal(first.labels, again.labels)
        assert first.image.shape == (24, 32, 3) and np.isfinite(first.image).all()
        assert first.labels.min() >= 0 and first.labels.max() < len(first.names)
        assert all(first.names)


def test_sky_is_above_the_horizon_of_a_landscape() -> None:
    scene = scenes.land(np.random.default_rng(0), (48, 64))
    rows = np.nonzero(scene.labels == scene.names.index("sky"))[0]
    assert rows.max() <= scene.horizon


def test_the_tags_of_a_composite_are_its_labels_by_area() -> None:
    rng = np.random.default_rng(0)
    things = [square("ball"), square("box")]
    made = compose(rng, plain((64, 64)), things, lambda cutout: np.broadcast_to(RED, (20, 20, 4)))
    areas = {name: int((made.labels == i).sum()) for i, name in enumerate(made.names)}
    assert made.image.shape == (64, 64, 3) and made.image.dtype == np.uint8
    assert made.tags == sorted(made.tags, key=lambda tag: -areas[tag])
    assert set(made.tags) == {name for name, area in areas.items() if area >= 0.005 * 64 * 64}


def test_a_thing_on_the_ground_is_as_tall_as_the_ground_is_far() -> None:
    # 160 cm stand with their feet as far below the horizon as they reach above their feet: the camera's height.
    for seed in range(20):
        scene = plain((100, 200))
        made = compose(
            np.random.default_rng(seed),
            scene,
            [square("man", 160.0, "ground")],
            lambda _: np.broadcast_to(RED, (50, 20, 4)),
        )
        rows = np.nonzero((made.labels == 1).any(axis=1))[0]
        if len(rows) and rows.max() < 98:
            assert abs(rows.min() - scene.horizon) <= 2


def test_a_photographed_place_has_no_known_pixels_but_tags() -> None:
    panorama = np.random.default_rng(0).uniform(0, 255, (32, 64, 3)).astype(np.float32)
    scene = panorama_scene({"park": panorama})(np.random.default_rng(1), (24, 32))
    assert scene.names == [UNKNOWN] and scene.tags == ("grass", "sky")
    made = compose(np.random.default_rng(2), scene, [], lambda _: np.zeros((1, 1, 4), np.uint8))
    assert made.tags == ["grass", "sky"]


def test_a_view_into_a_panorama_has_up_above_and_turns() -> None:
    panorama = np.zeros((64, 128, 3), np.float32)
    panorama[:32] = 255
    seen = view(panorama, (33, 33), 1.2, 0.0, 0.0)
    assert (seen[:14] > 250).all() and (seen[-14:] < 5).all()
    panorama = np.broadcast_to(np.sin(np.arange(128) / 128 * 2 * np.pi)[None, :, None], (64, 128, 3)).astype(np.float32)
    np.testing.assert_allclose(
        view(panorama, (9, 9), 1.2, 0.5, 0), view(panorama, (9, 9), 1.2, 0.5 + 2 * np.pi, 0), atol=1e-3
    )


def test_the_folder_is_read_by_the_trainers(tmp_path: Path) -> None:
    cutouts = [square(label, 120.0, "ground") for label in ("man", "car", "tree", "dog", "chair", "bench")]
    every = kinds(cutouts, None, 3)
    assert [kind.name for kind in every] == ["street", "land", "room", "things_0", "things_1"]
    street = every[0]
    load = lambda cutout: np.broadcast_to(RED, (30, 20, 4))  # noqa: E731
    rows = write_composites(tmp_path, street, cutouts, load, 12, 48)
    write_table(tmp_path, rows)
    names = (tmp_path / "labels/composite_street/names.txt").read_text().split("\n")[:-1]
    assert len(names) == len(set(names))
    for path, tags, _ in rows:
        labels = np.asarray(Image.open((tmp_path / path.replace("images", "labels")).with_suffix(".png")))
        assert Image.open(tmp_path / path).size == labels.shape[::-1]
        shown = {names[i] for i in np.unique(labels) if i < 255}
        assert set(tags.split(";")) <= shown
    # Every tenth is for measuring.
    assert len(read_photos(tmp_path)) == 12 - 2


def test_things_are_drawn_from_what_fits_the_place() -> None:
    cutouts = [square("car", 150.0, "ground"), square("lion"), square("sofa", 80.0, "ground"), square("man", 175.0)]
    found = by_label(cutouts)
    for kind in kinds(cutouts, None, 100):
        allowed = {label for group in kind.things for label in group}
        for seed in range(20):
            drawn = draw_things(np.random.default_rng(seed), kind, found)
            assert 1 <= len(drawn) <= kind.most and {thing.label for thing in drawn} <= allowed
        assert kind.name != "room" or "car" not in allowed
        assert kind.name != "street" or "sofa" not in allowed


def test_cutouts_are_saved_once_and_read_as_they_were(tmp_path: Path) -> None:
    image = np.broadcast_to(RED, (9, 9, 4)).copy()
    saved = save_cutouts(tmp_path, "test", [(square("ball", 22.5), image)])
    assert saved == [square("ball", 22.5)] == read_cutouts(tmp_path / "test.csv")
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "test/ball.png")), image)
    assert save_cutouts(tmp_path, "test", iter(())) == saved
    with (tmp_path / "test.csv").open() as file:
        assert next(csv.reader(file)) == ["path", "label", "broad", "licence", "height_cm", "place"]


def test_trimming_leaves_what_is_visible() -> None:
    image = np.zeros((100, 100, 4), np.uint8)
    image[20:60, 30:50] = RED
    part = trimmed(image, 20)
    assert part is not None and part.shape == (20, 10, 4) and (part[..., 3] == 255).all()
    assert trimmed(np.zeros((50, 50, 4), np.uint8), 20) is None
