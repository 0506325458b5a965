"""X-AnyLabeling's protocol: what its client reads is there, and its polygons are the regions of `emerseg segment`."""

from __future__ import annotations

import base64

import cv2
import numpy as np
import pytest
from pycocotools import mask as codec

pytest.importorskip("fastapi")
from fastapi.testclient import TestClient
from test_serve import HOME, LABELS, assert_refused, png, segment
from tiny_fusion import coarse_of, masks_of

from fusion.serve.app import create_app
from fusion.serve.limits import Limits
from fusion.serve.service import Answer, Service
from fusion.serve.shapes import shapes_of
from fusion.step.pipeline import fuse
from ground.images import limit_pixels
from ovseg import Label


@pytest.fixture(scope="module")
def service(tiny_preset):
    service = Service(tiny_preset, masks="slic", limits=Limits(queue=8))
    yield service
    service.close()
    limit_pixels()


@pytest.fixture
def client(service):
    return TestClient(create_app(service), base_url=HOME)


def predict(client, image, model="tiny", **params):
    """What its client sends."""
    data = f"data:image/png;base64,{base64.b64encode(image).decode()}"
    params = {"conf_threshold": 0.0, "iou_threshold": 0.0, "epsilon_factor": 0.0} | params
    return client.post("/v1/predict", json={"model": model, "image": data, "params": params}, headers={"Token": ""})


def read_as_the_client_does(shape):
    """Its points, as the client keeps them: the first one, wherever it comes again, closes the polygon."""
    points = []
    for point in shape["points"]:
        if not points or point != points[0]:
            points.append(point)
    assert shape["shape_type"] == "polygon" and shape["points"][0] == shape["points"][-1] and len(points) >= 3
    return np.round(np.array(points)).astype(np.int32)  # as it rounds them when it fills


def painted(shapes, size_hw):
    """What its exporter fills: (shapes, H, W), 1 inside."""
    filled = [cv2.fillPoly(np.zeros(size_hw, np.uint8), [read_as_the_client_does(shape)], 1) for shape in shapes]
    return np.array(filled)


def test_models_are_as_its_client_reads_them(client, service):
    models = client.get("/v1/models").json()
    assert models["success"] is True and list(models["data"]) == ["tiny"]
    model = models["data"]["tiny"]
    assert model["display_name"] == "emerseg tiny" and model["batch_processing_mode"] == "text_prompt"
    values = {widget["name"]: widget["value"] for widget in model["widgets"]}
    assert {"edit_text", "button_send"} <= set(values) and "button_run" not in values
    # Widgets that need a value have one.
    assert (values["edit_conf"], values["toggle_preserve_existing_annotations"]) == (0.0, False)
    assert 1 <= values["mask_fineness_slider"] <= 100
    # What others want to know is beside it, and no path is.
    assert model["choices"]["masks"] == ["slic", "grid", "none"]
    assert models["limits"]["queue"] == 8 and models["outputs"][0] == "coco"
    assert str(service.preset.emerdiff.model) not in client.get("/v1/models").text
    info = client.get("/v1/models/tiny/info").json()
    assert info == {"success": True, "data": {"model_id": "tiny", **model}}
    assert_refused(client.get("/v1/models/sam/info"), 404, "model is 'sam', expected 'tiny'", "MODEL_NOT_FOUND")
    health = client.get("/health").json()
    assert health["status"] == "healthy" and health["models_loaded"] == 1 and health["timestamp"].endswith("Z")


def test_polygons_are_the_regions(client):
    """Filled as its exporter does, every region of three corners or more comes back to the pixel."""
    coco = segment(client, png(3))
    data = predict(client, png(3), text_prompt=LABELS).json()
    assert data["success"] is True and data["data"]["description"] == ""
    shapes = data["data"]["shapes"]
    keys = "label shape_type points score attributes description difficult direction flags group_id kie_linking"
    assert shapes and all(set(shape) == set(keys.split()) for shape in shapes)
    names = {category["id"]: category["name"] for category in coco["categories"]}
    assert {shape["label"] for shape in shapes} <= set(names.values())
    filled = painted(shapes, (48, 64))
    assert filled.sum(axis=0).max() == 1
    for annotation in coco["annotations"]:
        mask = codec.decode(annotation["segmentation"])
        own = [plane for plane, shape in zip(filled, shapes, strict=True) if (plane & mask).any()]
        lost = mask.astype(bool) & ~np.any(own, axis=0) if own else mask.astype(bool)
        count, pieces = cv2.connectedComponents(lost.astype(np.uint8), connectivity=8)
        # What is lost has no three corners: single pixels and straight lines.
        assert all(min(np.ptp(np.argwhere(pieces == piece), axis=0)) == 0 for piece in range(1, count))
        assert not any((plane & ~mask.astype(bool)).any() for plane in own)


