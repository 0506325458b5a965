"""Labels that usually mean stuff: surroundings without a shape of their own, which nobody counts.

The list is our own. It has what data sets of scenes agree on, in the words that people use; where they do not agree, as
on tables and windows, a label stays a thing.
"""

from __future__ import annotations

_GROUPS = """
    sky, clear sky, blue sky, night sky, cloudy sky, clouds, fog, mist, smoke, air
    ground, soil, earth, dirt, mud, sand, gravel, pebbles, rubble, debris, dust, beach, desert, dunes
    snow, ice, water, sea, ocean, river, stream, lake, pond, puddle, waves, swamp, waterfall
    grass, lawn, meadow, pasture, field, moss, straw, hay, leaves, foliage, vegetation, plants, weeds, undergrowth
    tree, trees, forest, woods, jungle, bush, bushes, shrubs, hedge, crops
    mountain, mountains, hill, hills, rock, rocks, stones, cliff, land, terrain, landscape, countryside
    road, street, path, trail, pavement, sidewalk, asphalt, concrete, crosswalk, road marking, road markings
    highway, runway, parking lot, driveway, playground, playing field, railroad, railway, rail track
    building, buildings, houses, skyscrapers, city, town, skyline, roofs
    wall, walls, brick wall, stone wall, wooden wall, tiled wall, concrete wall, fence, fences, railing, scaffolding
    floor, wooden floor, tiled floor, floor tiles, tiles, carpet, ceiling, stairs, platform
    background, surroundings, scenery, shadow, shadows, darkness
"""
USUAL_STUFF = frozenset(name.strip() for line in _GROUPS.strip().split("\n") for name in line.split(","))
