"""Which things go together: what stands in streets, in rooms, on the land, and what may be anywhere."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from training.free import scenes
from training.free.cutouts import Cutout
from training.free.names import listed
from training.free.scenes import Scene
from training.free.textures import Rng

SceneMaker = Callable[[Rng, tuple[int, int]], Scene]


PERSONS = listed("man, woman, boy, girl")
OUTDOORS = listed(
    "tree, palm tree, christmas tree, hedge, bush, bench, fence, street lamp, trash can, umbrella, potted plant, "
    "plant, bamboo, cone, deck chair, beach chair, swing, seesaw, trampoline, shed, tent, mailbox, fire hydrant, "
    "barrel, crate, fountain, sign, column, dog house, container, pallet, hammock, snowman, playground slide, "
    "tricycle, skateboard, rock"
)
VEHICLES = listed("car, bus, truck, van, motorcycle, bicycle, scooter, forklift, tram, train, fire truck, taxi")
ANIMALS = listed(
    "dog, cat, horse, deer, rabbit, cow, sheep, bird, chicken, goat, pig, duck, bear, elephant, fox, wolf, lion, "
    "giraffe, zebra"
)
AFLOAT = listed(
    "rowboat, boat, sailboat, ship, speedboat, canoe, ferry, duck, swan, goose, dolphin, whale, surfer, swimmer"
)
FURNITURE = listed(
    "chair, armchair, sofa, table, coffee table, desk, bed, bookcase, cabinet, wardrobe, lamp, television, door, "
    "window, curtain, stool, refrigerator, sink, toilet, bathtub, stove, oven, potted plant, washing machine, "
    "mirror, radiator, shelf, carpet, computer, laptop"
)
# Not for rooms: it is too large, or it would be odd.
NOT_INDOORS = frozenset(
    listed(
        "tree, palm tree, hedge, fence, street lamp, shed, tent, fountain, pallet, goal, dog house, fire hydrant, "
        "mailbox, container, swing, escalator, column, cone, snowman"
    )
    + VEHICLES
)
# How often a thing goes by a broader word, and persons.
BROADER, BROADER_PERSON = 0.15, 0.5


@dataclass(frozen=True)
class Kind:
    """A kind of composite: the source of its images."""

    name: str
    scene: SceneMaker
    things: tuple[tuple[str, ...], ...]  # labels by group; a group is drawn first, then a label of it
    most: int  # things in an image, at most
    share: float  # of all composites


def kinds(cutouts: Sequence[Cutout], place: SceneMaker | None, part: int) -> list[Kind]:
    """The kinds of composites that `cutouts` allow; what may be anywhere comes in parts of at most `part` labels.

    `place` makes scenes of photographed places, if there are any.
    """
    standing = {cutout.label for cutout in cutouts if cutout.height_cm}
    every = sorted({cutout.label for cutout in cutouts})
    animals = tuple(label for label in every if label in ANIMALS)
    persons, outdoors, vehicles = (tuple(sorted(standing & set(some))) for some in (PERSONS, OUTDOORS, VEHICLES))
    indoors = tuple(sorted(standing - NOT_INDOORS - set(persons)))
    furniture = tuple(label for label in indoors if label in FURNITURE)
    groups: dict[str, tuple[SceneMaker, tuple[tuple[str, ...], ...], int, float]] = {
        "street": (scenes.street, (vehicles, vehicles, persons, persons, outdoors, ("tree",)), 7, 0.18),
        "land": (scenes.land, (animals, animals, persons, outdoors, ("tree", "palm tree")), 5, 0.12),
        "sea": (scenes.sea, (AFLOAT,), 3, 0.05),
        "room": (scenes.room, (furniture, furniture, furniture, indoors, persons, ("dog", "cat")), 7, 0.18),
    }
    if place is not None:
        groups["place"] = (place, (persons, animals, vehicles, outdoors, furniture), 4, 0.15)
    made = [Kind(name, of[0], _known(of[1], every), *of[2:]) for name, of in groups.items()]
    made = [kind for kind in made if kind.things]
    rest = 1 - sum(kind.share for kind in made)
    count = -(-len(every) // part)
    parts = (tuple(every[i::count]) for i in range(count))
    return made + [Kind(f"things_{i}", scenes.backdrop, (part,), 3, rest / count) for i, part in enumerate(parts)]


def _known(groups: tuple[tuple[str, ...], ...], every: Sequence[str]) -> tuple[tuple[str, ...], ...]:
    kept = (tuple(label for label in group if label in every) for group in groups)
    return tuple(group for group in kept if group)


def draw_things(rng: Rng, kind: Kind, by_label: dict[str, list[Cutout]]) -> list[Cutout]:
    """Some things for an image of `kind`; at times they go by a broader word that the kind knows."""
    things = []
    for _ in range(rng.integers(1, kind.most + 1)):
        group = kind.things[rng.integers(len(kind.things))]
        # What has many models is common.
        weights = np.sqrt([len(by_label[label]) for label in group])
        found = by_label[group[rng.choice(len(group), p=weights / weights.sum())]]
        # Where models of true size are known, drawings are rare beside them.
        true = [cutout for cutout in found if cutout.height_cm]
        if true and (kind.name.split("_")[0] in ("street", "room", "place") or rng.random() < 0.6):
            found = true
        thing = found[rng.integers(len(found))]
        broad = [word for word in thing.broad.split(";") if word]
        if broad and rng.random() < (BROADER_PERSON if "person" in broad else BROADER):
            thing = replace(thing, label="person" if "person" in broad else broad[rng.integers(len(broad))])
        things.append(thing)
    return things


def by_label(cutouts: Sequence[Cutout]) -> dict[str, list[Cutout]]:
    """The cut-outs of each label."""
    found: dict[str, list[Cutout]] = {}
    for cutout in cutouts:
        found.setdefault(cutout.label, []).append(cutout)
    return found


def sizes(rng: Rng, side: int) -> tuple[int, int]:
    """Height and width of an image in px; the shorter is `side`."""
    longer = int(side * rng.choice([1.0, 1.15, 1.33]))
    return (side, longer) if rng.random() < 0.75 else (longer, side)
