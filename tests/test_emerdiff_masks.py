from __future__ import annotations

import io
import os
import tracemalloc
import zipfile

import numpy as np
import pytest
from PIL import Image

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


def write_npz(path, **members):
    """A deflated archive of members (name → bytes), with the file sizes that they have."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(name, data)


def npy(header, data=b""):
    """The bytes of an .npy file whose header says anything at all."""
    text = repr(header).encode().ljust(117) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def array_bytes(array):
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.asarray(array))
    return stream.getvalue()


def header_of(shape, descr="<i4"):
    return {"descr": descr, "fortran_order": False, "shape": shape}


GOOD = {
    "label_map.npy": array_bytes(np.zeros((3, 4), np.int32)),
    "low_res.npy": array_bytes(np.zeros((1, 1), np.int32)),
    "features.npy": array_bytes(np.zeros((1, 2), np.float32)),
}
HOSTILE = {
    "ten million million elements": {"label_map.npy": npy(header_of((10**7, 10**6)), b"\0" * 48)},
    "more elements than there are": {"label_map.npy": npy(header_of((300, 400)), b"\0" * 48)},
    "fewer elements than there are": {"label_map.npy": npy(header_of((3, 1)), b"\0" * 48)},
    "a negative side": {"label_map.npy": npy(header_of((-3, -4)), b"\0" * 48)},
    "a header that is no dict": {"label_map.npy": npy([1, 2])},
    "a header of many levels": {"label_map.npy": npy("(" * 60)},
    "objects": {"label_map.npy": npy(header_of((3, 4), "|O"), b"\0" * 96)},
    "another dtype": {"label_map.npy": array_bytes(np.zeros((3, 4), np.int64))},
    "a member that is no array": {"notes.txt": b"hello"},
    "a member without a header": {"notes.npy": b"hello"},
    "metadata that is a list": {"notes.npy": array_bytes(np.zeros(3))},
    "long metadata": {"notes.npy": array_bytes("x" * 10**5)},
    "many members": {f"{number}.npy": array_bytes(0) for number in range(100)},
    "large low_res": {"low_res.npy": array_bytes(np.zeros((1025, 1024), np.int32))},
    "large features": {"features.npy": array_bytes(np.zeros((301, 100), np.float32))},
    "no features": {"features.npy": None},
    "difference of another size": {"difference.npy": array_bytes(np.zeros((1, 300, 400), np.float16))},
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_file_is_refused_before_it_takes_memory(tmp_path, monkeypatch, kind):
    path = tmp_path / "a.npz"
    monkeypatch.setattr("emerdiff.masks._MAX_FEATURES", 30_000)
    write_npz(path, **{name: data for name, data in {**GOOD, **HOSTILE[kind]}.items() if data is not None})
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=r"a\.npz is not a file written by Masks\.save, or damaged"):
            Masks.load(path)
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()


def test_a_small_file_does_not_become_a_large_map(tmp_path, monkeypatch):
    path = tmp_path / "a.npz"
    write_npz(path, **{**GOOD, "label_map.npy": array_bytes(np.zeros((500, 400), np.int32))})
    assert Masks.load(path).label_map.shape == (500, 400)
    with pytest.raises(ValueError, match="it has 400 x 500 px, expected 4 x 3"):
        Masks.load(path, size_hw=(3, 4))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 90_000)
    with pytest.raises(ValueError, match="it has 400 x 500 px: limit_pixels"):
        Masks.load(path)
    assert Masks.load(path, size_hw=(500, 400)).label_map.shape == (500, 400)  # that image was let pass


def test_difference_maps_are_left_where_they_are_unless_wanted(tmp_path):
    saved = masks(difference=np.ones((2, 3, 4), np.float16))
    saved.save(tmp_path / "a.npz")
    assert Masks.load(tmp_path / "a.npz", difference=False).difference is None


def test_metadata_is_read_without_the_arrays(tmp_path, monkeypatch):
    masks().save(tmp_path / "a.npz", note="x")
    read, names = np.lib.format.read_array, []
    monkeypatch.setattr(np.lib.format, "read_array", lambda file, **options: names.append(file.name) or read(file))
    assert Masks.load_metadata(tmp_path / "a.npz") == {"note": "x"}
    Masks.load(tmp_path / "a.npz")
    assert names == ["note.npy", "label_map.npy", "low_res.npy", "features.npy"]


def test_a_saved_file_is_on_disk_before_it_is_in_its_place(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(os.fstat(number).st_ino) or fsync(number))
    masks().save(tmp_path / "a.npz")
    assert synced == [(tmp_path / "a.npz").stat().st_ino]


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
