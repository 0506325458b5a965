"""Prior knowledge of labels: synonyms, broader terms, what is usually beside what, and what is usually up or down.

It is knowledge of the language, not of any image. It helps tags to find their places: tags that always come together
(sky, road, building) could otherwise be mistaken for each other.
"""

from __future__ import annotations

# Labels that may stand in for each other.
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

# Broad tags cover other tags of their image: a step looks for the broad ones or for the others.
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
# What a person wears or is covered with; beside these "person" is a broad tag.
WORN = frozenset(("skin", "hair", "shoes"))

# What may well be in the image too, though it is not tagged.
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
    "animal": (*_OUTDOORS, "water", "sand", "rock", "snow", "leaf"),
    "dog": (*_OUTDOORS, "floor", "wall", "sofa", "sand", "snow", "water"),
    "cat": ("grass", "floor", "wall", "sofa", "bed", "table", "window"),
    "bird": (*_OUTDOORS, "water", "branch", "sand"),
    "fish": ("water", "coral", "sand", "person", "hand"),
    "flower": ("leaf", "grass", "sky", "wall"),
    "food": ("plate", "table", "bowl"),
    "skin": ("wall", "pavement", "grass", "building", "floor", "door"),
}

# What an image with this tag does not show.
_OPEN = ("sky", "grass", "road", "pavement", "street", "field", "mountain", "sea", "sand", "snow", "building", "forest")
_INSIDE = ("wall", "floor", "ceiling", "curtain", "pillow", "door")
# What blurred or dark woods and meadows are else taken for.
_OUTSIDE = [
    "sheep",
    "cow",
    "horse",
    "bird",
    "bear",
    "panda",
    "airplane",
    "boat",
    "train",
    "bus",
    "car",
    "truck",
    "motorcycle",
    "bicycle",
    "street",
    "mountain",
    "forest",
    "glacier",
    "sea",
    "beach",
    "ocean",
    "snow",
    "field",
]
ELSEWHERE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("kitchen", "bedroom", "bathroom", "food"), _OPEN),
    **dict.fromkeys(_OUTSIDE, _INSIDE),
}

# Companions that may as well be missing: kept out of the lower part, but not looked for in the upper one.
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
