"""Large images: what is done to an image → the same to each of its tiles, joined. One tile is the image itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fusion.models.sources import MaskMaker
from ground.tiles import Tile, Tiling

if TYPE_CHECKING:
    from emerdiff import Masks
    from ovseg import CoarseMap
    from ovseg.mosaic import CoarseMosaic

Image = NDArray[np.uint8]  # (H, W, 3)


def tiled(make: MaskMaker, tiling: Tiling | None) -> MaskMaker:
    """What makes the masks of an image, by those that `make` makes of its tiles, all with one seed."""
    from emerdiff.join import join_tiles

    def maker(image: Image, seed: int) -> Masks:
        if tiling is None or is_one_tile(image, tiling):
            return make(image, seed)
        parts = ((tile, make(_part(image, tile), seed)) for tile in _tiles(image, tiling))
        return join_tiles(parts, tiling, (image.shape[0], image.shape[1]))

    return maker


def located(
    coarse_of: Callable[[Image, Masks | None], CoarseMap], image: Image, masks: Masks | None, tiling: Tiling | None
) -> CoarseMap | CoarseMosaic:
    """The coarse map of an image, by those that `coarse_of` makes of its tiles and what its masks are there."""
    if tiling is None or is_one_tile(image, tiling):
        return coarse_of(image, masks)
    from ovseg.mosaic import join_coarse

    parts = ((tile, coarse_of(_part(image, tile), _masks_of(masks, tile))) for tile in _tiles(image, tiling))
    return join_coarse(parts, (image.shape[0], image.shape[1]))


def is_one_tile(image: Image, tiling: Tiling) -> bool:
    """Whether an image is no larger than a tile."""
    return max(image.shape[:2]) <= tiling.side


def _tiles(image: Image, tiling: Tiling) -> Iterator[Tile]:
    yield from tiling.tiles((image.shape[0], image.shape[1]))


def _part(image: Image, tile: Tile) -> Image:
    return np.ascontiguousarray(image[tile.window])


def _masks_of(masks: Masks | None, tile: Tile) -> Masks | None:
    """An image's masks in a tile, by their numbers in the image, with the affinity of the tile if that was kept."""
    from emerdiff.affinity import TiledAffinity

    if masks is None:
        return None
    kept = masks.affinity.of_tiles[tile.index] if isinstance(masks.affinity, TiledAffinity) else None
    return replace(masks, label_map=np.ascontiguousarray(masks.label_map[tile.window]), affinity=kept)
