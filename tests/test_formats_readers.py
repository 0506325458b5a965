"""What other programs make of exports, by their own code; skipped where they are not installed.

pip install -e ".[parquet]"
pip install --no-deps ultralytics label-studio-sdk pyjwt appdirs ijson lxml nltk ujson xmljson
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pycocotools import mask as rle_codec
from test_cli import emerseg
from test_cli_segment import contents, segment
from test_fusion_extras import GRID, photos  # noqa: F401  (a fixture)
from test_fusion_merge import coco_of

from fusion.formats import parquet as parquet_format
from fusion.formats.labelstudio import brush_rle
from fusion.validate import validate


def imported(name, monkeypatch=None):
    try:
        return import_module(name)
    except ImportError as error:
        pytest.skip(f"not installed: {error.name}")


# Parquet


@pytest.fixture
def arrow():
    return imported("pyarrow.parquet")


def test_a_row_per_annotation(photos, tiny_preset, tmp_path, arrow):  # noqa: F811
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "parquet") == 0
    assert list(validate(output)) == []
    table = arrow.read_table(output / "instances.parquet")
    columns = ["key", "size", "category_id", "rle", "bbox", "area", "score", "share", "runner_up", "margin", "mask_ids"]
    assert table.column_names == columns
    coco = coco_of(output / "instances.json")
    assert json.loads(table.schema.metadata[b"categories"]) == coco.dataset["categories"]
    rows = table.to_pylist()
    assert len(rows) == len(coco.anns) > 0
    for row, annotation in zip(rows, coco.dataset["annotations"], strict=True):
        image = coco.imgs[annotation["image_id"]]
        assert (row["key"], row["size"]) == (image["file_name"], [image["height"], image["width"]])
        assert [row[key] for key in ("category_id", "bbox", "area")] == [
            annotation[key] for key in ("category_id", "bbox", "area")
        ]
        mask = rle_codec.decode({"size": row["size"], "counts": row["rle"]})
        np.testing.assert_array_equal(mask, coco.annToMask(annotation))
        assert {key: row[key] for key in columns[6:]} == {key: annotation["evidence"][key] for key in columns[6:]}


def test_row_groups_do_not_change_the_rows(photos, tiny_preset, tmp_path, arrow, monkeypatch):  # noqa: F811
    one, two = tmp_path / "one", tmp_path / "two"
    for style, output in (("rle", one), ("polygon", two)):
        assert segment(photos, output, tiny_preset, *GRID, "--segmentation", style) == 0
    assert emerseg("convert", one, "--to", "parquet") == 0
    monkeypatch.setattr(parquet_format, "ROWS", 2)
    assert emerseg("convert", two, "--to", "parquet") == 0
    tables = [arrow.read_table(output / "instances.parquet") for output in (one, two)]
    assert tables[0].to_pylist() == tables[1].to_pylist()
    assert arrow.ParquetFile(two / "instances.parquet").num_row_groups > 1
    assert list(validate(two)) == []
    (two / "instances.parquet").write_bytes((two / "instances.parquet").read_bytes()[:-9])
    assert [fault.path for fault in validate(two)] == ["instances.parquet"]
    before = contents(one)
    assert emerseg("convert", one, "--to", "parquet") == 0 and contents(one) == before


def test_without_pyarrow_one_line_says_what_installs_it(photos, tiny_preset, tmp_path, monkeypatch, capsys):  # noqa: F811
    monkeypatch.setattr(parquet_format, "find_spec", lambda name: None)
    assert segment(photos, tmp_path / "out", tiny_preset, *GRID, "--export", "parquet") == 2
    line = "emerseg: error: parquet needs the package pyarrow: pip install 'emerseg[parquet]'\n"
    assert capsys.readouterr().err.endswith(line)
    # Where an earlier run wrote it, nothing says something else than the table does.
    assert segment(photos, tmp_path / "out", tiny_preset, *GRID) == 0
    assert emerseg("convert", tmp_path / "out", "--to", "parquet") == 2
    run = tmp_path / "out/run.json"
    run.write_text(run.read_text().replace('"exports": []', '"exports": ["parquet"]'))
    capsys.readouterr()
    assert segment(photos, tmp_path / "out", tiny_preset, *GRID) == 2
    assert emerseg("relabel", tmp_path / "out", "--labels", "dog", "-q") == 2
    assert capsys.readouterr().err == 2 * line


# Label Studio


@settings(max_examples=15)
@given(arrays(np.bool_, st.tuples(st.integers(1, 40), st.integers(1, 300))))
def test_brush_rle_has_the_bytes_of_the_sdk(mask):
    brush = imported("label_studio_sdk.converter.brush")
    assert brush_rle(mask) == brush.mask2rle(mask.astype(np.uint8) * 255)


@pytest.mark.parametrize("size_hw", [(1, 65536), (2, 16384), (2, 16385), (1, 16385), (300, 700)])
def test_long_runs_too(size_hw):
    brush = imported("label_studio_sdk.converter.brush")
    for mask in (np.zeros(size_hw, bool), np.ones(size_hw, bool), np.arange(size_hw[0] * size_hw[1]) == 70):
        mask = mask.reshape(size_hw)
        assert brush_rle(mask) == brush.mask2rle(mask.astype(np.uint8) * 255)
        decoded = brush.decode_rle(brush_rle(mask)).reshape(*size_hw, 4)
        np.testing.assert_array_equal(decoded > 0, mask[..., None].repeat(4, axis=2))


def test_label_studio_reads_our_masks(photos, tiny_preset, tmp_path):  # noqa: F811
    brush = imported("label_studio_sdk.converter.brush")
    interface = imported("label_studio_sdk._extensions.label_studio_tools.core.label_config")
    output = tmp_path / "out"
    assert segment(photos, output, tiny_preset, *GRID, "--export", "labelstudio") == 0
    config = interface.parse_config((output / "labelstudio.xml").read_text(encoding="utf-8"))
    assert config["label"]["type"] == "BrushLabels" and config["label"]["labels"] == ["cat", "grass", "sky"]
    coco = coco_of(output / "instances.json")
    tasks = json.loads((output / "labelstudio.json").read_text())
    assert [task["data"]["image"] for task in tasks] == [
        f"/data/local-files/?d={image['file_name']}" for image in coco.dataset["images"]
    ]
    for task, image in zip(tasks, coco.dataset["images"], strict=True):
        (prediction,) = task["predictions"]
        for region, annotation in zip(prediction["result"], coco.imgToAnns[image["id"]], strict=True):
            value = region["value"]
            shape = region["original_height"], region["original_width"], 4
            np.testing.assert_array_equal(
                brush.decode_rle(value["rle"]).reshape(shape)[..., 3] > 0, coco.annToMask(annotation) > 0
            )
            assert value["brushlabels"] == [coco.cats[annotation["category_id"]]["name"]]


# ultralytics


READ_BY_ULTRALYTICS = """
import json, sys
import numpy as np
from PIL import Image
from ultralytics.data import dataset, utils

