"""`emerseg merge`: what was there stays letter by letter, what comes is all there, and pycocotools reads the file."""

from __future__ import annotations

import contextlib
import io
import json

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools.coco import COCO
from test_cli import emerseg
from test_cli_segment import segment

from emerseg import RunSpec, run_folder
from fusion.formats.coco_file import LISTS, _members, read_coco
from fusion.runs.merge import merge

# As other tools write them: other order, other keys, numbers that JSON of ours would write otherwise, ids with gaps.
THEIRS = """{"licenses": [{"id": 1, "name": "CC\\u00a0BY"}],
  "extra": {"scale": 1.50, "big": 1e5},
  "categories": [{"id": 7, "name": "grass", "supercategory": "plants"}, {"id": 3, "name": "Hase 🐇"}],
  "annotations": [
    {"id": 40, "image_id": 90, "category_id": 3, "bbox": [0.50, 1.0, 2, 2], "area": 4.00, "iscrowd": 0,
     "segmentation": [[0, 0, 2, 0, 2, 2]], "track": {"a": [1]}},
    {"id": 12, "image_id": 8, "category_id": 7, "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0, "segmentation": []}],
  "images": [{"id": 90, "file_name": "far.png", "width": 64, "height": 48, "flickr_url": "http://x"},
             {"id": 8, "file_name": "a.png", "width": 64, "height": 48, "date": null}],
  "info": {"year": 2017}}"""


