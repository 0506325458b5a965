"""Annotations as a Parquet table, a row each: for data frames, and for shards of many images.

pyarrow (the extra `parquet`) is imported when a table is written or read.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import IO, TYPE_CHECKING, Any

from fusion.formats.coco import categories
from fusion.formats.schema import Annotation, Region
from ovseg.labels import Label

if TYPE_CHECKING:
    import pyarrow

ROWS = 10_000  # of a row group


def check_parquet() -> None:
    """ValueError, with what installs it, if pyarrow is not there."""
    if find_spec("pyarrow") is None:
        raise ValueError("parquet needs the package pyarrow: pip install 'emerseg[parquet]'")


def schema(labels: Sequence[Label]) -> pyarrow.Schema:
    """The columns; the categories are in the metadata, as JSON of COCO's `categories`."""
    import pyarrow as pa

    columns = [
        ("key", pa.string()),  # file name of the image
        ("size", pa.list_(pa.int32(), 2)),  # height, width of the image, px
        ("category_id", pa.int32()),
        ("rle", pa.string()),  # counts of COCO's RLE
        ("bbox", pa.list_(pa.int32(), 4)),  # x, y, width, height, px
        ("area", pa.int64()),  # px
        ("score", pa.float64()),
        ("share", pa.float64()),
        ("runner_up", pa.string()),
        ("margin", pa.float64()),
        ("mask_ids", pa.list_(pa.int32())),  # masks that the region is made of
    ]
    named = json.dumps([category.to_json() for category in categories(labels)])
    return pa.schema(columns, metadata={"categories": named})


def rows(key: str, size_hw: Sequence[int], annotations: Iterable[Annotation | Region]) -> list[dict[str, Any]]:
    """The rows of an image; a name that is no text has its bytes escaped."""
    return [
        {
            "key": as_text(key),
            "size": list(size_hw),
            "category_id": one.category_id,
            "rle": one.segmentation["counts"] if isinstance(one.segmentation, dict) else None,
            "bbox": one.bbox,
            "area": one.area,
            "score": one.evidence.score,
            "share": one.evidence.share,
            "runner_up": one.evidence.runner_up,
            "margin": one.evidence.margin,
            "mask_ids": one.evidence.mask_ids,
        }
        for one in annotations
    ]


def as_text(key: str) -> str:
    """`key` with the bytes escaped that are no text."""
    return key.encode("utf-8", "backslashreplace").decode("utf-8")


class ParquetFile:
    """A table in an open file; ROWS are in memory at once."""

    def __init__(self, file: IO[bytes], labels: Sequence[Label]) -> None:
        from pyarrow import parquet

        self._schema = schema(labels)
        self._writer = parquet.ParquetWriter(file, self._schema)
        self._waiting: list[dict[str, Any]] = []

    def add(self, key: str, size_hw: Sequence[int], annotations: Iterable[Annotation | Region]) -> None:
        """Write the rows of an image; the segmentations must be RLE."""
        self._waiting += rows(key, size_hw, annotations)
        while len(self._waiting) >= ROWS:
            self._write(self._waiting[:ROWS])
            del self._waiting[:ROWS]

    def close(self) -> None:
        """Write the end."""
        if self._waiting:
            self._write(self._waiting)
        self._writer.close()

    def _write(self, some: list[dict[str, Any]]) -> None:
        import pyarrow as pa

        self._writer.write_table(pa.Table.from_pylist(some, schema=self._schema))
