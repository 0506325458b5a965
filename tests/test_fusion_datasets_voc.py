"""PASCAL VOC and PASCAL Context: the background, void pixels, and Context as PNGs and as it is downloaded."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.io import savemat
from tiny_datasets import names_of, write_image, write_map, write_text

from fusion.evaluation.datasets import open_dataset

INDICES = [[0, 1, 20], [255, 15, 0]]


@pytest.fixture
def voc(tmp_path):
    """VOC2012 with two images in val.txt, not in the order of names, and one that is of another split."""
    for name in ("2007_000033", "2007_000042", "2007_000999"):
        write_image(tmp_path / f"JPEGImages/{name}.jpg")
        write_map(tmp_path / f"SegmentationClass/{name}.png", INDICES, palette=True)
    write_text(tmp_path / "ImageSets/Segmentation/val.txt", "2007_000042\n2007_000033\n")
    return tmp_path


def test_voc20_ignores_the_background(voc):
    data = open_dataset("voc20", str(voc))
    assert (len(data.labels), data.names, data.background) == (20, ("2007_000042", "2007_000033"), ())
    sample = data.load("2007_000033")
    assert sample.truth.tolist() == [[-1, 1, 20], [-1, 15, -1]]
    assert sample.regions.tolist() == [[-1, 0, 19], [-1, 14, -1]]
    assert (sample.image.tolist()[0][0], data.instances, sample.crowds) == ([7, 7, 7], False, frozenset())


def test_voc21_counts_the_background_as_none_of_the_labels(voc):
    data = open_dataset("voc21", str(voc))
    assert (len(data.labels), names_of(data.labels)[19]) == (20, "tv")
    assert {"sky", "grass", "wall"} <= set(names_of(data.background))
    assert data.load("2007_000042").truth.tolist() == [[0, 1, 20], [-1, 15, 0]]
    assert data.load("2007_000042").regions.tolist() == [[-1, 0, 19], [-1, 14, -1]]


def test_other_background_labels_take_the_place_of_those_of_the_data_set(voc):
    assert names_of(open_dataset("voc21", str(voc), background=["moon"]).background) == ["moon"]
    assert open_dataset("voc21", str(voc), background=[]).background == ()
    assert open_dataset("voc20", str(voc), background=[]).load("2007_000033").truth[0, 0] == -1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda root: (root / "ImageSets/Segmentation/val.txt").unlink(), r"no list .*ImageSets/Segmentation/val.txt"),
        (lambda root: (root / "JPEGImages/2007_000033.jpg").unlink(), r"no .*JPEGImages/2007_000033.jpg;"),
        (lambda root: (root / "SegmentationClass").rename(root / "x"), r"no folder SegmentationClass in"),
    ],
)
def test_what_is_missing_is_named_with_the_tree_that_is_expected(voc, change, message):
    change(voc)
    with pytest.raises(FileNotFoundError, match=rf"^dataset voc21: {message}") as caught:
        open_dataset("voc21", str(voc))
    first, *tree = str(caught.value).split("\n")
    assert first.endswith("expected as the root:") and tree[0] == "VOC2012/"
    assert any("ImageSets/Segmentation/val.txt" in line for line in tree)


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: write_map(path, [[0, 21, 0], [0, 0, 0]]), "has the class 21, expected one of 0…20, 255"),
        (lambda path: write_map(path, [[0, 1]]), r"is \(1, 2\) uint8, expected indices of its image's size \(2, 3\)"),
        (lambda path: write_map(path, np.zeros((2, 3, 3))), r"is \(2, 3, 3\) uint8, expected indices"),
        (lambda path: path.write_bytes(path.read_bytes()[:40]), "label map cannot be decoded"),
        (lambda path: path.write_bytes(b"no image"), "label map cannot be decoded"),
    ],
)
def test_a_label_map_that_is_damaged_or_does_not_fit_is_one_line_with_its_path(voc, write, message):
    path = voc / "SegmentationClass/2007_000033.png"
    write(path)
    data = open_dataset("voc20", str(voc))
    data.load("2007_000042")
    with pytest.raises(ValueError, match=message) as caught:
        data.load("2007_000033")
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a\nb\na\n", "../../a\n"])
def test_a_list_of_names_is_checked(voc, text):
    write_text(voc / "ImageSets/Segmentation/val.txt", text)
    with pytest.raises(ValueError, match=r"val.txt has .*, expected names of images, one a line"):
        open_dataset("voc20", str(voc))


@pytest.fixture
def context(tmp_path):
    """VOC2010 with Context as mmsegmentation converts it."""
    for name in ("2008_000002", "2008_000003"):
        write_image(tmp_path / f"JPEGImages/{name}.jpg")
    write_map(tmp_path / "SegmentationClassContext/2008_000002.png", [[0, 1, 59], [37, 2, 0]])
    write_text(tmp_path / "ImageSets/SegmentationContext/val.txt", "2008_000002\n")
    return tmp_path


def test_context_as_png(context):
    sample = open_dataset("context59", str(context)).load("2008_000002")
    assert sample.truth.tolist() == [[-1, 1, 59], [37, 2, -1]]
    data = open_dataset("context60", str(context))
    assert data.load("2008_000002").truth.tolist() == [[0, 1, 59], [37, 2, 0]]
    assert {"clock", "mirror"} <= set(names_of(data.background))


def test_context_as_it_is_downloaded_has_459_classes_of_which_59_count(tmp_path):
    write_image(tmp_path / "JPEGImages/2008_000003.jpg")
    (tmp_path / "trainval").mkdir()
    label_map = np.array([[0, 2, 458], [284, 3, 459]], np.uint16)  # aeroplane, wood, person; 3 and 459 are others
    savemat(tmp_path / "trainval/2008_000003.mat", {"LabelMap": label_map}, do_compression=True)
    write_text(tmp_path / "ImageSets/Main/val.txt", "2008_000003\n")
    data = open_dataset("context59", str(tmp_path))
    assert data.load("2008_000003").truth.tolist() == [[-1, 1, 59], [37, -1, -1]]
    assert [data.labels[index - 1].name for index in (1, 59, 37)] == ["airplane", "wood", "person"]
    assert open_dataset("context60", str(tmp_path)).load("2008_000003").truth.tolist() == [[0, 1, 59], [37, 0, 0]]


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda path: path.write_bytes(b"MATLAB 5.0, so they say" * 20), "cannot be read as a file of MATLAB"),
        (lambda path: savemat(path, {"Other": np.zeros((2, 3))}), "has no array LabelMap"),
        (lambda path: savemat(path, {"LabelMap": np.full((2, 3), 460)}), "has the class 460, expected one of 0…459"),
        (lambda path: savemat(path, {"LabelMap": np.zeros((2, 2), int)}), r"\(2, 2\) int64, expected indices"),
    ],
)
def test_a_damaged_mat_is_one_line_with_its_path(tmp_path, write, message):
    write_image(tmp_path / "JPEGImages/a.jpg")
    (tmp_path / "trainval").mkdir()
    write(tmp_path / "trainval/a.mat")
    write_text(tmp_path / "ImageSets/Main/val.txt", "a\n")
    with pytest.raises(ValueError, match=message) as caught:
        open_dataset("context59", str(tmp_path)).load("a")
    assert "trainval/a.mat" in str(caught.value) and "\n" not in str(caught.value)


def test_context_without_a_split_says_which_lists_there_could_be(context):
    (context / "ImageSets/SegmentationContext/val.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"no ImageSets/SegmentationContext/val.txt in .*\nVOC2010/"):
        open_dataset("context59", str(context))
