"""The choices of what is written and merged as Enums; light, so that a command line can offer them."""

from __future__ import annotations

from ground.choices import Choice


class Keep(Choice):
    """Whose annotations an image has that several sources have."""

    THEIRS = "theirs"  # those of the source that came first
    OURS = "ours"  # those of the last one


class Export(Choice):
    """What is written beside COCO; the order is that of run.json."""

    YOLO = "yolo"
    LABELSTUDIO = "labelstudio"
    PARQUET = "parquet"
    POLYGON = "polygon"  # instances.json once more, in that style of segmentation
    POLYGON_CENTERS = "polygon-centers"  # likewise
