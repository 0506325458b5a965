"""Corrections by hand: parts, their history, and a partition whose evidence stays that of the models."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from random_regions import rectangles
from tiny_fusion import coarse_of, masks_of

from fusion import fuse
from fusion.formats import coco
from fusion.runs.spec import RunSpec
from fusion.serve.service import Answer, Service
from fusion.step.config import FusionConfig
from fusion.step.votes import votes_of
from fusion.validate import validate
from fusion.web.desk import Desk, Desks, work_of
from fusion.web.edit import begin, corrected, parts_of
from fusion.web.export import unique_names, write_folder, write_zip
from ovseg import Label

# Three masks: two are side by side and both called cat, the third is grass.
MASKS = [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2]]
LABELS = [[0, 0, 0, 0], [0, 0, 0, 1], [1, 1, 1, 2]]
EVERY_PIXEL = FusionConfig(min_area=0)
NAMES = ("cat", Label("grass", stuff=True), Label("sky", stuff=True))


def setting(masks=MASKS, labels=LABELS, config=EVERY_PIXEL, **options):
    """(partition, votes) of literal maps."""
    coarse = coarse_of(labels, NAMES, **options)
    partition = fuse(masks_of(masks), coarse, config)
    return partition, votes_of(partition.mask_map, coarse)


def names(partition):
    """The label map as letters."""
    letters = ["-", *(label.name[0] for label in partition.labels)]
    return ["".join(letters[id] for id in row) for row in partition.label_map.tolist()]


def test_parts_are_the_connected_pieces_of_masks():
    partition, _ = setting(masks=[[0, 1, 0], [0, 1, 0]], labels=[[0, 1, 0], [0, 1, 0]])
    parts = parts_of(partition)
    assert parts.part_map.tolist() == [[0, 1, 2], [0, 1, 2]]
    assert parts.masks == (0, 1, 0) and parts.labels == (1, 2, 1)
    assert parts.neighbours == (frozenset({1}), frozenset({0, 2}), frozenset({1}))


def test_specks_belong_to_the_part_of_their_label_around_them():
    masks = np.zeros((6, 8), np.int32)
    masks[:, 4:] = 1
    masks[2, 2] = masks[2, 6] = 2  # a pixel in each half, of a mask that is absorbed in both
    labels = np.where(masks == 2, 2, masks)
    partition, _ = setting(masks, labels, FusionConfig(min_area=4))
    parts = parts_of(partition, 4)
    assert parts.part_map.tolist() == (np.arange(8) >= 4).astype(int)[None].repeat(6, axis=0).tolist()
    assert parts.masks == (0, 1)


def test_relabel_merge_undo_redo_make_new_histories():
    partition, votes = setting()
    first = begin(partition)
    assert names(partition) == ["cccc", "cccc", "gggg"]
    second = first.relabel([1], "sky")
    assert names(corrected(partition, second, votes)) == ["ccss", "ccss", "gggg"]
    third = second.merge([1], 2)
    assert names(corrected(partition, third, votes)) == ["ccgg", "ccgg", "gggg"]
    fourth = third.relabel([0, 2], None)
    assert names(corrected(partition, fourth, votes)) == ["--gg", "--gg", "----"]
    assert fourth.undo().now == third.now and fourth.undo().redo().now == fourth.now
    assert fourth.undo().undo().undo().now == first.now == first.undo().now
    assert first.redo() is first and third.undo().relabel([0], None).redo().undone == ()
    # What is no change is no state.
    assert first.relabel([0], "CAT").states == first.states


def test_a_new_label_is_added_once_and_stays():
    partition, votes = setting()
    history = begin(partition).relabel([0], "lawn [stuff]").relabel([1], "Lawn")
    assert history.labels[3:] == (Label("lawn", stuff=True),)
    result = corrected(partition, history, votes)
    assert names(result) == ["llll", "llll", "gggg"]
    assert history.undo().undo().labels == history.labels
    evidence = [region.evidence for region in coco.regions(result)[0]]
    assert [(one.edited, one.score, one.share) for one in evidence[1:]] == [(True, 0.0, 0.0)]
    assert evidence[1].margin == -0.875 and evidence[1].runner_up == "cat"


@pytest.mark.parametrize(
    ("parts", "message"),
    [([], "no part is chosen"), ([3], "part is 3, expected a whole number from 0 to 2"), ([True], "part is True")],
)
def test_bad_parts_are_refused(parts, message):
    history = begin(setting()[0])
    with pytest.raises(ValueError, match=message):
        history.relabel(parts, "cat")


def test_only_neighbours_can_be_merged():
    history = begin(setting(masks=[[0, 1, 2]], labels=[[0, 1, 2]])[0])
    for parts, neighbour in (([0], 2), ([0], 0), ([0, 1], 1)):
        with pytest.raises(ValueError, match=f"part {neighbour} is no neighbour of part 0"):
            history.merge(parts, neighbour)
    with pytest.raises(ValueError, match=r"label 1"):
        history.relabel([0], " ")


def test_the_evidence_of_a_correction_is_what_the_models_say_for_that_label():
    partition, votes = setting()
    result = corrected(partition, begin(partition).relabel([1], "grass"), votes)
    cat, grass = coco.regions(result)[0]
    assert "edited" not in cat.evidence.to_json() and not cat.evidence.edited
    assert grass.evidence.to_json()["edited"] is True
    # Mask 1 has 1 px of 4 that is grass, and mask 2 has 3 of 4: 2 · 1/4 and 2 · 3/4 of the region's px.
    assert grass.evidence.share == 0.5 and grass.evidence.margin == 0.0  # (-2/4 + 2/4) / 2
    assert grass.evidence.mask_ids == [1, 2]
    assert votes.segment(1, NAMES[1]).margin == -0.5 and votes.segment(1, NAMES[1]).runner_up.name == "cat"


def test_without_corrections_all_is_as_it_was():
    partition, votes = setting()
    result = corrected(partition, begin(partition).relabel([1], "sky").undo(), votes)
    assert result.edited_map is None and result.segments == partition.segments
    np.testing.assert_array_equal(result.score_map, partition.score_map)
    assert coco.instances(result) == coco.instances(partition)


def test_votes_say_what_the_fusion_says():
    rng = np.random.default_rng(0)
    masks, labels = rng.integers(0, 5, (9, 9)), rng.integers(0, 3, (9, 9))
    partition, votes = setting(masks, labels, sharpness=rng.random((9, 9)).astype(np.float32))
    assert [votes.segment(one.mask_id, one.label) for one in partition.segments] == list(partition.segments)


def test_a_page_keeps_what_fits(monkeypatch):
    desks = Desks(10)
    desk = Desk(spec=None)
    desks.put("a", desk)
    assert desks.get("a") is desk
    monkeypatch.setattr(Desk, "num_bytes", property(lambda self: 6))
    desks.put("b", Desk(spec=None))
    with pytest.raises(ValueError, match="press Segment"):
        desks.get("a")
    monkeypatch.setattr(Desk, "num_bytes", property(lambda self: 11))
    with pytest.raises(ValueError, match="give fewer or smaller ones"):
        desks.put("b", desk)
    waiting = desks.cancelled("b")
    desks.forget("b")
    assert waiting.is_set()


def test_names_of_images_in_the_zip_are_told_apart():
    given = ["a.png", "../../A.png", "C:\\x\\a.png", "..", "a.jpg"]
    assert unique_names(given) == ["a.png", "A (2).png", "a (3).png", "image", "a.jpg"]


@pytest.fixture(scope="module")
def service(tiny_preset):
    service = Service(tiny_preset)
    yield service
    service.close()


def photo(seed, size_wh=(80, 60)):
    """Bytes of a small PNG with some structure."""
    import io

    pixels = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(cv2.resize(pixels, size_wh, interpolation=cv2.INTER_CUBIC)).save(buffer, "PNG")
    return buffer.getvalue()


def desk_of(service, count=1, **settings):
    spec = service.spec(["cat", "grass [stuff]", "sky [stuff]"], **settings)
    desk = Desk(spec)
    for number in range(count):
        data = photo(number)
        answer = service.segment(data, spec).result(60)
        desk = desk.add(work_of("photo.png", data, answer, spec))
    return desk


def test_the_zip_of_corrected_images_is_valid(service, tmp_path):
    desk = desk_of(service, 2, min_area=5)
    last = len(desk.work.history.parts.masks) - 1
    desk = desk.relabel([0], "lawn").merge([last], min(desk.work.history.parts.neighbours[last])).show(1)
    desk = desk.relabel([0, last], None) if last < len(desk.work.history.parts.masks) else desk.relabel([0], None)
    write_zip(desk, tmp_path / "all.zip")
    with zipfile.ZipFile(tmp_path / "all.zip") as archive:
        archive.extractall(tmp_path)
        assert not [name for name in archive.namelist() if ".lock" in name or not name.startswith("emerseg/")]
    output = tmp_path / "emerseg/segmentation"
    assert list(validate(output)) == []
    instances = json.loads((output / "instances.json").read_bytes())
    assert [one["name"] for one in instances["categories"]] == ["cat", "grass", "sky", "lawn"]
    assert any(one["evidence"].get("edited") for one in instances["annotations"])
    assert {image["file_name"] for image in instances["images"]} == {"photo.png", "photo (2).png"}
    assert RunSpec.read(output).labels == desk.labels


def test_without_corrections_the_folder_is_that_of_the_command_line(service, tmp_path, tiny_preset):
    from test_cli import emerseg

    output = write_folder(desk_of(service), tmp_path / "web")
    (tmp_path / "photo.png").write_bytes(photo(0))
    labels = "cat, grass [stuff], sky [stuff]"
    options = ["--labels", labels, "--preset", tiny_preset, "--output", tmp_path / "cli"]
    assert emerseg("segment", tmp_path / "photo.png", *options) == 0
    for name in ("instances.json", "results.json", "panoptic.json", "semantic/photo.png", "masks/photo.npz"):
        assert (output / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), name


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), min_area=st.sampled_from([0, 4, 12]), fuse_rule=st.sampled_from(["overlap", "auto"]))
def test_any_corrections_give_a_valid_folder(service, tmp_path_factory, seed, min_area, fuse_rule):
    rng = np.random.default_rng(seed)
    spec = service.spec(["cat", "grass [stuff]", "sky"], min_area=min_area, fuse=fuse_rule)
    noise = rng.random((24, 32)) < 0.1
    masks = masks_of(np.where(noise, rng.integers(0, 7, noise.shape), rectangles(rng, noise.shape, 6)), 7)
    coarse = coarse_of(rectangles(rng, noise.shape, 5) % 3, spec.labels, sharpness=rng.random(noise.shape, np.float32))
    image = rng.integers(0, 255, (24, 32, 3), np.uint8)
    data = cv2.imencode(".png", image[..., ::-1])[1].tobytes()
    answer = Answer(image, fuse(masks, coarse, spec.preset.fusion), None, masks, coarse)
    desk = Desk(spec).add(work_of("a.png", data, answer, spec))
    for _ in range(rng.integers(1, 8)):
        count = len(desk.work.history.parts.masks)
        part = int(rng.integers(count))
        beside = sorted(desk.work.history.parts.neighbours[part])
        if beside and rng.random() < 0.5:
            desk = desk.merge([part], beside[int(rng.integers(len(beside)))])
        else:
            chosen = {part, int(rng.integers(count))}
            desk = desk.relabel(chosen, [None, "cat", "grass", "sky", "boat"][int(rng.integers(5))])
    output = write_folder(desk, tmp_path_factory.mktemp("edited"))
    assert list(validate(output)) == []
    untouched = replace(desk.work.history, states=desk.work.history.states[:1])
    assert corrected(answer.result, untouched, desk.work.votes, min_area).edited_map is None