def answer_of(label_map, labels):
    """An answer whose masks and coarse map are `label_map`, whose 0 is a background label."""
    masks, coarse = masks_of(label_map), coarse_of(label_map, ("other", *labels), ("other",))
    result = fuse(masks, coarse)
    return Answer(np.zeros((*result.size_hw, 3), np.uint8), result, "token", masks, coarse)


RING = [
    [0, 0, 0, 0, 0, 0, 0],
    [0, 1, 1, 1, 1, 1, 0],
    [0, 1, 0, 1, 0, 1, 0],
    [0, 1, 1, 1, 1, 1, 0],
    [0, 0, 0, 0, 0, 0, 0],
    [0, 2, 0, 1, 1, 1, 0],
    [0, 2, 0, 1, 1, 1, 0],
]


def test_holes_stay_holes_and_pieces_of_one_region_are_a_group():
    ring = np.kron(RING, np.ones((2, 2), np.int32))
    shapes = shapes_of(answer_of(ring, (Label("road", stuff=True), "cat")))
    assert [(shape["label"], shape["group_id"]) for shape in shapes] == [("road", 1), ("road", 1), ("cat", None)]
    filled = painted(shapes, ring.shape)
    np.testing.assert_array_equal(filled[0] | filled[1], ring == 1)
    np.testing.assert_array_equal(filled[2], ring == 2)


def test_what_is_no_polygon_is_left_out():
    assert shapes_of(answer_of([[1, 0, 1], [0, 0, 1], [0, 0, 1]], ("cat",))) == []


def test_fewer_points_and_fewer_shapes_if_they_are_asked_for():
    rows, columns = np.mgrid[:60, :60]
    disc = ((rows - 30) ** 2 + (columns - 30) ** 2 < 400).astype(np.int32)
    exact, coarse = (shapes_of(answer_of(disc, ("cat",)), epsilon_factor=epsilon)[0] for epsilon in (0, 0.01))
    assert len(coarse["points"]) < len(exact["points"]) / 2
    assert (painted([coarse], disc.shape)[0] != disc).mean() < 0.05
    score = exact["score"]
    assert shapes_of(answer_of(disc, ("cat",)), confidence=score) and not shapes_of(
        answer_of(disc, ("cat",)), score + 1e-4
    )


def test_points_between_labels_serve_as_commas(client):
    shapes = predict(client, png(4), text_prompt="cat . grass . sky .").json()
    assert shapes == predict(client, png(4), text_prompt=LABELS).json()


def test_wrong_requests(client):
    assert_refused(predict(client, png(), "sam", text_prompt="cat"), 404, "model is 'sam'", "MODEL_NOT_FOUND")
    assert_refused(predict(client, b"none", text_prompt="cat"), 422, "not an image", "INVALID_IMAGE")
    assert_refused(predict(client, png()), 422, "no labels")
    assert_refused(predict(client, png(), text_prompt=7), 422, "text_prompt is int")
    assert_refused(
        predict(client, png(), text_prompt="cat", conf_threshold="1"), 422, "conf_threshold is 1, expected a number"
    )
    assert_refused(client.post("/v1/predict", json={"model": "tiny"}), 422, "image is None")
    assert_refused(client.post("/v1/predict", json={"model": "tiny", "image": "", "params": []}), 422, "no labels")
    assert_refused(client.post("/v1/predict", json={"model": "tiny", "image": "", "params": 3}), 422, "params is int")


def test_labels_of_the_server_let_it_run_over_a_folder(tiny_preset):
    service = Service(tiny_preset, ["cat", "sky"], masks="slic")
    client = TestClient(create_app(service), base_url=HOME)
    model = client.get("/v1/models").json()["data"]["tiny"]
    assert model["batch_processing_mode"] == "default" and model["labels"] == ["cat", "sky"]
    assert {"name": "button_run", "value": None} in model["widgets"]
    assert {shape["label"] for shape in predict(client, png()).json()["data"]["shapes"]} <= {"cat", "sky"}
    service.close()
