"""Corrections by hand: a partition → parts that may be given other labels → the partition that a person wants.

Nothing is changed: every correction makes a new `History`, which is small, as it holds one number for each part.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from fusion.formats.partition import Partition
from fusion.step.components import border_lengths
from fusion.step.segmentation import Segmentation
from fusion.step.votes import Votes
from ground.label_maps import connected_components, contingency
from ovseg.labels import Label, as_labels


@dataclass(frozen=True, eq=False)
class Parts:
    """The P connected parts of an image that can be corrected: pieces of masks, with the crumbs that they absorbed."""

    part_map: NDArray[np.int32]  # (H, W) 0 … P-1, in reading order
    masks: tuple[int, ...]  # of each part, its mask_id
    labels: tuple[int, ...]  # likewise the id of its label in the partition, 0 = other
    neighbours: tuple[frozenset[int], ...]  # likewise the parts with which it shares a side of a pixel


@dataclass(frozen=True, eq=False)
class History:
    """All states of the corrections of an image. A state is the label id of each part: 0 = other, i = labels[i - 1]."""

    parts: Parts
    labels: tuple[Label, ...]  # those of the partition, then those that a person added, which stay
    states: tuple[tuple[int, ...], ...]  # the models' own first
    undone: tuple[tuple[int, ...], ...] = ()  # what was undone last is the last one

    @property
    def now(self) -> tuple[int, ...]:
        """The state that is shown."""
        return self.states[-1]

    def relabel(self, parts: Iterable[int], label: str | None) -> History:
        """`parts` get the label of that name, a new one if there is none yet; None: other. ValueError on bad ones."""
        chosen, labels, number = self._known(parts), self.labels, 0
        if label is not None:
            labels = with_label(labels, label)
            name = as_labels([label])[0].name.casefold()
            number = 1 + [known.name.casefold() for known in labels].index(name)
        return replace(self, labels=labels)._with(chosen, number)

    def merge(self, parts: Iterable[int], neighbour: int) -> History:
        """`parts` get the label of `neighbour`, a part beside one of them, so that they become one region with it."""
        chosen, (other,) = self._known(parts), self._known([neighbour])
        if other in chosen or not any(other in self.parts.neighbours[part] for part in chosen):
            raise ValueError(f"part {other} is no neighbour of part {min(chosen)}: only what touches can be merged")
        return self._with(chosen, self.now[other])

    def undo(self) -> History:
        """The state before; the same history if there is none."""
        if len(self.states) == 1:
            return self
        return replace(self, states=self.states[:-1], undone=(*self.undone, self.now))

    def redo(self) -> History:
        """What was undone last, again; the same history if nothing was."""
        if not self.undone:
            return self
        return replace(self, states=(*self.states, self.undone[-1]), undone=self.undone[:-1])

    def _with(self, chosen: frozenset[int], number: int) -> History:
        state = tuple(number if part in chosen else id for part, id in enumerate(self.now))
        return self if state == self.now else replace(self, states=(*self.states, state), undone=())

    def _known(self, parts: Iterable[int]) -> frozenset[int]:
        chosen, count = frozenset(parts), len(self.parts.masks)
        if not chosen:
            raise ValueError("no part is chosen")
        if bad := [part for part in chosen if type(part) is not int or not 0 <= part < count]:
            raise ValueError(f"part is {bad[0]!r}, expected a whole number from 0 to {count - 1}")
        return chosen


def begin(partition: Partition, min_area: int = 0) -> History:
    """The history of an image that nobody has corrected yet."""
    parts = parts_of(partition, min_area)
    return History(parts, partition.labels, (parts.labels,))


def with_label(labels: tuple[Label, ...], text: str) -> tuple[Label, ...]:
    """`labels`, and the one of `text` at their end unless one of them has its name. ValueError on no name."""
    (label,) = as_labels([text])
    known = {one.name.casefold() for one in labels}
    return labels if label.name.casefold() in known else as_labels([*labels, label])


def parts_of(partition: Partition, min_area: int = 0) -> Parts:
    """The parts of a partition: connected pieces of one mask and one label.

    Pieces that are smaller than `min_area`, and what a label absorbed from masks of another one, belong to the part of
    the same label beside them, so that no specks stay behind when it is corrected.
    """
    pairs = partition.mask_map * (len(partition.labels) + 1) + partition.label_map
    pieces, pair_of = connected_components(pairs)
    masks, labels = np.divmod(pair_of, len(partition.labels) + 1)
    ids = {label: number for number, label in enumerate(partition.labels, start=1)} | {None: 0}
    meant = {(segment.mask_id, ids[segment.label]) for segment in partition.segments}
    is_own = [(mask, label) in meant for mask, label in zip(masks.tolist(), labels.tolist(), strict=True)]
    owners = _owners(border_lengths(pieces), labels.tolist(), np.bincount(pieces.ravel()).tolist(), is_own, min_area)
    heads, numbers = np.unique(owners, return_inverse=True)
    part_map = numbers.astype(np.int32)[pieces]
    around = border_lengths(part_map)
    return Parts(
        part_map,
        tuple(masks[heads].tolist()),
        tuple(labels[heads].tolist()),
        tuple(frozenset(beside) for beside in around),
    )


def _owners(
    borders: list[dict[int, int]], labels: list[int], areas: list[int], is_own: list[bool], min_area: int
) -> list[int]:
    """Of each piece the piece whose part it belongs to: the nearest large one of its label, or a leftover's largest."""
    owners = [-1] * len(areas)

    def spread(seeds: Collection[int]) -> None:
        queue = list(seeds)
        for piece in queue:
            owners[piece] = piece
        for piece in queue:  # grows while it is read
            for other in sorted(borders[piece]):
                if owners[other] < 0 and labels[other] == labels[piece]:
                    owners[other] = owners[piece]
                    queue.append(other)

    spread([piece for piece, area in enumerate(areas) if is_own[piece] and area >= min_area])
    for piece in sorted(range(len(areas)), key=lambda piece: (not is_own[piece], -areas[piece], piece)):
        if owners[piece] < 0:
            spread([piece])
    return owners


