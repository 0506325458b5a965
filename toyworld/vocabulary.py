"""The labels of the toy world: kinds, colours, patterns, skies, grounds, synonyms, and what is never trained on."""

from __future__ import annotations

OBJECTS = (
    "ball", "house", "tree", "boat", "car", "flower", "star", "heart",
    "fish", "mushroom", "balloon", "cup", "kite", "umbrella", "rocket", "butterfly",
)  # fmt: skip
GROUNDS = ("grass", "sand", "water", "snow", "pavement", "wheat")
SKY = "sky"
SKIES = ("clear sky", "cloudy sky", "sunset sky", "night sky")
KINDS = (*OBJECTS, *GROUNDS, SKY)

COLORS = {
    "red": (212, 50, 46),
    "orange": (238, 132, 38),
    "yellow": (246, 206, 62),
    "green": (66, 148, 74),
    "blue": (50, 102, 202),
    "purple": (130, 70, 172),
    "pink": (242, 146, 182),
    "brown": (132, 86, 52),
    "black": (46, 46, 52),
    "white": (244, 242, 236),
    "gray": (138, 140, 146),
}
PLAIN = "plain"  # not spoken: a plain red ball is "red ball"
PATTERNS = (PLAIN, "striped", "dotted", "checkered", "zigzag")

SYNONYMS = {
    "ball": ("sphere",),
    "house": ("cottage", "home"),
    "boat": ("ship", "sailboat"),
    "car": ("automobile",),
    "flower": ("blossom",),
    "mushroom": ("toadstool",),
    "balloon": ("hot-air balloon",),
    "cup": ("mug",),
    "umbrella": ("parasol",),
    "rocket": ("spaceship",),
    "grass": ("lawn", "meadow"),
    "sand": ("beach",),
    "water": ("sea", "lake"),
    "pavement": ("cobblestones",),
    "wheat": ("wheat field",),
}

# Combinations (colour, pattern, kind) that no training scene holds, to test composition: every colour, pattern and kind
# among them is common in training. Validation and test scenes show them more often than chance would.
HELD_OUT = frozenset(
    tuple(combination.split())
    for combination in (
        "purple checkered heart", "red dotted fish", "blue striped mushroom", "green zigzag star",
        "orange plain umbrella", "pink checkered car", "yellow dotted boat", "black striped kite",
        "white zigzag cup", "gray dotted butterfly", "brown checkered balloon", "red zigzag tree",
        "blue dotted house", "green plain rocket", "purple striped ball", "orange checkered flower",
        "pink zigzag house", "yellow plain cup", "black dotted mushroom", "white striped fish",
        "gray checkered star", "brown zigzag kite", "red checkered rocket", "blue plain heart",
        "green dotted car", "purple plain boat", "orange striped tree", "pink dotted ball",
        "yellow zigzag butterfly", "black plain flower",
    )
)  # fmt: skip


def full_name(color: str, pattern: str, kind: str) -> str:
    """("red", "striped", "boat") → "red striped boat"; plain is not spoken."""
    return f"{color} {kind}" if pattern == PLAIN else f"{color} {pattern} {kind}"
