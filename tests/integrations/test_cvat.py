"""The CVAT function against cvat-sdk and cvat-cli: their loader, driver, checks and masks; a server is stood in for."""

from __future__ import annotations

import logging
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as rle_codec

cvataa = pytest.importorskip("cvat_sdk.auto_annotation")
common = pytest.importorskip("cvat_cli._internal.common")

from cvat_cli._internal.agent_driver_detection import AgentDetectionFunctionDriver  # noqa: E402
from cvat_cli._internal.parsers import parse_function_parameter  # noqa: E402
from cvat_sdk import models  # noqa: E402
from cvat_sdk.auto_annotation import driver  # noqa: E402
from cvat_sdk.masks import decode_mask  # noqa: E402

pytestmark = pytest.mark.integrations
LABELS = "cat, grass [stuff], sky [stuff]"
NAMES = ("cat", "grass", "sky")


def function_of(folder, **more):
    """As `cvat-cli … --function-module emerseg.integrations.cvat -p NAME=TYPE:VALUE …` loads it."""
    texts = [f"labels=str:{LABELS}", f"preset=str:{folder.preset}", *(f"{key}={value}" for key, value in more.items())]
    parameters = dict(map(parse_function_parameter, texts))
    return common.FunctionLoader("emerseg.integrations.cvat", None, parameters).load()


def annotated(folder, function, monkeypatch, **options):
    """The shapes that `annotate_task` uploads for a task with one image, whose labels are those of the function.

    Label ids of the task are 100 + those of the function.
    """
    labels = [
        models.Label(
            id=100 + label.id,
            name=label.name,
            type="polygon" if options.get("conv_mask_to_poly") else label.type,
            sublabels=[],
            attributes=[
                models.Attribute(
                    id=10 * label.id + attribute.id,
                    name=attribute.name,
                    input_type=attribute.input_type.value,
                    mutable=False,
                    values=attribute.values,
                )
                for attribute in label.attributes
            ],
        )
        for label in function.spec.labels
    ]
    media = SimpleNamespace(load_image=lambda: Image.open(folder.image))
    sample = SimpleNamespace(frame_index=7, frame_name="photo.png", media=media)
    dataset = SimpleNamespace(labels=labels, samples=[sample])
    monkeypatch.setattr(driver, "TaskDataset", lambda client, task, **_: dataset)
    sent = []
    api = SimpleNamespace(
        partial_update_annotations=lambda action, task, patched_labeled_data_request: sent.append(
            patched_labeled_data_request
        )
    )
    client = SimpleNamespace(logger=logging.getLogger("cvat"), tasks=SimpleNamespace(api=api))
    cvataa.annotate_task(client, 1, function, **options)
    return sent[0].to_dict()["shapes"]


def test_masks_labels_and_scores_are_those_of_the_folder(folder, monkeypatch):
    shapes = annotated(folder, function_of(folder), monkeypatch)
    assert {shape["type"] for shape in shapes} == {"mask"} and {shape["frame"] for shape in shapes} == {7}
    height, width = folder.semantic.shape
    masks = [decode_mask(shape["points"], image_width=width, image_height=height) for shape in shapes]
    folder.assert_same_pixels(masks, [NAMES[shape["label_id"] - 101] for shape in shapes])
    assert [shape["score"] for shape in shapes] == folder.scores


def test_only_what_reaches_the_threshold_is_returned(folder, monkeypatch):
    threshold = sorted(folder.scores)[1]
    shapes = annotated(folder, function_of(folder), monkeypatch, conf_threshold=threshold)
    assert [shape["score"] for shape in shapes] == [score for score in folder.scores if score >= threshold]
    assert 0 < len(shapes) < len(folder.scores)


def test_polygons_if_the_user_wants_them_fill_to_the_same_masks(folder, monkeypatch):
    shapes = annotated(folder, function_of(folder), monkeypatch, conv_mask_to_poly=True)
    assert {shape["type"] for shape in shapes} == {"polygon"}
    height, width = folder.semantic.shape
    for number in (1, 2, 3):
        points = [shape["points"] for shape in shapes if shape["label_id"] == 100 + number]
        rles = rle_codec.frPyObjects(points, height, width) if points else []
        filled = rle_codec.decode(rles).any(axis=2) if points else np.zeros((height, width), bool)
        np.testing.assert_array_equal(filled, folder.semantic == number)


def test_evidence_becomes_attributes_that_the_driver_accepts(folder, monkeypatch):
    shapes = annotated(folder, function_of(folder, evidence="bool:true"), monkeypatch)
    for shape, annotation in zip(shapes, folder.annotations, strict=True):
        values = {attribute["spec_id"] % 10: attribute["value"] for attribute in shape["attributes"]}
        evidence = annotation["evidence"]
        assert values == {
            1: str(round(100 * evidence["share"])),
            2: str(round(100 * evidence["margin"])),
            3: evidence["runner_up"] or "",
        }


def test_an_agent_can_publish_its_spec(folder):
    fields = AgentDetectionFunctionDriver.get_remote_function_fields(function_of(folder).spec)
    assert [(label["name"], label["type"]) for label in fields["labels_v2"]] == [(name, "mask") for name in NAMES]


def test_wrong_parameters_are_one_line(folder):
    with pytest.raises(ValueError, match="masks is 'foo', expected one of emerdiff, naive, slic, grid, none"):
        function_of(folder, masks="str:foo")
    with pytest.raises(ValueError, match=r"override is 'x=1', expected SECTION\.KEY=VALUE"):
        function_of(folder, overrides="str:fusion.min_area=4; x=1")