def corrected(partition: Partition, history: History, votes: Votes, min_area: int = 0) -> Segmentation:
    """The partition as it is now: its evidence is what the models say for the labels that the person gave.

    `edited_map` tells where labels were given by hand; `min_area` is that of the fusion.
    """
    parts, labels = history.parts, history.labels
    ids, before = np.array(history.now, np.int32), np.array(parts.labels, np.int32)
    label_map, edited_map = ids[parts.part_map], (ids != before)[parts.part_map]
    edited_map &= label_map > 0
    table = np.array(
        [[0.0, *(votes.score(mask, label) for label in labels)] for mask in range(len(votes.counts))], np.float32
    )
    # What was not edited keeps its scores, pixel by pixel.
    score_map = np.where(edited_map, table[partition.mask_map, label_map], partition.score_map)
    score_map[label_map == 0] = 0
    known = {(segment.mask_id, segment.label) for segment in partition.segments}
    given = _given(partition, history, label_map, edited_map, min_area)
    added = [votes.segment(mask, labels[number - 1]) for mask, number in sorted(given)]
    added = [segment for segment in added if (segment.mask_id, segment.label) not in known]
    return Segmentation(
        label_map=label_map,
        labels=labels,
        segments=tuple(sorted((*partition.segments, *added), key=lambda segment: segment.mask_id)),
        score_map=score_map,
        mask_map=partition.mask_map,
        absent=partition.absent,
        edited_map=edited_map if edited_map.any() else None,
    )


def _given(
    partition: Partition,
    history: History,
    label_map: NDArray[np.int32],
    edited_map: NDArray[np.bool_],
    min_area: int,
) -> set[tuple[int, int]]:
    """(mask_id, label id) of all that was given by hand: the masks of parts, and what more than crumbs of others is."""
    shape = (int(partition.mask_map.max()) + 1, len(history.labels) + 1)
    by_hand = contingency(partition.mask_map[edited_map], label_map[edited_map], shape)
    in_all = contingency(partition.mask_map, label_map, shape)
    found = {(int(mask), int(label)) for mask, label in np.argwhere((by_hand > 0) & (in_all >= max(min_area, 1)))}
    changed = zip(history.parts.masks, history.now, history.parts.labels, strict=True)
    return found | {(mask, id) for mask, id, before in changed if id not in (before, 0)}
