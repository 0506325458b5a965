"""What all annotation tools share: parameters as text, regions with masks, and one line where a tool is missing."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module

import numpy as np
import pytest
from pycocotools import mask as rle_codec
from tiny_emerdiff import picture
from tiny_fusion import coarse_of, masks_of

from emerseg.integrations import fiftyone_zoo
from emerseg.integrations.regions import labelled_regions
from emerseg.integrations.settings import segment, spec_of
from fusion import RunSpec, Segmenter, fuse, list_presets
from fusion.formats import coco
from ovseg import Label

LABEL_MAP = [[0, 0, 1, 2], [1, 1, 1, 0], [0, 1, 2, 0]]


def test_regions_are_the_annotations_of_instances_json():
    result = fuse(masks_of(LABEL_MAP), coarse_of(LABEL_MAP, ("cat", Label("grass", stuff=True), "sky")))
    annotations = coco.instances(result)["annotations"]
    found = labelled_regions(result)
    # Three cats, grass as a whole, two pieces of sky.
    assert [region.label.name for region in found] == ["cat", "cat", "cat", "grass", "sky", "sky"]
    for region, annotation in zip(found, annotations, strict=True):
        left, top, width, height = region.box_xywh
        whole = np.zeros((3, 4), bool)
        whole[top : top + height, left : left + width] = region.mask
        np.testing.assert_array_equal(whole, rle_codec.decode(annotation["segmentation"]))
        assert (region.category_id, region.area) == (annotation["category_id"], annotation["area"])
        assert region.evidence.to_json() == annotation["evidence"]


def test_text_gives_the_spec_of_the_command_line(tiny_preset, tmp_path):
    (tmp_path / "labels.txt").write_text("cat, kitten\nsky [stuff]\n")
    spec = spec_of(
        str(tmp_path / "labels.txt"),
        background="wall, floor",
        preset=tiny_preset,
        masks="grid",
        overrides="emerdiff.clusters=4; fusion.min_area=9",
        seed=3,
        device="cpu",
    )
    assert spec.labels == (Label("cat", ("kitten",)), Label("sky", stuff=True))
    assert [label.name for label in spec.background] == ["wall", "floor"]
    assert (spec.preset.emerdiff.clusters, spec.preset.fusion.min_area, spec.seed) == (4, 9, 3)
    assert spec_of("cat, dog", preset=tiny_preset, speed="fast").preset.emerdiff.speed == "fast"
    plain = spec_of(["cat", "dog"], preset=tiny_preset, device="cpu")
    assert plain.hash == RunSpec(tiny_preset, ["cat", "dog"], device="cpu").hash


def test_a_spec_gives_the_result_of_the_segmenter(tiny_preset):
    spec = spec_of("cat, grass, sky", preset=tiny_preset, masks="grid", device="cpu", seed=5)
    expected = Segmenter.from_preset(tiny_preset, masks="grid", device="cpu").segment(
        picture(), ["cat", "grass", "sky"], seed=5
    )
    np.testing.assert_array_equal(segment(picture(), spec).label_map, expected.label_map)


def test_threads_get_what_each_gets_alone(tiny_preset):
    spec = spec_of("cat, grass, sky", preset=tiny_preset, device="cpu")
    images = [picture(seed=seed) for seed in range(4)]
    alone = [segment(image, spec).label_map for image in images]
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda image: segment(image, spec).label_map, images))
    np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize(
    ("tool", "packages"),
    [
        ("cvat", ["cvat_sdk"]),
        ("fiftyone", ["fiftyone"]),
        ("labelstudio", ["label_studio_sdk", "label_studio_ml"]),
    ],
)
def test_a_tool_that_is_not_installed_is_one_line(tool, packages, monkeypatch):
    module = f"emerseg.integrations.{tool}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    for package in packages:
        for name in [name for name in sys.modules if name.split(".")[0] == package]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, package, None)  # as if it were not there
    with pytest.raises(
        ModuleNotFoundError, match=rf"{module}: no module .*; pip install 'emerseg\[{tool}\]'"
    ) as caught:
        import_module(module)
    assert "\n" not in str(caught.value)


def test_the_source_of_zoo_models_has_a_model_for_each_preset():
    path = fiftyone_zoo.__file__.replace("__init__.py", "manifest.json")
    with open(path) as file:
        manifest = json.load(file)
    names = [model["base_name"] for model in manifest["models"]]
    assert sorted(names) == sorted(f"emerseg-{name}" for name in list_presets())
    with pytest.raises(ValueError, match=r'emerseg-sd15 has no labels: load_zoo_model\("emerseg-sd15", labels='):
        fiftyone_zoo.load_model("emerseg-sd15", "")
