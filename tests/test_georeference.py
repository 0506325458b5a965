"""GeoTIFFs: their coordinates go with the semantic map."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from fusion import RunSpec, run_folder
from fusion.formats.semantic import semantic_png
from fusion.validate import validate
from ground.georeference import georeference, geotiff

# WGS 84 / UTM zone 32N, pixels of 0.2 m, as rasterio writes it: tag → (type, value)
TAGS = {
    33550: (12, (0.2, 0.2, 0.0)),
    33922: (12, (0.0, 0.0, 0.0, 500000.0, 5400000.0, 0.0)),
    34735: (3, (1, 1, 0, 4, 1024, 0, 1, 1, 1025, 0, 1, 1, 1026, 34737, 22, 0, 3072, 0, 1, 32632)),
    34737: (2, "WGS 84 / UTM zone 32N|"),
}


def save(path: Path, tags: dict = TAGS, orientation: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    given = TiffImagePlugin.ImageFileDirectory_v2()
    for tag, (kind, value) in {**tags, 274: (3, orientation)}.items():
        given.tagtype[tag] = kind
        given[tag] = value
    pixels = np.arange(40 * 50 * 3, dtype=np.uint32).reshape(40, 50, 3) % 251
    Image.fromarray(pixels.astype(np.uint8)).save(path, tiffinfo=given)
    return path


@pytest.mark.parametrize("count", [4, 300])
def test_a_label_map_keeps_the_tags_letter_by_letter(tmp_path, count):
    where = georeference(save(tmp_path / "field.tif"))
    assert where is not None and where.tags == TAGS
    label_map = np.arange(2000, dtype=np.int32).reshape(40, 50) % count
    (tmp_path / "map.tif").write_bytes(geotiff(semantic_png(label_map, [(1, 2, 3)] * count), where))
    assert georeference(tmp_path / "map.tif") == where
    np.testing.assert_array_equal(np.asarray(Image.open(tmp_path / "map.tif")), label_map)


def test_other_images_have_no_coordinates(tmp_path):
    assert georeference(save(tmp_path / "plain.tif", {})) is None
    assert georeference(save(tmp_path / "turned.tif", orientation=6)) is None  # its coordinates are of other sides
    assert georeference(save(tmp_path / "field.tif").rename(tmp_path / "field.png")) is None
    (tmp_path / "damaged.tif").write_bytes(b"II*\0 and no more")
    assert georeference(tmp_path / "damaged.tif") is None
    assert georeference(tmp_path / "missing.tif") is None


def test_a_run_writes_it_beside_the_semantic_map_and_validate_compares_both(tiny_preset, tmp_path):
    save(tmp_path / "photos/field.tif")
    save(tmp_path / "photos/plain.tif", {})
    spec, output = RunSpec(tiny_preset, ["cat", "grass"], masks="grid", device="cpu"), tmp_path / "out"
    run_folder(spec, tmp_path / "photos", output)
    assert [path.name for path in (output / "geotiff").iterdir()] == ["field.tif"]
    semantic = np.asarray(Image.open(output / "semantic/field.png"))
    np.testing.assert_array_equal(np.asarray(Image.open(output / "geotiff/field.tif")), semantic)
    assert georeference(output / "geotiff/field.tif") == georeference(tmp_path / "photos/field.tif")
    assert list(validate(output)) == []
    (output / "geotiff/field.tif").unlink()
    statuses = {outcome.name: outcome.status for outcome in run_folder(spec, tmp_path / "photos", output)}
    assert statuses == {"field": "done", "plain": "skipped"} and (output / "geotiff/field.tif").is_file()
    Image.fromarray(255 - semantic).save(output / "geotiff/field.tif")
    assert [str(fault.path) for fault in validate(output)] == ["geotiff/field.tif"]


def test_rasterio_reads_the_same_coordinates(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    source = save(tmp_path / "field.tif")
    (tmp_path / "map.tif").write_bytes(
        geotiff(semantic_png(np.eye(40, 50, dtype=np.int32), [(1, 2, 3)]), georeference(source))
    )
    with rasterio.open(source) as given, rasterio.open(tmp_path / "map.tif") as found:
        assert (found.crs, found.transform) == (given.crs, given.transform)
        assert found.crs.to_epsg() == 32632 and found.transform.a == 0.2