data = utils.check_det_dataset(sys.argv[1] + "/yolo/data.yaml", autodownload=False)
loaded = dataset.YOLODataset(img_path=data["train"], data=data, task="segment", augment=False, imgsz=64)
wrong = {}
for number, label in enumerate(loaded.labels):
    name = label["im_file"].rsplit("/", 1)[1].rsplit(".", 1)[0]
    semantic = np.array(Image.open(sys.argv[1] + f"/semantic/{name}.png"))
    height, width = label["shape"]
    wrong[name] = []
    for segments in (label["segments"], loaded.get_image_and_label(number)["instances"].segments):
        found = np.zeros_like(semantic)
        for (index,), points in zip(label["cls"], segments, strict=True):
            found[utils.polygon2mask((height, width), [(points * (width, height)).ravel()]) > 0] = index + 1
        wrong[name].append(float(np.mean(found != semantic)))
print(json.dumps([data["names"], wrong]))
"""


def test_ultralytics_loads_our_masks(photos, tiny_preset, tmp_path):  # noqa: F811
    """Its loader: images are found, labels belong to them, filled polygons are our semantic maps.

    In a process of its own, as it changes how Pillow opens files.
    """
    if find_spec("ultralytics") is None:
        pytest.skip("not installed: ultralytics")
    output = tmp_path / "out"
    slic = ("--masks", "slic", "--clusters", "9", "-q")  # borders of all directions
    assert segment(photos, output, tiny_preset, *slic, "--export", "yolo") == 0
    settings = {"YOLO_CONFIG_DIR": str(tmp_path), "YOLO_AUTOINSTALL": "false", "YOLO_OFFLINE": "true"}
    command = [sys.executable, "-c", READ_BY_ULTRALYTICS, str(output)]
    shown = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=True).stdout
    names, wrong = json.loads(shown.splitlines()[-1])
    assert names == {"0": "cat", "1": "grass", "2": "sky"}
    assert wrong.keys() == {"a", "b", "a-2"}
    for as_read, resampled in wrong.values():
        # With the thousand points on each line that it trains with, a line may leave a diagonal.
        assert as_read == 0 and resampled <= 0.002
