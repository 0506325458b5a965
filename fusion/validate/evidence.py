"""The annotations of an image against what they were made of: its label map, and the masks that they name."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import find_objects

from emerdiff import Masks
from fusion.formats.schema import INSTANCES
from fusion.step.choices import FuseRule
from fusion.step.components import connected_parts
from fusion.step.config import FusionConfig
from fusion.validate.faults import Fault, Json
from fusion.validate.images import ImageFacts
from ground.label_maps import connected_components, shared_pixels
from ground.strips import gathered


def region_faults(image: ImageFacts, owners: NDArray[np.int32], categories: Sequence[Json]) -> Iterator[Fault]:
    """Whether each thing is one connected region, and no two annotations of one label touch.

    `owners` (H, W) is 0 where there is no annotation, and i where annotations[i - 1] is.
    """
    names = {category["id"]: category["name"] for category in categories if category["isthing"]}
    labels = np.array([0, *(annotation["category_id"] for annotation in image.annotations)], np.int32)
    components, _ = connected_components(gathered(labels, owners))
    pairs, _ = shared_pixels(owners, components)
    pieces = np.bincount(pairs[:, 0], minlength=len(labels))
    for annotation, count in zip(image.annotations, pieces[1:].tolist(), strict=True):
        if count > 1 and annotation["category_id"] in names:
            what = f"{count} pieces that do not touch, expected one, as {names[annotation['category_id']]!r} is a thing"
            yield Fault(INSTANCES, f"annotation {annotation['id']}: has {what}")
    by_component = pairs[np.argsort(pairs[:, 1], kind="stable")]
    same = (by_component[1:, 1] == by_component[:-1, 1]) & (by_component[1:, 0] > 0)
    for place in np.flatnonzero(same).tolist():
        one, other = (image.annotations[by_component[place + step, 0] - 1]["id"] for step in (0, 1))
        yield Fault(INSTANCES, f"annotations {one} and {other}: touch and are of one label, expected one annotation")


def evidence_faults(
    image: ImageFacts, owners: NDArray[np.int32], masks: Masks, fusion: FusionConfig
) -> Iterator[Fault]:
    """Whether the masks that the annotations name are those that they were made of; `owners` as above."""
    voters = connected_parts(masks, fusion.min_area) if fusion.split else masks
    inside: dict[int, set[int]] = {}
    for owner, mask in shared_pixels(owners, voters.label_map)[0].tolist():
        inside.setdefault(owner, set()).add(mask)
    boxes = find_objects(owners)
    told: dict[tuple[int, int], tuple[int, Any]] = {}
    for index, annotation in enumerate(image.annotations, start=1):
        where, evidence = f"annotation {annotation['id']}", annotation["evidence"]
        named, present = set(evidence["mask_ids"]), inside.get(index, set())
        if strangers := sorted(named - present):
            yield Fault(INSTANCES, f"{where}: mask_ids name {strangers[0]}, which has no px in it")
        for mask in sorted(present - named):
            box = boxes[index - 1]
            crumb = _largest_piece((owners[box] == index) & (voters.label_map[box] == mask))
            # What is larger was not absorbed from another label, but is of this one.
            if crumb >= max(fusion.min_area, 1):
                yield Fault(INSTANCES, f"{where}: mask_ids lack {mask}, which has {crumb} connected px in it")
        if len(named) == 1:
            # Regions of one mask have its evidence, for the label that they have; `auto`, or a person, gives several.
            (mask,) = named
            values = [evidence[key] for key in ("share", "margin", "runner_up")]
            several = fusion.fuse == FuseRule.AUTO or evidence.get("edited", False)
            label = annotation["category_id"] if several else 0
            other, expected = told.setdefault((mask, label), (annotation["id"], values))
            if values != expected:
                what = f"share, margin and runner_up are {values}, expected {expected}"
                yield Fault(INSTANCES, f"{where}: {what} as annotation {other} has, which is of the same mask")


def _largest_piece(inside: NDArray[np.bool_]) -> int:
    """px of the largest connected piece of a mask (H, W)."""
    components, labels = connected_components(inside.astype(np.int32))
    return int((np.bincount(components.ravel()) * labels).max())
