"""Rules for the labels of masks side by side, on the same masks and coarse maps: those that are built, and others.

    python -m benchmarks.rules DIR/labels/SOURCE:10::20 ...                           # preset mini, photographs
    python -m benchmarks.rules 1000000:1000040 --preset toy --dataset toy

Label mIoU and boundary F at 2 px in per cent, and in brackets the difference to `overlap` with its 95 % interval, from
bootstrap samples of the images (paired). With several roots the last table has the mean over them. The rules are in
benchmarks/studies/rules.py.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from numpy.typing import NDArray

from benchmarks.studies.rules import BASE, RULES, Votes
from fusion.evaluation.datasets import open_dataset
from fusion.evaluation.figures import DRAWS, interval, resamples
from fusion.evaluation.metrics import boundary_f, class_counts, mean_iou
from fusion.models.segmenter import Segmenter

WITHIN = 2  # px between a border and a true one
Figures = dict[str, NDArray[np.float64]]  # rule → (1 + DRAWS, 2) mIoU and F, of all images and of each sample of them


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("roots", nargs="+", metavar="ROOT")
    parser.add_argument("--preset", default="mini")
    parser.add_argument("--dataset", default="pictures")
    parser.add_argument("--limit", type=int, help="images of each root")
    arguments = parser.parse_args()
    segmenter = Segmenter.from_preset(arguments.preset)
    of_roots = []
    for root in arguments.roots:
        of_roots.append(measured(segmenter, arguments.dataset, root, arguments.limit))
        print(f"\n{root}\n\n{table(of_roots[-1])}", flush=True)
    if len(of_roots) > 1:
        print(f"\nThe mean of {len(of_roots)}\n\n{table({rule: mean(of_roots, rule) for rule in RULES})}")


def measured(segmenter: Segmenter, dataset: str, root: str, limit: int | None) -> Figures:
    """The figures of all rules on one data set."""
    data = open_dataset(dataset, root, limit)
    texts = segmenter.ovseg.encode_labels(data.labels)
    counts: dict[str, list[NDArray[np.int64]]] = {rule: [] for rule in RULES}
    borders: dict[str, list[float]] = {rule: [] for rule in RULES}
    for number, sample in enumerate(data.samples(), start=1):
        masks = segmenter.make_masks(sample.image, 0)
        coarse = segmenter.coarse_map(sample.image, masks, data.labels, text_embeddings=texts)
        votes = Votes(masks, coarse, segmenter.fusion)
        for rule, labels_of in RULES.items():
            found = labels_of(votes)
            counts[rule].append(class_counts(sample.truth, found, len(data.labels) + 1))
            borders[rule].append(boundary_f(sample.truth, found, WITHIN))
        print(f"\r{root}: {number}", end="", file=sys.stderr, flush=True)
    weights = np.concatenate([np.ones((1, number)), resamples(number, DRAWS)])
    return {
        rule: np.stack(
            [mean_iou(np.tensordot(weights, np.stack(counts[rule]), 1)), weights @ borders[rule] / number], axis=1
        )
        for rule in RULES
    }


def mean(of_roots: list[Figures], rule: str) -> NDArray[np.float64]:
    """The mean figures of data sets, and of samples that are drawn of each by itself."""
    draws = np.random.default_rng(0)
    # Two data sets of one size have the same samples: shuffled, they have nothing to do with each other.
    orders = [np.concatenate([[0], 1 + draws.permutation(DRAWS)]) for _ in of_roots]
    return np.mean([figures[rule][order] for figures, order in zip(of_roots, orders, strict=True)], axis=0)


def table(figures: Figures) -> str:
    """Markdown."""
    lines = ["| rule | mIoU | boundary F, 2 px |", "|---|---|---|"]
    for rule, values in figures.items():
        cells = [_cell(values[:, column], figures[BASE][:, column]) for column in (0, 1)]
        lines.append(f"| {rule} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(values: NDArray[np.float64], base: NDArray[np.float64]) -> str:
    differences = 100 * (values - base)
    bounds = interval(differences[1:])
    if bounds is None or not differences.any():
        return f"{100 * values[0]:.1f}"
    return f"{100 * values[0]:.1f} ({differences[0]:+.1f}: {bounds[0]:+.1f} to {bounds[1]:+.1f})"


if __name__ == "__main__":
    main()
