"""Large images in tiles: where they lie, how their masks and coarse maps are joined, and that one tile is the image."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from test_cli import emerseg
from tiny_emerdiff import picture
from tiny_fusion import masks_of

from emerdiff import Masks
from emerdiff.affinity import TiledAffinity
from emerdiff.join import join_tiles
from fusion import RunSpec, Segmenter, run_folder
from fusion.models.presets import load_preset
from fusion.runs.folder import opened_relabelling
from fusion.runs.relabel import relabelled
from fusion.validate import validate
from ground.tiles import Tiling

LABELS = ["cat", "grass", "sky"]


def cut(label_map: np.ndarray, tiling: Tiling) -> list:
    """The tiles of a true map, each with masks of its own numbers, whose features are one-hot by the true ids."""
    parts = []
    for tile in tiling.tiles(label_map.shape):
        ids, own = np.unique(label_map[tile.window], return_inverse=True)
        own = own.reshape(label_map[tile.window].shape).astype(np.int32)
        parts.append((tile, Masks(own, own, np.eye(label_map.max() + 1, dtype=np.float32)[ids])))
    return parts


def disk(size_hw: tuple[int, int], center: tuple[int, int], radius: int) -> np.ndarray:
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    return ((y - center[0]) ** 2 + (x - center[1]) ** 2 <= radius**2).astype(np.int32)


def same_partition(first: np.ndarray, second: np.ndarray) -> bool:
    pairs = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1)
    return len(np.unique(pairs[0])) == len(np.unique(pairs[1])) == pairs.shape[1]


@given(st.integers(1, 120), st.integers(1, 120), st.integers(16, 60), st.integers(0, 30))
def test_each_pixel_has_one_owner_and_neighbours_see_their_band(height, width, side, overlap):
    tiling = Tiling(side, min(overlap, side // 2))
    tiles = tiling.tiles((height, width))
    owners = np.zeros((height, width), int)
    for tile in tiles:
        owners[tile.owned] += 1
        assert tile.rows[0] <= tile.own_rows[0] < tile.own_rows[1] <= tile.rows[1]
        assert tile.columns[0] <= tile.own_columns[0] < tile.own_columns[1] <= tile.columns[1]
        assert [stop - start for start, stop in (tile.rows, tile.columns)] == [min(height, side), min(width, side)]
    assert (owners == 1).all()
    for seam in tiling.seams(tiles):
        for tile in (seam.first, seam.second):
            rows, columns = tile.within(seam.rows, seam.columns)
            assert 0 <= rows.start <= rows.stop <= min(height, side)
            assert 0 <= columns.start <= columns.stop <= min(width, side)


def test_a_disk_on_a_seam_and_one_on_a_corner_are_one_mask_each():
    tiling = Tiling(64, 16)
    (first, *_), seam = tiling.tiles((112, 112)), 56
    assert first.own_columns == (0, seam)
    truth = disk((112, 112), (28, seam), 12)
    truth[disk((112, 112), (seam, seam), 10) > 0] = 2
    joined = join_tiles(cut(truth, tiling), tiling, truth.shape)
    assert same_partition(joined.label_map, truth)
    np.testing.assert_array_equal(joined.features, np.eye(3, dtype=np.float32)[:3][[0, 1, 2]])
    assert same_partition(joined.low_res, truth)  # in these tiles each pixel is a position


def test_masks_with_other_features_or_other_pixels_stay_apart():
    tiling = Tiling(32, 8)
    truth = np.zeros((32, 56), np.int32)
    (left, mine), (right, _) = cut(truth, tiling)
    # Halves that neither tile shares with the other: as features, or as pixels.
    split = np.repeat([0, 1], 16).astype(np.int32)[:, None].repeat(32, axis=1)
    whole = Masks(mine.label_map, mine.low_res, np.ones((1, 2), np.float32))
    halves = Masks(split, split, np.array([[1, 0], [0, 1]], np.float32))
    turned = Masks(split[::-1].copy(), split, np.array([[1, 0], [0, 1]], np.float32))
    assert join_tiles([(left, whole), (right, halves)], tiling, truth.shape).num_masks == 3
    assert join_tiles([(left, halves), (right, halves)], tiling, truth.shape).num_masks == 2
    assert join_tiles([(left, halves), (right, turned)], tiling, truth.shape).num_masks == 4


@given(st.randoms(use_true_random=False), st.integers(0, 2**32 - 1))
def test_the_order_of_tiles_does_not_matter_and_all_is_a_partition(random, seed):
    rng = np.random.default_rng(seed)
    size_hw, tiling = (70, 90), Tiling(32, 10)
    parts = []
    for tile in tiling.tiles(size_hw):
        blocks = rng.integers(0, 4, (4, 4)).astype(np.int32)
        blocks.flat[:4] = range(4)
        label_map = np.kron(blocks, np.ones((8, 8), np.int32))
        parts.append((tile, Masks(label_map, blocks, rng.normal(size=(4, 3)).astype(np.float32))))
    first = join_tiles(parts, tiling, size_hw)
    random.shuffle(parts)
    second = join_tiles(parts, tiling, size_hw)
    for name in ("label_map", "low_res", "features"):
        np.testing.assert_array_equal(getattr(first, name), getattr(second, name))
    assert first.label_map.shape == size_hw and first.label_map.max() < first.num_masks <= 4 * len(parts)
    for tile, masks in parts:  # within what a tile owns, joining may unite its masks and never divides them
        own = masks.label_map[tile.within(tile.own_rows, tile.own_columns)]
        pairs = np.unique(np.stack([own.ravel(), first.label_map[tile.owned].ravel()]), axis=1)
        assert pairs.shape[1] == len(np.unique(own))


def test_one_tile_comes_back_as_it_is():
    masks = masks_of([[0, 1], [2, 1]])
    tiling = Tiling(16)
    (tile,) = tiling.tiles((2, 2))
    assert join_tiles([(tile, masks)], tiling, (2, 2)) is masks


@pytest.mark.parametrize("masks", ["emerdiff", "slic", "none"])
def test_an_image_that_fits_into_a_tile_is_segmented_as_without_tiles(tiny_preset, masks):
    preset = ["ovseg.refine=affinity", "emerdiff.affinity=features", "emerdiff.speed=instant"]
    plain = Segmenter.from_preset(tiny_preset, masks=masks, device="cpu", overrides=preset)
    tiled = Segmenter(plain.preset, plain.ovseg, plain.emerdiff, masks, tiling=Tiling(128, 16))
    for name in ("label_map", "mask_map", "score_map"):
        expected, found = (getattr(each.segment(picture(), LABELS), name) for each in (plain, tiled))
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("fuse", ["overlap", "embedding", "auto"])
@pytest.mark.parametrize("masks", ["emerdiff", "none"])
def test_scores_and_labels_of_a_mosaic_are_those_of_its_tiles(tiny_preset, masks, fuse):
    tiling = Tiling(64, 16)
    image = np.concatenate([picture(), picture()[:, ::-1]], axis=1)[:64]
    overrides = ["ovseg.refine=affinity", "emerdiff.affinity=features", "emerdiff.speed=instant", f"fusion.fuse={fuse}"]
    segmenter = Segmenter.from_preset(tiny_preset, masks=masks, device="cpu", overrides=overrides, tiling=tiling)
    found = segmenter.segment(image, LABELS)
    assert found.label_map.shape == found.mask_map.shape == image.shape[:2]
    assert sum(segment.area for segment in {segment.mask_id: segment for segment in found.segments}.values()) == (
        found.label_map.size
    )
    for tile in tiling.tiles(image.shape[:2]):
        alone = segmenter.coarse_map(np.ascontiguousarray(image[tile.window]), None, LABELS).scores
        inside = tile.within(tile.own_rows, tile.own_columns)
        expected = np.take_along_axis(alone, found.label_map[tile.window][None] - 1, axis=0)[0]
        np.testing.assert_allclose(found.score_map[tile.owned], expected[inside], atol=1e-5)


def test_affinities_of_tiles_are_kept_and_are_those_that_are_made_again(tiny_preset):
    overrides = ["ovseg.refine=affinity", "emerdiff.affinity=features", "emerdiff.speed=instant"]
    segmenter = Segmenter.from_preset(tiny_preset, device="cpu", overrides=overrides, tiling=Tiling(48, 8))
    masks = segmenter.make_masks(picture(), seed=3)
    assert isinstance(masks.affinity, TiledAffinity)
    for tile, kept in zip(Tiling(48, 8).tiles(picture().shape[:2]), masks.affinity.of_tiles, strict=True):
        again = segmenter.emerdiff.affinity(np.ascontiguousarray(picture()[tile.window]), seed=3)
        np.testing.assert_array_equal(kept.closeness, again.closeness)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tile": 8}, "tile is 8, expected a whole number of px from 16"),
        ({"tile": 64.0}, "tile is 64.0, expected a whole number of px from 16"),
        ({"tile": 64, "overlap": -1}, "overlap is -1, expected a whole number of px from 0"),
        ({"tile": 64, "overlap": 33}, "overlap is 33, expected at most 32 px, half of tile, which is 64"),
        ({"overlap": 8}, "overlap is 8, and there is no tile"),
    ],
)
def test_bad_sizes_are_one_line(tiny_preset, given, message):
    with pytest.raises(ValueError, match=message):
        RunSpec(tiny_preset, LABELS, **given)


def test_tiles_belong_to_the_run(tiny_preset, tmp_path):
    plain, tiled, other = (RunSpec(tiny_preset, LABELS, **given) for given in ({}, {"tile": 64}, {"tile": 128}))
    assert len({plain.hash, tiled.hash, other.hash}) == len({plain.mask_hash, tiled.mask_hash, other.mask_hash}) == 3
    assert (tiled.tile, tiled.overlap) == (64, 8)
    (tmp_path / "run.json").write_bytes(tiled.run_file([], 0).to_bytes())
    again = RunSpec.read(tmp_path)
    assert (again.hash, again.tiling) == (tiled.hash, Tiling(64, 8))


def save(path: Path, size_wh: tuple[int, int]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture()).resize(size_wh).save(path)
    return path


def files(output: Path) -> dict[str, bytes]:
    """What a folder holds, but for what says how it was made."""
    kept = (path for path in sorted(output.rglob("*")) if path.is_file())
    found = {path.relative_to(output).as_posix(): path.read_bytes() for path in kept}
    return {name: data for name, data in found.items() if name not in ("run.json", "journal.jsonl", ".lock")}


def test_a_folder_in_tiles_is_valid_and_is_relabelled_without_other_masks(tiny_preset, tmp_path):
    image = save(tmp_path / "photos/large.png", (150, 100))
    preset = load_preset(
        tiny_preset,
        ["ovseg.refine=affinity", "emerdiff.affinity=features", "emerdiff.speed=instant", "fusion.split=true"],
    )
    for labels, name in (([*LABELS, "dog [thing]"], "first"), (LABELS, "other")):
        spec = RunSpec(preset, labels, tile=64, overlap=16, device="cpu", exports=["yolo", "polygon"])
        (outcome,) = run_folder(spec, image, tmp_path / name)
        assert outcome.status == "done"
        assert list(validate(tmp_path / name)) == []
    assert [outcome.status for outcome in run_folder(spec, image, tmp_path / "other")] == ["skipped"]
    again = relabelled(tmp_path / "first", LABELS, device="cpu")
    assert again.tiling == spec.tiling
    with opened_relabelling(again, tmp_path / "first") as run:
        list(run.start())
    assert files(tmp_path / "first") == files(tmp_path / "other")


def test_the_command_line_takes_tiles_and_says_what_is_wrong_with_them_in_one_line(tiny_preset, tmp_path, capsys):
    image = save(tmp_path / "photos/large.png", (90, 60))
    given = [image, "--preset", tiny_preset, "--masks", "grid", "--device", "cpu", "-q", "--output"]
    for command in (["segment", "--labels", "cat, sky"], ["masks"]):
        output = tmp_path / command[0]
        assert emerseg(*command, *given, output, "--tile", 48, "--overlap", 8, "--max-megapixels", 1) == 0
        assert Masks.load(output / "masks/large.npz").num_masks > 3  # of one tile, or of the whole image
        assert emerseg(*command, *given, output, "--tile", 48, "--overlap", 30) == 2
        told = capsys.readouterr().err.strip()
        assert told.endswith("overlap is 30, expected at most 24 px, half of tile, which is 48") and "\n" not in told
    assert emerseg("validate", tmp_path / "segment") == 0


@pytest.mark.parametrize("labels", [LABELS, []])
def test_an_image_that_fits_into_a_tile_has_the_same_files_as_without(tiny_preset, tmp_path, labels):
    image = save(tmp_path / "photos/small.png", (60, 64))
    preset = load_preset(tiny_preset, ["emerdiff.speed=instant", "emerdiff.affinity=features"])
    for name, tile in (("plain", None), ("tiled", 64)):
        run_folder(RunSpec(preset, labels, tile=tile, device="cpu"), image, tmp_path / name)
    plain, tiled = files(tmp_path / "plain"), files(tmp_path / "tiled")
    masks = [Masks.load(tmp_path / name / "masks/small.npz") for name in ("plain", "tiled")]
    np.testing.assert_array_equal(masks[0].label_map, masks[1].label_map)
    # Masks name the settings that they were made with.
    assert {name for name in plain if plain[name] != tiled[name]} == {
        "masks/small.npz"
    } and plain.keys() == tiled.keys()
