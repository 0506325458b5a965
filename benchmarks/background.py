"""The image of the README about `--background auto`: labels that are all things, without it and with it.

    python -m benchmarks.background docs/images/background.jpg [--preset mini]

The rocket is a photograph that comes with scikit-image, in the public domain (SpaceX).
"""

from __future__ import annotations

from PIL import Image

from benchmarks.gallery import GAP, HEIGHT, WIDTH, parsed, photograph

LABELS = ("rocket", "airplane")


def main() -> None:
    output, segmenter = parsed(__doc__)
    image = photograph("rocket")
    page = Image.new("RGB", (2 * WIDTH + GAP, HEIGHT), "white")
    for index, background in enumerate(((), "auto")):
        result = segmenter.segment(image, LABELS, background=background, seed=0)
        page.paste(Image.fromarray(result.overlay(image)), (index * (WIDTH + GAP), 0))
        shares = {name: round(float((result.label_map == i).mean()), 3) for i, name in enumerate(("other", *LABELS))}
        print(f"background {background or 'none'}: {shares}")
    page.save(output, quality=85, optimize=True)


if __name__ == "__main__":
    main()
