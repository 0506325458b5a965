"""The Python lines of the README run as they stand, and the three ways that they show give one result."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools.coco import COCO

ROOT = Path(__file__).parent.parent


def test_the_python_lines_give_one_result(tiny_preset, tmp_path, monkeypatch):
    (tmp_path / "photos").mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    for path in ("photo.jpg", "photos/photo.jpg"):
        Image.fromarray(noise).save(tmp_path / path)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.M | re.S)
    assert len(blocks) == 4
    names: dict = {}
    for block in blocks:
        exec(block.replace('"mini"', repr(str(tiny_preset))), names)

    result, same = names["result"], names["same"]
    np.testing.assert_array_equal(same.label_map, result.label_map)
    assert same.segments == result.segments
    assert names["outcome"].status == "done"
    with Image.open("out/semantic/photo.png") as semantic:
        np.testing.assert_array_equal(np.asarray(semantic), result.label_map)
    with Image.open("overlay.png") as overlay:
        assert overlay.size == (60, 40)
    areas = [sum(annotation["area"] for annotation in of) for of in (annotations(), names["coco"]["annotations"])]
    assert areas[0] == areas[1] > 0


def annotations():
    coco = COCO("out/instances.json")
    return coco.loadAnns(coco.getAnnIds())


def test_links_lead_to_files():
    documents = [path.relative_to(ROOT) for path in (ROOT / "docs").rglob("*.md")]
    for document in ("README.md", "CONTRIBUTING.md", "emerdiff/weights/mini/README.md", *documents):
        text = (ROOT / document).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)#:]+)\)", text):
            assert ((ROOT / document).parent / target).exists(), f"{document}: {target}"


def test_every_page_of_the_docs_is_in_the_site():
    listed = re.findall(r"^  - .*: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.M)
    pages = [path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(pages)
