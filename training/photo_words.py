"""What words alone tell of photographs: synonyms, broader words, what usually is beside what, and whether up or down.

Knowledge of the language, not of any picture. It helps tags to find their places, since tags that always come together
(sky, road, building) could else change roles.
"""

from __future__ import annotations

# Said in place of each other.
SYNONYMS: dict[str, tuple[str, ...]] = {
    "pavement": ("sidewalk", "footpath"),
    "vegetation": ("tree", "bushes", "plants", "foliage"),
    "tree": ("trees",),
    "forest": ("woods", "trees"),
    "road": ("roadway", "asphalt road"),
    "car": ("automobile", "cars"),
    "building": ("buildings",),
    "house": ("home", "building"),
    "sky": ("clouds", "blue sky"),
    "sea": ("ocean", "sea water"),
    "water": ("lake water",),
    "grass": ("lawn", "meadow"),
    "sand": ("sandy beach",),
    "sofa": ("couch",),
    "television": ("tv monitor", "screen"),
    "airplane": ("aeroplane", "plane"),
    "dining table": ("table",),
    "potted plant": ("house plant",),
    "pedestrian": ("person", "people walking"),
    "bicyclist": ("cyclist", "person on a bicycle"),
    "sign": ("traffic sign",),
    "pole": ("lamp post",),
    "dog": ("puppy",),
    "cat": ("kitten",),
    "man": ("person",),
    "woman": ("person",),
    "people": ("persons",),
    "sheep": ("lamb",),
    "cow": ("cattle",),
    "motorcycle": ("motorbike",),
    "wall": ("interior wall",),
    "floor": ("ground",),
    "mountain": ("mountains", "rocks"),
    "snow": ("snowy ground",),
    "skin": ("bare skin",),
}

# They include other tags of their picture: at a time either these are looked for, or the others.
BROAD = frozenset(
    [
        "animal",
        "sport",
        "room",
        "vehicle",
        "food",
        "flower",
        "fish",
        "tool",
        "musical instrument",
        "insect",
        "amphibian",
        "water",
        "ice",
        "street",
        "kitchen",
        "bedroom",
        "bathroom",
        "city",
        "park",
        "playground",
    ]
)
WORN = frozenset(("skin", "hair", "shoes"))  # beside these, "person" is a broad word

# What may well be in the picture too, though nobody said so.
_OUTDOORS = ("sky", "tree", "grass")
_STREET = ("sky", "tree", "road", "car", "building", "pavement", "person")
_INDOORS = ("wall", "floor", "window", "door", "ceiling")
COMPANIONS: dict[str, tuple[str, ...]] = {
    "building": ("sky", "tree", "road", "grass", "window"),
    "street": _STREET,
    "church": ("sky", "tree", "grass", "road"),
    "house": ("sky", "tree", "grass", "road", "window", "door"),
    "mountain": ("sky", "tree", "grass", "snow", "water", "rock"),
    "glacier": ("sky", "water", "mountain", "rock"),
    "sea": ("sky", "sand", "rock", "boat"),
    "forest": ("sky", "grass", "path", "leaf"),
    "bedroom": (*_INDOORS, "bed", "curtain", "pillow"),
    "bathroom": (*_INDOORS, "bathtub", "toilet", "sink", "mirror"),
    "kitchen": (*_INDOORS, "cupboard", "oven", "refrigerator", "table"),
    "parachute": ("sky", "person", "grass"),
    "sheep": (*_OUTDOORS, "fence"),
    "cow": (*_OUTDOORS, "fence"),
    "horse": (*_OUTDOORS, "fence", "sand"),
    "bus": _STREET,
    "truck": _STREET,
    "car": _STREET,
    "garbage truck": _STREET,
    "gas pump": _STREET,
    "motorcycle": _STREET,
    "beach": ("sky", "sea", "sand", "person"),
    "ocean": ("sky", "sand"),
    "snow": ("sky", "tree", "mountain"),
    "field": ("sky", "tree", "grass"),
    "airplane": ("sky", "grass", "runway"),
    "boat": ("sky", "water", "tree"),
    "train": ("sky", "tree", "railway track", "platform"),
    "panda": ("grass", "tree", "bamboo"),
    "animal": (*_OUTDOORS, "water", "sand", "rock", "snow", "leaf", "wall", "floor"),
    "dog": (*_OUTDOORS, "floor", "wall", "sofa", "sand", "snow", "water"),
    "cat": ("grass", "floor", "wall", "sofa", "bed", "table", "window"),
    "bird": (*_OUTDOORS, "water", "branch", "sand"),
    "fish": ("water", "coral", "sand", "person", "hand"),
    "flower": ("leaf", "grass", "sky", "wall"),
    "food": ("plate", "table", "bowl"),
    "skin": ("wall", "pavement", "grass", "building", "floor", "door"),
}

# What is not in the picture, whatever else is.
_OPEN = ("sky", "grass", "road", "pavement", "street", "field", "mountain", "sea", "sand", "snow", "building", "forest")
ELSEWHERE: dict[str, tuple[str, ...]] = dict.fromkeys(("kitchen", "bedroom", "bathroom", "food"), _OPEN)

# May as well be missing beside a thing: kept off from below, but not looked for above, unless somebody said it.
UNSURE = frozenset(("sky",))

# Where things usually are: 1 above, -1 below.
HEIGHTS: dict[str, float] = {
    **dict.fromkeys(("sky", "ceiling"), 1),
    **dict.fromkeys(("tree", "wall"), 0.5),
    **dict.fromkeys(("road", "pavement", "grass", "floor", "sand", "snow", "water", "sea", "field", "path"), -1),
    **dict.fromkeys(("ground", "runway", "railway track", "wheat"), -1),
    **dict.fromkeys(("shoes", "boots", "heels", "sneakers", "sandals"), -1),
    **dict.fromkeys(("hair", "hat", "sunglasses", "glasses"), 1),
}
