"""Usual surroundings of things, for `--background auto`: a static list, without those that are asked for anyway.

The list is our own. It is short: each name competes with the labels, and what they do not take is "other" anyway.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from functools import lru_cache

AUTO = "auto"  # stands for the list among background labels; "auto [thing]" is a label of that name
# Each with other words for it, its kinds and its parts: where one of these is asked for, it is left out.
_GROUPS = """
    sky: cloud, cloudscape, heavens
    wall: wallpaper, brickwork, masonry
    floor: flooring, tile, parquet, floorboard
    ceiling
    ground: soil, earth, dirt, mud, clay, land, terrain, gravel
    grass: lawn, meadow, pasture, field, turf, vegetation, greenery, weed
    tree: forest, wood, jungle, foliage, leaves, leaf, branch, vegetation, greenery, palm, pine, oak, conifer
    bush: shrub, shrubbery, hedge, undergrowth, foliage, vegetation, greenery
    water: sea, ocean, river, stream, lake, pond, pool, puddle, wave, waterfall, swamp, body of water
    road: street, highway, motorway, asphalt, tarmac, path, trail, lane, driveway, runway, crosswalk
    pavement: sidewalk, footpath, walkway, path, promenade
    building: house, skyscraper, tower, church, castle, barn, hut, cottage, facade, city, town, village, skyline, roof
    fence: railing, guardrail
    sand: beach, desert, dune
    snow: ice, glacier
    mountain: hill, cliff, valley, peak
    rock: stone, boulder, pebble, cliff, rubble
    railway: railroad, rail, track
    stairs: stair, staircase, stairway, step
"""
_LISTED = [line.strip().partition(":")[::2] for line in _GROUPS.strip().split("\n")]
SURROUNDINGS = tuple(name for name, _ in _LISTED)
# After these the name of a thing says where or what with it is: a glass of water is no water.
_AFTERWARDS = re.compile(r" (?:of|with|without|on|in|at|by|near|under|behind|for|from) ")


log = logging.getLogger(__name__)


def is_auto(background: object) -> bool:
    """Whether it is the text "auto"."""
    return isinstance(background, str) and background.strip().casefold() == AUTO


def surroundings_besides(names: Iterable[str]) -> tuple[str, ...]:
    """The SURROUNDINGS that none of `names` means: not as such, in the plural, by another word, or as its last word.

    "Lawns" and "wet grass" both mean grass; "glass of water" and "tree house" mean neither water nor tree.
    """
    asked = {word for name in names for word in _meant(name)}
    return tuple(name for name, others in _LISTED if asked.isdisjoint(map(_singular, [name, *others.split(",")])))


@lru_cache(maxsize=64)  # once for the same surroundings, not once for every image
def note_surroundings(names: tuple[str, ...]) -> None:
    """Log which ones "auto" stands for."""
    taken = ", ".join(names) or "none, since all are asked for"
    log.warning('background auto is %s; "auto [thing]" would be a label', taken)


def _meant(name: str) -> tuple[str, str]:
    """The whole name, and the noun that the rest of it says more about."""
    whole = " ".join(re.split(r"[\s_-]+", name.strip().casefold()))
    return _singular(whole), _singular(_AFTERWARDS.split(whole)[0].split(" ")[-1])


def _singular(name: str) -> str:
    """Lower-case English `name`, in the singular if it is a regular plural; always the same for both."""
    name = name.strip()
    for ending, shorter in (("ies", "y"), ("sses", "ss"), ("shes", "sh"), ("ches", "ch"), ("xes", "x"), ("ss", "ss")):
        if name.endswith(ending):
            return name.removesuffix(ending) + shorter
    return name.removesuffix("s")
