"""How the image tower is taught: views of some images a step → losses; views of images kept aside → metrics."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.hardware import Hardware
from training.photo_clip import LIFT, LIFT_STEPS
from training.photos import KEPT_ASIDE
from training.tower_lessons import Mapped, Tagged, moved
from training.tower_losses import map_loss, tag_losses, taking_part, teacher_loss
from training.tower_model import STRIDE, Teacher, Tower, preprocessing
from training.tower_views import View, draw_views, seen, seen_regions
from training.tower_words import Words

# Images in one validation, and how many at once.
VALIDATION, VALIDATED = 256, 32


class Eyes:
    """How a tower looks at views: squares of `side` px, normalised as in its folder `start`."""

    def __init__(self, start: Path, side: int, hardware: Hardware) -> None:
        self.mean, self.std = (values.to(hardware.device) for values in preprocessing(start))
        self.side, self.hardware = side, hardware

    def pixels(self, images: Tensor, view: View) -> Tensor:
        """(B, 3, side, side): what the tower is given of the views of `images` (N, S, S, 3) uint8."""
        whole = (seen(images[view.index], view, self.side) - self.mean) / self.std
        return whole.contiguous(memory_format=torch.channels_last)

    def places(self, tower: Tower | Teacher, pixels: Tensor) -> Tensor:
        with self.hardware.autocast():
            return tower(pixels)


@dataclass(frozen=True, eq=False)
class TagLesson:
    """`batch` views of tagged images a step."""

    tagged: Tagged
    words: Words
    eyes: Eyes
    teacher: Teacher
    batch: int

    @cached_property
    def odds(self) -> NDArray[np.float64]:
        """(N,) how often each image is drawn."""
        return self.tagged.odds(self.words)

    def learn(self, tower: Tower, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """The losses of a step."""
        device = self.eyes.hardware.device
        index = rng.choice(len(self.tagged), self.batch, p=self.odds)
        draw = self.tagged.draw(self.words, index, rng)
        view = draw_views(draw, rng, device)
        pixels = self.eyes.pixels(self.tagged.pixels, view)
        places = self.eyes.places(tower, pixels)
        lift = LIFT / (1 + step / LIFT_STEPS)
        guess = tag_losses(tower.scale, places, moved(draw, device), view, self.words, lift)
        likely = self.eyes.places(self.teacher, pixels)
        taught = teacher_loss(tower.scale, places, likely, self.words.names, guess.untagged)
        return {"all_places": guess.all_places, "best_places": guess.best_places, "teacher": taught}

    def check(self, tower: Tower) -> dict[str, float]:
        """How often the label that most places choose, among all tags, is one of the image's own."""
        hits, rng, tags = [], np.random.default_rng(0), self.words.of_tags
        draw = self.tagged.draw(self.words, np.arange(0, len(self.tagged), KEPT_ASIDE)[:VALIDATION], rng)
        for view in draw_views(draw, rng, self.eyes.hardware.device, still=True).split(VALIDATED):
            places = self.eyes.places(tower, self.eyes.pixels(self.tagged.pixels, view))
            chosen = (places @ self.words.embeddings[tags].T).argmax(dim=-1)
            for i, votes in zip(view.index.tolist(), chosen, strict=True):
                own = self.words.sets[int(self.tagged.sets[i])]
                hits.append(tags[int(votes.bincount().argmax())] in (*own.specific, *own.broad))
        return {"tag_found": float(np.mean(hits))}


@dataclass(frozen=True, eq=False)
class MapLesson:
    """`batch` views of images with label maps a step."""

    mapped: Mapped
    words: Words
    eyes: Eyes
    teacher: Teacher
    batch: int

    def learn(self, tower: Tower, rng: np.random.Generator, step: int) -> dict[str, Tensor]:
        """The losses of a step."""
        device = self.eyes.hardware.device
        learners = np.flatnonzero(np.arange(len(self.mapped)) % KEPT_ASIDE)
        draw = moved(self.mapped.draw(rng.choice(learners, self.batch), rng), device)
        view = draw_views(draw, rng, device)
        pixels = self.eyes.pixels(self.mapped.pixels, view)
        places = self.eyes.places(tower, pixels)
        regions = seen_regions(self.mapped.regions[view.index], view, 2 * self.eyes.side // STRIDE)
        among = taking_part(draw.labels, self.mapped.closed[draw.closed], self.words.similar)
        # What the teacher sees in drawn scenes is not worth learning.
        untaught = (draw.closed > 0).float()[:, None].expand(places.shape[:2])
        taught = teacher_loss(tower.scale, places, self.eyes.places(self.teacher, pixels), self.words.names, untaught)
        maps = map_loss(tower.scale, places, regions, draw.labels, among, self.words.embeddings)
        return {"maps": maps, "maps_teacher": taught}

    def check(self, tower: Tower) -> dict[str, float]:
        """Share of places whose label, among those of all label maps, is that of their region."""
        device, right = self.eyes.hardware.device, []
        draw = moved(self.mapped.draw(np.arange(0, len(self.mapped), KEPT_ASIDE)[:VALIDATION], None), device)
        known = self.mapped.labels.unique()
        known = known[known >= 0]
        views = draw_views(draw, np.random.default_rng(0), device, still=True).split(VALIDATED)
        for view, labels in zip(views, draw.labels.split(VALIDATED), strict=True):
            places = self.eyes.places(tower, self.eyes.pixels(self.mapped.pixels, view))
            chosen = known[(places @ self.words.embeddings[known].T).argmax(dim=-1)]
            regions = seen_regions(self.mapped.regions[view.index], view, self.eyes.side // STRIDE)
            target = labels.gather(1, regions.flatten(1))
            right.append((chosen == target)[target >= 0].float().mean().item())
        return {"places_right": float(np.mean(right))}
