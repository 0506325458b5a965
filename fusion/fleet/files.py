"""The output of a fleet: fleet.json, and of each shard NAME.parquet, NAME.tar, NAME_stats.json; each declared once."""

from __future__ import annotations

import json
from typing import Annotated

from pydantic import Field

from fusion.formats.record import Record
from fusion.formats.schema import Name, Number, Pixels, RunFile, Sha256, SizeHW

FLEET = "fleet.json"


def table_of(shard: str) -> str:
    """The file of its annotations, see `fusion.formats.parquet`."""
    return f"{shard}.parquet"


def tar_of(shard: str) -> str:
    """The file of its PNGs."""
    return f"{shard}.tar"


def stats_of(shard: str) -> str:
    """The file of its `ShardStats`, which is written last: a shard that has it is done."""
    return f"{shard}_stats.json"


class _Lines(Record):
    """A record that is written with a line for each of its members."""

    def to_lines(self) -> bytes:
        lines = (f'"{key}": {json.dumps(value, allow_nan=False)}' for key, value in self.to_json().items())
        return ("{" + ",\n".join(lines) + "}\n").encode("ascii")


class ShardEntry(Record):
    """A shard that is to be done."""

    name: Name
    source: str  # what it is of, for people
    digest: Sha256  # of its images, as far as a listing tells them


class FleetFile(_Lines):
    """fleet.json: what a fleet was made with and of."""

    run: RunFile  # with no images
    root: str  # folder or URL that keys of images are relative to
    png: list[str]  # kinds in the tars, see `fusion.fleet.choices`
    shards: list[ShardEntry]


class EmptyImage(Record):
    """An image in which nothing was found."""

    key: str
    size: SizeHW


class FailedImage(Record):
    """An image that could not be read or segmented."""

    key: str
    reason: str


class ShardStats(_Lines):
    """NAME_stats.json: what became of a shard's images."""

    shard: Name
    source: str
    config_hash: Sha256
    digest: Sha256
    png: list[str]
    images: Pixels  # all of them
    failed: Pixels
    annotations: Pixels
    seconds: Number  # wall time
    outputs: dict[str, Pixels]  # the shard's other files → bytes
    failures: list[FailedImage]
    empty: list[EmptyImage]  # in their order
    # Of each image, in order, how many rows of the table it has; None: it failed.
    counts: list[Annotated[int, Field(ge=0)] | None]
