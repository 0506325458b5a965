"""The ML backend against label-studio-sdk and label-studio-ml: its server, its checks of predictions, its converter."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
from pycocotools import mask as rle_codec

pytest.importorskip("label_studio_sdk")
pytest.importorskip("label_studio_ml.model")

from label_studio_ml.api import init_app
from label_studio_sdk._extensions.label_studio_tools.core.utils import io
from label_studio_sdk.converter.brush import decode_rle, mask2rle
from label_studio_sdk.label_interface import LabelInterface

from emerseg.integrations.labelstudio import EmersegBackend, backend, read_config
from ovseg import Label

pytestmark = pytest.mark.integrations
CONFIG = """<View>
  <Image name="photo" value="$picture"/>
  <BrushLabels name="brush" toName="photo">
    <Label value="cat" alias="animal_01"/>
    <Label value="grass" stuff="true"/>
    <Label value="sky"/>
  </BrushLabels>
</View>"""
NAMES = {"animal_01": "cat", "grass": "grass", "sky": "sky"}


@pytest.fixture
def client(folder, monkeypatch):
    """A client of the server of label-studio-ml; Label Studio's local files are those of the image's folder."""
    monkeypatch.setattr(io, "LOCAL_FILES_DOCUMENT_ROOT", str(folder.image.parent))
    return init_app(backend(preset=str(folder.preset))).test_client()


def predicted(client, config=CONFIG, image="/data/local-files/?d=photo.png"):
    """What the server answers Label Studio for one task, checked by the SDK against the label config."""
    project = {"project": "1.1700000000", "schema": config, "hostname": "http://localhost:8080", "access_token": "x"}
    assert client.post("/setup", json=project).status_code == 200
    tasks = [{"id": 5, "data": {"picture": image}}]
    request = {"tasks": tasks, "project": "1.1700000000", "label_config": config, "params": {"context": None}}
    answer = client.post("/predict", json=request)
    assert answer.status_code == 200, answer.data
    (prediction,) = answer.json["results"]
    assert LabelInterface(config).validate_prediction(prediction, return_errors=True) == []
    return prediction


def test_brushes_labels_and_scores_are_those_of_the_folder(client, folder):
    prediction = predicted(client)
    height, width = folder.semantic.shape
    masks, names = [], []
    for region in prediction["result"]:
        assert (region["from_name"], region["to_name"], region["type"]) == ("brush", "photo", "brushlabels")
        assert (region["original_height"], region["original_width"]) == (height, width)
        masks.append(decode_rle(region["value"]["rle"]).reshape(height, width, 4)[..., 3] > 0)
        assert region["value"]["rle"] == mask2rle(masks[-1] * np.uint8(255))
        names += [NAMES[name] for name in region["value"]["brushlabels"]]
    folder.assert_same_pixels(masks, names)
    assert [region["score"] for region in prediction["result"]] == folder.scores
    areas = [annotation["area"] for annotation in folder.annotations]
    assert prediction["score"] == pytest.approx(np.average(folder.scores, weights=areas))
    assert prediction["model_version"].startswith("emerseg ")
    evidence = folder.annotations[0]["evidence"]
    (note,) = prediction["result"][0]["meta"]["text"]
    assert note.startswith(f"share {evidence['share']}, margin {evidence['margin']}, runner-up ")


def test_polygons_fill_to_the_same_masks(client, folder):
    config = CONFIG.replace("BrushLabels", "PolygonLabels")
    height, width = folder.semantic.shape
    whole = {name: np.zeros((height, width), bool) for name in NAMES.values()}
    for region in predicted(client, config)["result"]:
        points = np.array(region["value"]["points"]) / 100 * (width, height)
        (name,) = region["value"]["polygonlabels"]
        rles = rle_codec.frPyObjects([np.round(points).ravel().tolist()], height, width)
        whole[NAMES[name]] |= rle_codec.decode(rles).any(axis=2)
    for number, mask in enumerate(whole.values(), start=1):
        np.testing.assert_array_equal(mask, folder.semantic == number)


def test_an_image_that_is_not_there_gets_no_region(client, caplog):
    prediction = predicted(client, image="/data/local-files/?d=../etc/passwd")
    assert (prediction["result"], prediction["score"]) == ([], 0.0)
    assert "task 5 has no image" in caplog.text


def test_the_class_can_be_handed_to_the_processes_that_1x_starts_after_annotations(folder):
    assert pickle.loads(pickle.dumps(backend(preset=str(folder.preset)))) is EmersegBackend


def test_words_come_from_values_hints_and_predicted_values():
    wanted = read_config("""<View>
      <Image name="a" value="$image"/>
      <RectangleLabels name="boxes" toName="a"><Label value="dog"/></RectangleLabels>
      <PolygonLabels name="lines" toName="a"><Label value="line"/></PolygonLabels>
      <BrushLabels name="masks" toName="a">
        <Label value="lorry" alias="vehicle/2" hint="truck, big rig"/>
        <Label value="sky" predicted_values="clear sky"/>
        <Label value="field" stuff="true" hint="field"/>
      </BrushLabels>
    </View>""")
    assert (wanted.tag, wanted.from_name, wanted.to_name, wanted.image_key) == ("BrushLabels", "masks", "a", "image")
    assert wanted.labels == (
        Label("lorry", ("truck", "big rig")),
        Label("sky", ("clear sky",), stuff=True),
        Label("field", stuff=True),
    )
    assert wanted.names == ("vehicle/2", "sky", "field")


def test_what_cannot_be_served_is_one_line():
    config = '<View><Image name="a" value="$i"/><Choices name="c" toName="a"><Choice value="x"/></Choices></View>'
    with pytest.raises(ValueError, match=r"has Choices 'c', expected BrushLabels or PolygonLabels of an Image"):
        read_config(config)
    with pytest.raises(ValueError, match="names given more than once: 'x'"):
        read_config(CONFIG.replace('"cat"', '"x"').replace('"sky"', '"x" alias="y"'))
    with pytest.raises(ValueError, match="masks is 'foo'"):
        backend(preset="mini", masks="foo")