@pytest.fixture(scope="module")
def runs(tiny_preset, tmp_path_factory):
    """Folders: `one` of x/a.png and x/b.png by cat, grass, sky; `two` of y/c.png by sky, dog; `both` as one run."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    for name in ("x/a.png", "x/b.png", "y/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        pixels = cv2.resize(rng.integers(0, 255, (4, 6, 3), np.uint8), (64, 48), interpolation=cv2.INTER_CUBIC)
        Image.fromarray(pixels).save(folder / name)
    assert segment(folder / "x", folder / "one", tiny_preset, "--masks", "grid", "-q") == 0
    spec = RunSpec(tiny_preset, ["sky", "dog"], masks="grid")
    run_folder(spec, folder / "y", folder / "two")
    assert segment(folder / "x", folder / "both", tiny_preset, "--masks", "grid", "-q", "--seed", "0") == 0
    assert segment(folder / "y", folder / "both", tiny_preset, "--masks", "grid", "-q", "--seed", "0") == 0
    assert segment(folder / "y", folder / "three", tiny_preset, "--masks", "grid", "-q", "--seed", "0") == 0
    return folder


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.json"
    path.write_text(THEIRS, encoding="utf-8")
    return path


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def coco_of(path):
    with contextlib.redirect_stdout(io.StringIO()):
        return COCO(str(path))


def by_image(path, categories=None):
    """The annotations of every image, in order, without ids; categories by name."""
    document = read(path)
    names = {one["id"]: one["name"] for one in document["categories"]}
    found = {image["file_name"]: [] for image in document["images"]}
    files = {image["id"]: image["file_name"] for image in document["images"]}
    for one in document["annotations"]:
        rest = {key: value for key, value in one.items() if key not in ("id", "image_id", "category_id")}
        found[files[one["image_id"]]].append((names[one["category_id"]], rest))
    return found


def assert_ids(path):
    coco, document = coco_of(path), read(path)
    for key, known in (("images", coco.imgs), ("annotations", coco.anns), ("categories", coco.cats)):
        assert len(known) == len(document[key]) and min(known, default=1) >= 1
    for annotation in document["annotations"]:
        assert annotation["image_id"] in coco.imgs and annotation["category_id"] in coco.cats
    return coco


def test_two_folders_are_what_one_run_over_all_is(runs, tmp_path, capsys):
    merged = tmp_path / "sub" / "merged.json"
    assert emerseg("merge", runs / "one", runs / "three", "--output", merged) == 0
    assert_ids(merged)
    assert read(merged) == read(runs / "both" / "instances.json")
    count = len(read(merged)["annotations"])
    assert capsys.readouterr().out == f"{merged}: 3 images, {count} annotations, 3 categories\n"


def test_categories_are_one_by_name(runs, tmp_path):
    merged = tmp_path / "merged.json"
    counts = merge([runs / "one", runs / "two"], merged)
    assert (counts.images, counts.categories, counts.shared) == (3, 4, 0)
    assert [one["name"] for one in read(merged)["categories"]] == ["cat", "grass", "sky", "dog"]
    assert [one["id"] for one in read(merged)["categories"]] == [1, 2, 3, 4]
    coco = assert_ids(merged)
    expected = {f"x/{name}": found for name, found in by_image(runs / "one" / "instances.json").items()}
    expected |= {f"y/{name}": found for name, found in by_image(runs / "two" / "instances.json").items()}
    assert by_image(merged) == expected
    for annotation in coco.loadAnns(coco.getAnnIds()):
        assert coco.annToMask(annotation).sum() == annotation["area"]


def test_what_was_there_stays_letter_by_letter(runs, theirs, tmp_path):
    merged = tmp_path / "merged.json"
    counts = merge([runs / "two"], merged, into=theirs)
    assert (counts.images, counts.categories, counts.shared) == (3, 4, 0)
    before, after = read_coco(theirs), read_coco(merged)
    for key in LISTS:
        kept = [entry.text for entry in before.entries(key)]
        assert [entry.text for entry in after.entries(key)][: len(kept)] == kept
    for key in set(before.places) - set(LISTS):
        assert after.raw(key) == before.raw(key)
    assert list(after.places) == list(before.places)
    new = read(merged)
    assert [one["id"] for one in new["categories"]] == [7, 3, 8, 9]
    assert new["images"][2]["id"] == 91 and new["images"][2]["file_name"] == "c.png"
    assert [one["id"] for one in new["annotations"][2:]] == list(range(41, 39 + len(new["annotations"])))
    assert_ids(merged)
    merge([runs / "two"], theirs, into=theirs)
    assert theirs.read_bytes() == merged.read_bytes()


@pytest.mark.parametrize("keep", ["theirs", "ours"])
def test_whose_annotations_a_shared_image_has_is_said(runs, theirs, tmp_path, keep):
    merged = tmp_path / "merged.json"
    counts = merge([runs / "one"], merged, into=theirs, keep=keep)
    assert counts.shared == 1
    assert read(merged)["images"][:2] == read(theirs)["images"]
    found, ours = by_image(merged), by_image(runs / "one" / "instances.json")
    assert found["far.png"] == by_image(theirs)["far.png"]
    assert found["b.png"] == ours["b.png"]
    assert found["a.png"] == (ours if keep == "ours" else by_image(theirs))["a.png"]
    assert_ids(merged)
    # The last folder that has it
    merge([runs / "one", runs / "one"], merged, into=theirs, keep=keep)
    assert by_image(merged) == found


def test_without_keep_shared_images_are_an_error_that_names_them(runs, theirs, tmp_path, capsys):
    merged = tmp_path / "merged.json"
    assert emerseg("merge", runs / "one", "--into", theirs, "--output", merged) == 2
    shown = capsys.readouterr().err
    assert f"1 image is in both {theirs} and {runs / 'one'}: a.png; say whose annotations to keep: --keep" in shown
    assert emerseg("merge", runs / "one", runs / "both", "--output", merged) == 2
    assert "2 images are in both" in (shown := capsys.readouterr().err) and "x/a.png, x/b.png" in shown
    assert len(shown.splitlines()) == 1
    assert not merged.exists()


def test_ours_of_another_size_is_refused(runs, theirs, tmp_path):
    theirs.write_text(THEIRS.replace('"a.png", "width": 64', '"a.png", "width": 65'), encoding="utf-8")
    with pytest.raises(ValueError, match=r"image a\.png of .* has 48 x 65 and 48 x 64 px, expected one size"):
        merge([runs / "one"], tmp_path / "m.json", into=theirs, keep="ours")
    assert merge([runs / "one"], tmp_path / "m.json", into=theirs, keep="theirs").images == 3


def test_a_file_that_is_changed_meanwhile_is_named(theirs):
    file = read_coco(theirs)
    assert [entry.value["id"] for entry in file.entries("images")] == [90, 8]
    theirs.write_text(THEIRS.replace("90", "91"), encoding="utf-8")
    with pytest.raises(ValueError, match="was changed while it was read"):
        list(file.entries("images"))


def test_file_names_are_relative_to_the_root(runs, tmp_path):
    merge([runs / "one"], tmp_path / "m.json", root=runs)
    assert [image["file_name"] for image in read(tmp_path / "m.json")["images"]] == ["x/a.png", "x/b.png"]
    with pytest.raises(ValueError, match="is not in the root"):
        merge([runs / "one"], tmp_path / "m.json", root=runs / "y")


def test_images_that_only_their_folder_tells_apart_are_noted(runs, theirs, tmp_path, caplog):
    merge([runs / "one"], tmp_path / "m.json", into=theirs, root=runs)
    assert f"1 images have the name of one of {theirs}, but in another folder, such as x/a.png and a.png" in caplog.text
    caplog.clear()
    merge([runs / "one"], tmp_path / "m.json", into=theirs, keep="ours")
    merge([runs / "one", runs / "two"], tmp_path / "m.json")
    assert not caplog.records


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "it holds no object"),
        ("[1]", "it holds no object"),
        ('{"images": []', "expected ','"),
        ('{"images": [1,]}', "expected an item"),
        ('{"images": [1 2]}', "expected ','"),
        ('{"images": [}', "Expecting value"),
        ('{"images": []} x', "something follows its end"),
        ("{" + '"a": ' + "[" * 100_000, "JSON of too many levels"),
        ('{"images": []}', "it has no categories"),
        ('{"images": {}, "categories": []}', "images are '{}', expected a list"),
        ('{"images": [7], "categories": []}', "images 1 is 7, expected an object"),
        ('{"images": [{"id": true, "file_name": "a"}], "categories": []}', "images 1 has id True, expected a whole"),
        ('{"images": [], "categories": [{"id": 1}]}', "categories 1 has name None, expected text"),
        ('{"images": [], "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "a"}]}', "two categories 'a'"),
        (b"\xff{}", "codec can't decode"),
    ],
)
def test_what_is_no_coco_file_is_one_line(runs, tmp_path, text, expected, capsys):
    path = tmp_path / "bad.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert emerseg("merge", runs / "one", "--into", path, "--output", tmp_path / "m.json") == 2
    shown = capsys.readouterr().err
    assert expected in shown and len(shown.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["gone", "--output", "m.json"], "no folder gone"),
        ([".", "--output", "m.json"], "no run.json in"),
        (["ONE", "--output", "."], "is a folder, expected another file"),
        (["ONE", "--output", "ONE/instances.json"], "is a file of a run, expected another file"),
        (["ONE", "--output", "m.json", "--into", "gone.json"], "no COCO file gone.json"),
        (["ONE", "--output", "m.json", "--keep", "mine"], "mine"),
        (["ONE"], "--output"),
    ],
)
def test_wrong_use_is_one_line(runs, tmp_path, monkeypatch, capsys, arguments, expected):
    monkeypatch.chdir(tmp_path)
    given = [argument.replace("ONE", str(runs / "one")) for argument in arguments]
    assert emerseg("merge", *given) == 2
    shown = capsys.readouterr().err
    assert expected in shown and len(shown.splitlines()) == 1


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=4), JSON, max_size=4), st.sampled_from([None, 0, 2]), st.booleans())
def test_members_are_found_where_they_stand(document, indent, ascii_only):
    text = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    found = _members(text)
    assert list(found) == list(document)
    for key, place in found.items():
        assert json.loads(text[place]) == document[key]
