from __future__ import annotations

import os

import numpy as np
import pytest

from emerdiff.baselines import grid_masks, slic_masks
from emerdiff.masks import Masks


def masks(**changes) -> Masks:
    arrays = {
        "label_map": np.arange(12, dtype=np.int32).reshape(3, 4) % 2,
        "low_res": np.array([[0, 1]], np.int32),
        "features": np.array([[0.5, 1.5], [2.5, 3.5]], np.float32),
        **changes,
    }
    return Masks(**arrays)


def same(first: Masks, second: Masks) -> bool:
    pairs = [
        (getattr(first, name), getattr(second, name)) for name in ("label_map", "low_res", "features", "difference")
    ]
    return all(a is b is None or (a.dtype == b.dtype and np.array_equal(a, b)) for a, b in pairs)


@pytest.mark.parametrize("difference", [None, np.random.default_rng(0).random((2, 3, 4)).astype(np.float16)])
def test_a_file_gives_everything_back(tmp_path, difference):
    path = tmp_path / "image.npz"
    saved = masks(difference=difference)
    saved.save(path, config_hash="0123abc", seed=7, exact=True)
    assert same(Masks.load(path), saved)
    assert Masks.load_metadata(path) == {"config_hash": "0123abc", "seed": 7, "exact": True}
    assert os.listdir(tmp_path) == ["image.npz"]


def test_the_same_content_gives_the_same_bytes(tmp_path):
    masks().save(tmp_path / "a.npz", note="x")
    masks().save(tmp_path / "b.npz", note="x")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()


def test_a_failed_save_leaves_the_old_file(tmp_path):
    path = tmp_path / "image.npz"
    masks().save(path)
    before = path.read_bytes()
    with pytest.raises(ValueError):
        masks().save(path, note=object())  # cannot be stored without pickling
    assert path.read_bytes() == before and os.listdir(tmp_path) == ["image.npz"]


def test_metadata_must_not_hide_an_array(tmp_path):
    with pytest.raises(ValueError, match="'label_map' has the name of an array"):
        masks().save(tmp_path / "a.npz", label_map=1)


def test_files_that_are_no_masks(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no masks at .*none\.npz"):
        Masks.load(tmp_path / "none.npz")
    masks().save(tmp_path / "cut.npz")
    whole = (tmp_path / "cut.npz").read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for position in range(0, len(whole), 5):  # a flipped byte is found, or changes no array
        (tmp_path / "bad.npz").write_bytes(whole[:position] + bytes([whole[position] ^ 255]) + whole[position + 1 :])
        try:
            assert same(Masks.load(tmp_path / "bad.npz"), masks())
        except ValueError as error:
            assert "bad.npz" in str(error)
    (tmp_path / "text.npz").write_text("not a zip file")
    (tmp_path / "empty.npz").write_bytes(b"")
    np.save(tmp_path / "array.npz", np.zeros(3))
    os.replace(tmp_path / "array.npz.npy", tmp_path / "array.npz")
    np.savez(tmp_path / "other.npz", label_map=np.zeros((2, 2), np.int32))
    for name in ("cut", "text", "empty", "array", "other"):
        with pytest.raises(ValueError, match=rf"{name}\.npz"):
            Masks.load(tmp_path / f"{name}.npz")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_map": np.zeros((3, 4), np.int64)}, r"label_map is int64 \(3, 4\), expected a non-empty 2-D int32"),
        ({"label_map": np.full((3, 4), 2, np.int32)}, "label_map holds 2..2, expected within 0..1"),
        ({"low_res": np.full((1, 1), -1, np.int32)}, "low_res holds -1..-1, expected within 0..1"),
        ({"features": np.zeros(2, np.float32)}, r"features is float32 \(2,\), expected"),
        ({"features": [[0.0]]}, "features is list, expected"),
        ({"difference": np.zeros((3, 3, 4), np.float16)}, r"shape \(3, 3, 4\), expected \(2, 3, 4\)"),
    ],
)
def test_arrays_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        masks(**changes)


def quarters() -> np.ndarray:
    rgb = np.zeros((40, 40, 3), np.uint8)
    rgb[:20, 20:], rgb[20:, :20], rgb[20:, 20:] = (255, 0, 0), (0, 255, 0), (0, 0, 255)
    return rgb


@pytest.mark.parametrize("make", [slic_masks, grid_masks])
def test_baselines_find_four_quarters(make):
    found = make(quarters(), 4)
    assert found.num_masks == 4 and found.label_map.shape == (40, 40)
    for rows in (slice(0, 20), slice(20, 40)):
        for columns in (slice(0, 20), slice(20, 40)):
            assert len(np.unique(found.label_map[rows, columns])) == 1
    corners = found.label_map[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(found.features[corners], [[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1]], atol=1e-6)


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 50), (50, 3), (123, 77)])
@pytest.mark.parametrize("clusters", [1, 7, 30])
@pytest.mark.parametrize("make", [slic_masks, grid_masks])
def test_baselines_of_any_size(make, clusters, size_hw):
    rgb = np.random.default_rng(0).integers(0, 255, (*size_hw, 3)).astype(np.uint8)
    found = make(rgb, clusters)
    assert found.label_map.shape == size_hw
    assert np.array_equal(np.unique(found.label_map), np.arange(found.num_masks))
    assert found.num_masks <= 2 * clusters
    assert np.isfinite(found.features).all()


def test_grid_cells_are_about_square_and_about_as_many():
    for height, width, clusters in ((100, 100, 30), (480, 640, 12), (100, 400, 16), (640, 100, 10)):
        rows, columns = grid_masks(np.zeros((height, width, 3), np.uint8), clusters).low_res.shape
        assert abs(rows * columns - clusters) <= 0.25 * clusters
        assert 0.5 < (height / rows) / (width / columns) < 2


def test_baselines_without_clusters():
    for make in (slic_masks, grid_masks):
        with pytest.raises(ValueError, match="clusters is 0, expected a whole number from 1"):
            make(quarters(), 0)


def test_superpixels_are_about_as_many_as_asked_for():
    y, x = np.mgrid[:120, :160]
    rgb = np.stack([y * 2, x, (np.hypot(y - 60, x - 90) < 40) * 200], axis=-1).astype(np.uint8)
    for clusters in (8, 20, 40):
        assert abs(slic_masks(rgb, clusters).num_masks - clusters) <= 0.25 * clusters
