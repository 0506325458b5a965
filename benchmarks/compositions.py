"""Are objects of held-out combinations, such as "purple checkered heart", found by their full names as others are?

    python -m benchmarks.compositions [--scenes 200] [--preset toy]

The labels of a scene are the full names of all that it shows and, for each object, nine wrong names that differ in one
word (its colour, its pattern or its kind). What counts is the share of an object's pixels that dense CLIP alone gives
its own name, and the share of objects that have their own name on more than half of their pixels.
"""

from __future__ import annotations

import argparse

import numpy as np

from ovseg import OpenVocabSegmenter
from toyworld import scene
from toyworld.vocabulary import HELD_OUT, OBJECTS, full_name
from toyworld.wording import draw_one_word_apart

FIRST_SEED = 1_000_000
WRONG = 9
_UNSEEN = {full_name(*combination) for combination in HELD_OUT}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--scenes", type=int, default=200)
    arguments = parser.parse_args()
    model = OpenVocabSegmenter.from_preset(arguments.preset)

    shares: dict[bool, list[float]] = {True: [], False: []}
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.scenes):
        drawn = scene(seed)
        rng = np.random.default_rng(seed)
        objects = [i for i, kind in enumerate(drawn.kinds) if kind in OBJECTS]
        wrong = [name for i in objects for name in draw_one_word_apart(drawn.names[i], WRONG, rng)]
        labels = list(dict.fromkeys([*drawn.names, *wrong]))
        found = model.segment(drawn.image, labels).label_map
        for i in objects:
            own = found[drawn.label_map == i] == labels.index(drawn.names[i])
            shares[drawn.names[i] in _UNSEEN].append(own.mean())
    for unseen, of_all in shares.items():
        print(
            f"{'held out' if unseen else 'trained':9} {len(of_all):4} objects: {np.mean(of_all):.3f} of the pixels, "
            f"{np.mean(np.array(of_all) > 0.5):.3f} of the objects by more than half"
        )


if __name__ == "__main__":
    main()
