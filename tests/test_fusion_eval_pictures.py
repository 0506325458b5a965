"""Labelled photographs as a data set: which files belong together, what is unknown, which pictures a slice takes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from test_cli import emerseg

from fusion.evaluation.datasets import open_dataset

NAMES = "background\nroad\nsky\n"
INDICES = np.array([[0, 1, 1], [2, 255, 2]], np.uint8)


@pytest.fixture
def root(tmp_path):
    """DIR/labels/town and DIR/images/town: 12 pictures, their label maps, names.txt."""
    labels, images = tmp_path / "labels/town", tmp_path / "images/town"
    for folder in (labels, images):
        folder.mkdir(parents=True)
    (labels / "names.txt").write_text(NAMES)
    for index in range(12):
        Image.fromarray(INDICES).save(labels / f"p{index:02}.png")
        Image.fromarray(np.full((2, 3, 3), index, np.uint8)).save(images / f"p{index:02}.bmp")
    return labels


def test_background_and_255_are_unknown_and_the_classes_are_the_regions(root):
    data = open_dataset("pictures", str(root))
    assert ([(label.name, label.stuff) for label in data.labels], data.count) == ([("road", True), ("sky", True)], 12)
    sample = next(data.samples())
    assert sample.truth.tolist() == [[-1, 1, 1], [2, -1, 2]]
    assert sample.regions.tolist() == [[-1, 0, 0], [1, -1, 1]]
    assert sample.image.shape == (2, 3, 3)


def test_with_background_labels_the_class_background_is_other(root):
    assert open_dataset("pictures", str(root)).background == ()
    for background, names in (([], []), (["hand"], ["hand"]), ("auto", ["wall", "floor"])):
        data = open_dataset("pictures", str(root), background=background)
        assert [label.name for label in data.background][:2] == names
        sample = next(data.samples())
        assert sample.truth.tolist() == [[0, 1, 1], [2, -1, 2]]
        assert sample.regions.tolist() == [[-1, 0, 0], [1, -1, 1]]


@pytest.mark.parametrize(
    ("suffix", "limit", "expected"),
    [(":0::10", None, [0, 10]), (":3:5:", None, [3, 4]), ("", 2, [0, 1]), ("::10:3", 3, [0, 3, 6])],
)
def test_a_slice_takes_every_so_many_th_picture_in_the_order_of_names(root, suffix, limit, expected):
    data = open_dataset("pictures", f"{root}{suffix}", limit)
    assert data.count == len(expected)
    assert [int(sample.image[0, 0, 0]) for sample in data.samples()] == expected


def test_a_plain_folder_with_images_and_labels_works_as_well(root, tmp_path):
    plain = tmp_path / "plain"
    root.rename(tmp_path / "moved")
    plain.mkdir()
    (tmp_path / "moved").rename(plain / "labels")
    (tmp_path / "images/town").rename(plain / "images")
    assert open_dataset("pictures", f"{plain}/labels").count == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "names.txt").unlink(), r"expected a folder of label maps with a names.txt"),
        (lambda root: (root / "names.txt").write_text("road\nsky"), r"has the class 2, expected one of 0…1, 255"),
        (lambda root: Image.new("L", (9, 9)).save(root / "p00.png"), r"is \(9, 9\) uint8, expected .* size \(2, 3\)"),
    ],
)
def test_what_does_not_fit_is_one_line(root, change, message):
    change(root)
    with pytest.raises(ValueError, match=message) as caught:
        list(open_dataset("pictures", str(root)).samples())
    assert "\n" not in str(caught.value)


def test_images_that_are_missing_are_named_with_the_tree_that_is_expected(root):
    (root / "../../images/town/p03.bmp").unlink()
    with pytest.raises(FileNotFoundError, match=r"^dataset pictures: no images in .*images/town for p03.png; .*\nDIR"):
        open_dataset("pictures", str(root))


def test_a_step_of_zero_is_refused(root):
    with pytest.raises(ValueError, match="expected a step from 1"):
        open_dataset("pictures", f"{root}:::0")


def test_the_command_line_measures_them(root, tiny_preset, capsys):
    code = emerseg(
        "eval", "--dataset", "pictures", "--root", f"{root}:0::10", "--preset", tiny_preset, "--masks", "none,grid"
    )
    assert code == 0
    shown = capsys.readouterr()
    assert "[2/2]" in shown.err
    rows = [line.split()[0] for line in shown.out.splitlines() if line.strip()]
    assert rows == ["open", "none", "grid", "bound", "none", "grid"]
