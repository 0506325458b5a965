"""The image of the README: photographs that come with scikit-image, as the preset segments them.

    python -m benchmarks.gallery docs/images/photographs.jpg [--preset mini]

Chelsea and the coffee cup are CC0 (Stefan van der Walt; Rachel Michetti), the rocket (SpaceX) and the astronaut (NASA)
are in the public domain. The labels of each photograph are those below.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

from emerseg import Label, Segmenter

WIDTH, HEIGHT, GAP = 600, 400, 8  # px, of a photograph in the image and between two
LABELS = {
    "chelsea": (Label("cat"), Label("wall", stuff=True)),
    "coffee": (Label("coffee cup"), Label("wooden floor", stuff=True)),
    "rocket": (Label("rocket"), Label("sky", stuff=True)),
    "astronaut": (Label("person"), Label("flag"), Label("space shuttle"), Label("wall", stuff=True)),
}


def main() -> None:
    output, segmenter = parsed(__doc__)
    page = Image.new("RGB", (2 * WIDTH + GAP, 2 * HEIGHT + GAP), "white")
    for index, (name, labels) in enumerate(LABELS.items()):
        image = photograph(name)
        result = segmenter.segment(image, labels, seed=0)
        corner = ((index % 2) * (WIDTH + GAP), (index // 2) * (HEIGHT + GAP))
        page.paste(Image.fromarray(result.overlay(image)), corner)
        found = {label.name: round(float((result.label_map == i).mean()), 3) for i, label in enumerate(labels, start=1)}
        print(f"{name}: {found}")
    page.save(output, quality=85, optimize=True)


def parsed(description: str | None) -> tuple[Path, Segmenter]:
    """What the command line asks for: the file to draw, and the preset's segmenter."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--preset", default="mini")
    arguments = parser.parse_args()
    return arguments.output, Segmenter.from_preset(arguments.preset)


def photograph(name: str) -> np.ndarray:
    """(400, 600, 3) uint8: a photograph of scikit-image, cut to 3:2 at its lower edge and resized."""
    image = Image.fromarray(getattr(skimage.data, name)())
    cut = image.crop((0, 0, image.width, round(image.width * HEIGHT / WIDTH)))
    return np.asarray(cut.resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC))


if __name__ == "__main__":
    main()
