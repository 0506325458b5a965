"""ADE20K's ignored 0, and anybody's folder with label maps of 8 or 16 bits."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_datasets import write_image, write_map, write_text

from fusion.evaluation.datasets import open_dataset
from ovseg.labels import Label


def test_ade20k_ignores_0_and_counts_from_1(tmp_path):
    for name in ("ADE_val_00000002", "ADE_val_00000001"):
        write_image(tmp_path / f"images/validation/{name}.jpg")
        write_map(tmp_path / f"annotations/validation/{name}.png", [[0, 1, 3], [13, 150, 0]])
    data = open_dataset("ade20k", str(tmp_path))
    assert (len(data.labels), data.names) == (150, ("ADE_val_00000001", "ADE_val_00000002"))
    sample = data.load("ADE_val_00000002")
    assert sample.truth.tolist() == [[-1, 1, 3], [13, 150, -1]]
    assert sample.regions.tolist() == [[-1, 0, 2], [12, 149, -1]]
    assert [data.labels[index - 1].name for index in (1, 3, 13, 150)] == ["wall", "sky", "person", "flag"]
    write_map(tmp_path / "annotations/validation/ADE_val_00000001.png", [[151, 0, 0], [0, 0, 0]])
    with pytest.raises(ValueError, match=r"00000001.png has the class 151, expected one of 0…150"):
        data.load("ADE_val_00000001")


def test_what_ade20k_lacks_is_named(tmp_path):
    write_image(tmp_path / "images/validation/a.jpg")
    with pytest.raises(FileNotFoundError, match=r"^dataset ade20k: no folder annotations/validation in .*\nADEChall"):
        open_dataset("ade20k", str(tmp_path))
    (tmp_path / "annotations/validation").mkdir(parents=True)
    with pytest.raises(FileNotFoundError, match=r"^dataset ade20k: no .*annotations/validation/a.png; expected"):
        open_dataset("ade20k", str(tmp_path))
    (tmp_path / "images/validation/a.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"^dataset ade20k: no file ends in .jpg in .*images/validation"):
        open_dataset("ade20k", str(tmp_path))


@pytest.fixture
def folder(tmp_path):
    """Three images with label maps, one of them of 16 bits, and an image without."""
    for index, name in enumerate("abc"):
        write_image(tmp_path / f"images/{name}.png", value=index)
    write_image(tmp_path / "images/without.jpg")
    write_map(tmp_path / "labels/a.png", [[0, 1, 2], [255, 3, 1]])
    write_map(tmp_path / "labels/b.png", [[0, 1, 2], [65535, 3, 1]], np.uint16)
    write_map(tmp_path / "labels/c.png", [[0, 1, 2], [3, 3, 1]], palette=True)
    write_text(tmp_path / "names.txt", "# mine\nbackground\ncat, kitten\nsky [stuff]\n\ndog\n")
    return tmp_path


def test_a_folder_has_its_own_label_file_and_maps_of_8_or_16_bits(folder):
    data = open_dataset("folder", str(folder))
    assert data.labels == (Label("cat", ("kitten",)), Label("sky", stuff=True), Label("dog"))
    assert (data.names, data.instances) == (("a", "b", "c"), False)
    assert [data.load(name).truth.tolist() for name in "abc"] == [
        [[-1, 1, 2], [-1, 3, 1]],
        [[-1, 1, 2], [-1, 3, 1]],
        [[-1, 1, 2], [3, 3, 1]],
    ]
    assert data.load("c").regions.tolist() == [[-1, 0, 1], [2, 2, 0]]
    assert data.load("c").image[0, 0, 0] == 2


def test_the_background_of_a_folder_counts_with_background_labels(folder):
    data = open_dataset("folder", str(folder), background=[])
    assert data.load("a").truth.tolist() == [[0, 1, 2], [-1, 3, 1]]
    assert [label.name for label in open_dataset("folder", str(folder), background=["hat"]).background] == ["hat"]


def test_a_slice_of_a_folder(folder):
    assert open_dataset("folder", f"{folder}:1::").names == ("b", "c")
    assert open_dataset("folder", f"{folder}:0::2", limit=1).names == ("a",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "names.txt").unlink(), r"^dataset folder: no names.txt in .*\nDIR"),
        (lambda root: (root / "images/b.png").unlink(), r"^dataset folder: no images in .*images for b.png; .*\nDIR"),
        (lambda root: (root / "labels").rename(root / "x"), r"^dataset folder: no folder labels in .*\nDIR"),
        (lambda root: [path.unlink() for path in root.glob("labels/*")], r"^dataset folder: no label map NAME.png in"),
    ],
)
def test_what_a_folder_lacks_is_named(folder, change, message):
    change(folder)
    with pytest.raises(FileNotFoundError, match=message):
        open_dataset("folder", str(folder))


@pytest.mark.parametrize(
    ("values", "dtype", "message"),
    [
        ([[4, 0, 0], [0, 0, 0]], np.uint8, "has the class 4, expected one of 0…3, 255"),
        ([[255, 0, 0], [0, 0, 0]], np.uint16, "has the class 255, expected one of 0…3, 65535"),
        ([[True, False, True]] * 2, bool, r"is \(2, 3\) bool, expected indices"),
    ],
)
def test_an_index_without_a_name_is_an_error(folder, values, dtype, message):
    write_map(folder / "labels/a.png", values, dtype)
    with pytest.raises(ValueError, match=message):
        open_dataset("folder", str(folder)).load("a")
