"""How much of each image a label has, in an output folder of `emerseg segment`: where a label is that should not be.

python -m benchmarks.shares OUT wall
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from PIL import Image

MUCH = 0.05  # of an image


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("label")
    arguments = parser.parse_args()
    categories = json.loads((arguments.output / "instances.json").read_text())["categories"]
    ids = {category["name"]: category["id"] for category in categories}
    if arguments.label not in ids:
        parser.error(f"label is {arguments.label!r}, expected one of {', '.join(ids)}")
    shares = {}
    for path in sorted((arguments.output / "semantic").glob("*.png")):
        with Image.open(path) as semantic:
            shares[path.stem] = float((np.asarray(semantic) == ids[arguments.label]).mean())
    for name, share in shares.items():
        print(f"{share:6.1%}  {name}")
    some, much = (sum(share > least for share in shares.values()) for least in (0, MUCH))
    print(f"{arguments.label} is in {some} of {len(shares)} images, and more than {MUCH:.0%} of {much}")


if __name__ == "__main__":
    main()
