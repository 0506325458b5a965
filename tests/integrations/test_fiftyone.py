"""The model of FiftyOne against the real package: `apply_model` on a dataset in its database, and its model zoo."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import pytest_socket
from PIL import Image

fo = pytest.importorskip("fiftyone")

import fiftyone.zoo as foz  # noqa: E402
from fiftyone.operators import types  # noqa: E402

from emerseg.integrations import fiftyone as ours  # noqa: E402
from ground.images import read_image  # noqa: E402

pytestmark = pytest.mark.integrations
LABELS = "cat, grass [stuff], sky [stuff]"
NAMES = ("cat", "grass", "sky")


@pytest.fixture(scope="module")
def database():
    """Skips what needs FiftyOne's database where it does not start. In a process of its own: it tries for minutes."""
    pytest_socket.enable_socket()
    try:
        subprocess.run([sys.executable, "-c", "import fiftyone; fiftyone.list_datasets()"], check=True, timeout=120)
    except subprocess.SubprocessError as error:
        pytest.skip(f"FiftyOne's database does not start here: {error}")


@pytest.fixture
def dataset(folder, database):
    """One image in a dataset of its own."""
    # The database is a process on this machine that is talked to by sockets.
    pytest_socket.enable_socket()
    made = fo.Dataset()
    made.add_sample(fo.Sample(filepath=str(folder.image)))
    yield made
    made.delete()


def whole_masks(detections, size_hw):
    """(H, W) bool of each detection, by FiftyOne's own drawing."""
    height, width = size_hw
    return [
        fo.Detections(detections=[one]).to_segmentation(frame_size=(width, height), mask_targets={1: one.label}).mask
        == 1
        for one in detections
    ]


def assert_same(folder, detections):
    folder.assert_same_pixels(whole_masks(detections, folder.semantic.shape), [one.label for one in detections])
    assert [one.confidence for one in detections] == folder.scores
    for one, annotation in zip(detections, folder.annotations, strict=True):
        for key in ("share", "margin", "runner_up"):
            assert one[key] == annotation["evidence"][key]
        _, _, width, height = annotation["bbox"]
        assert one.mask.shape == (height, width)
        assert one.stuff == (one.label != "cat")


def test_a_model_needs_no_database(folder):
    model = ours.model_of(LABELS, preset=folder.preset)
    assert_same(folder, model.predict(read_image(folder.image)).detections)
    with pytest.raises(ValueError, match="output is 'foo', expected one of detections, segmentation, both"):
        ours.model_of(LABELS, preset=folder.preset, output="foo")


def test_a_file_is_read_as_the_command_line_reads_it(folder, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    with Image.open(folder.image) as image:
        image.save(tmp_path / "turned.png", exif=exif)
    model = ours.model_of(LABELS, preset=folder.preset, output="segmentation")
    upright = read_image(tmp_path / "turned.png")
    assert upright.shape == (80, 60, 3)
    of_file = model.predict(np.zeros((60, 80, 3), np.uint8), sample=fo.Sample(filepath=str(tmp_path / "turned.png")))
    np.testing.assert_array_equal(of_file.mask, model.predict(upright).mask)


def test_detections_of_a_dataset_are_the_annotations_of_the_folder(folder, dataset):
    ours.apply_to(dataset, LABELS, preset=folder.preset, field="found")
    dataset.reload()
    assert_same(folder, dataset.first().found.detections)
    # Share and the rest are declared, so that the app filters by them.
    strong = dataset.filter_labels("found", fo.ViewField("share") >= 0.9)
    expected = sum(annotation["evidence"]["share"] >= 0.9 for annotation in folder.annotations)
    assert strong.count("found.detections") == expected
    assert "found.detections.margin" in dataset.get_field_schema(flat=True)


def test_segmentations_are_the_semantic_png_and_their_categories_have_names(folder, dataset):
    ours.apply_to(dataset.view(), LABELS, preset=folder.preset, field="found", output="both")
    sample = dataset.first()
    np.testing.assert_array_equal(sample.found_segmentation.mask, folder.semantic)
    assert_same(folder, sample.found_detections.detections)
    dataset.reload()
    assert dataset.mask_targets["found_segmentation"] == dict(enumerate(NAMES, start=1))


def test_confidence_and_batches_are_fiftyones(folder, dataset):
    model = ours.model_of(LABELS, preset=folder.preset)
    threshold = sorted(folder.scores)[1]
    dataset.apply_model(model, label_field="sure", confidence_thresh=threshold, batch_size=2)
    kept = [one.confidence for one in dataset.first().sure.detections]
    assert kept == [score for score in folder.scores if score >= threshold]


def test_the_zoo_loads_it_from_the_source_that_ships(folder, dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    ours.add_to_zoo()
    assert {f"emerseg-{name}" for name in ("mini", "toy", "sd14", "sd15", "sd21")} <= set(foz.list_zoo_models())
    # The preset of the name is that of weights which ship; here that of the tests takes its place.
    model = foz.load_zoo_model("emerseg-mini", labels=LABELS, preset=str(folder.preset), cache=False)
    dataset.apply_model(model, label_field="zoo")
    assert_same(folder, dataset.first().zoo.detections)
    with pytest.raises(ValueError, match="emerseg-mini has no labels"):
        foz.load_zoo_model("emerseg-mini", cache=False)


def test_the_zoo_asks_for_labels_in_its_form(tmp_path, monkeypatch):
    monkeypatch.setattr(fo.config, "model_zoo_dir", str(tmp_path))
    ours.add_to_zoo()
    entry = foz.get_zoo_model("emerseg-mini")
    form = entry.resolve_input(ctx=None)
    assert isinstance(form, types.Property)
    assert list(form.type.properties) == ["labels", "background", "speed", "output"]
    params = {"labels": "cat", "background": "", "speed": None, "output": "both"}
    entry.parse_parameters(None, params)
    assert params == {"labels": "cat", "output": "both"}
