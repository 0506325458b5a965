"""The service behind HTTP, and behind a page: models loaded once, a line of requests, and masks of images it has seen.

    service = Service("mini")
    answer = service.segment(image, service.spec("dog, grass".split(","))).result()
    answer = service.relabel(answer.token, service.spec(["lawn"])).result()     # no diffusion model

What it answers is what `emerseg segment` and `emerseg relabel` write. It knows nothing of HTTP.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from emerdiff import Masks
from fusion.models.load import load_clip, load_diffusion, needs_diffusion
from fusion.models.presets import Preset, digest, load_preset
from fusion.models.segmenter import Segmenter
from fusion.models.sources import coarse_masks
from fusion.runs.outputs import pixel_hash
from fusion.runs.spec import RunSpec
from fusion.serve.cache import MaskCache, Seen, lasting
from fusion.serve.limits import Limits
from fusion.serve.line import Line
from fusion.serve.settings import with_settings
from fusion.step.choices import MaskSource
from fusion.step.pipeline import fuse
from fusion.step.segmentation import Segmentation
from ground.choices import Dtype
from ground.images import as_rgb, decode_image, limit_pixels
from ovseg.coarse import CoarseMap
from ovseg.labels import Label, as_labels


class UnknownToken(KeyError):  # noqa: N818 (it says what is the case)
    """There are no cached masks under a token, or no more."""

    def __str__(self) -> str:
        return "no masks are kept under this mask_token (any more): send the image again"


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of an image."""

    image: NDArray[np.uint8]  # (H, W, 3), as it was read
    result: Segmentation
    token: str | None  # what `Service.relabel` takes; None: its masks were too large to be kept
    masks: Masks  # that it was made of, without what is too large to be kept
    coarse: CoarseMap  # what dense CLIP saw


class Service:
    """Safe to be used by several threads: one request at a time is worked on, in the order in which they came."""

    def __init__(
        self,
        preset: Preset | str | Path = "sd15",
        labels: Sequence[str | Label] = (),
        background: Sequence[str | Label] = (),
        *,
        masks: str = "emerdiff",
        device: str = "auto",
        dtype: str = "auto",
        limits: Limits | None = None,
    ) -> None:
        """Loads what `masks` need. They, `labels` and `background` are of requests that name none.

        Errors as for `Segmenter.from_preset`, and ValueError on bad labels.
        """
        self.preset = preset if isinstance(preset, Preset) else load_preset(preset)
        self.labels = as_labels(labels) if labels else ()
        # As they were given: what "auto" stands for depends on the labels of a request.
        self.background = (background,) if isinstance(background, str) else tuple(background)
        if labels or background:
            as_labels(self.labels or self.background, self.background if labels else ())
        self.masks = MaskSource.of(masks, "masks")
        self.device, self.dtype = device, Dtype.of(dtype, "dtype")
        self.limits = limits or Limits()
        self._emerdiff = load_diffusion(self.masks, self.preset, device=device, dtype=dtype)
        self._ovseg = load_clip(self.preset, device=device, dtype=dtype)
        self._cache = MaskCache(int(self.limits.cache_megabytes * 1e6))
        self.line = Line(self.limits.queue)
        self.began = time.monotonic()  # s

    @property
    def sources(self) -> tuple[str, ...]:
        """The values of `masks` that its models can make."""
        loaded = self._emerdiff is not None
        return tuple(source for source in MaskSource.values() if loaded or not needs_diffusion(source, self.preset))

    @property
    def cached(self) -> tuple[int, int]:
        """(images, bytes) that are kept for `relabel`."""
        return len(self._cache), self._cache.num_bytes

    def spec(
        self,
        labels: Sequence[str | Label] | None = None,
        background: Sequence[str | Label] | None = None,
        *,
        masks: str | None = None,
        seed: int = 0,
        **settings: Any,
    ) -> RunSpec:
        """What is asked for, checked: what is None or not given is as the service was begun with.

        `settings` as for `with_settings`. ValueError on what the command line would refuse, and
        on what is over the limits.
        """
        wanted: Sequence[str | Label] = self.labels if labels is None else labels
        if not wanted:
            raise ValueError('no labels: give at least one name, as in "cat, grass, sky"')
        self.limits.check_labels(wanted, background or ())
        other = self._background_besides(wanted) if background is None else background
        source = MaskSource.of(self.masks if masks is None else masks, "masks")
        if source not in self.sources:
            known = ", ".join(self.sources)
            raise ValueError(f"masks is {source!r}, expected one of {known}: no diffusion model is loaded")
        preset = with_settings(self.preset, settings, self.limits)
        return RunSpec(preset, wanted, other, source, seed=seed, device=self.device, dtype=self.dtype)

    def segment(self, image: bytes | NDArray[np.uint8], spec: RunSpec, name: str = "") -> Future[Answer]:
        """The segmentation of an image file's bytes, or of (H, W, 3) uint8, when its turn comes.

        `name` is what the request is called in the state of the line. Raises LineFull and LineClosed at once; the
        future raises ValueError on an image that cannot be read or is too large. The limit for files holds for the
        whole process (see `limit_pixels`).
        """
        return self.line.submit(partial(self._segment, image, spec), name)

    def relabel(self, token: str, spec: RunSpec, name: str = "") -> Future[Answer]:
        """The image of an earlier answer with the labels and the rule of fusion of `spec`, on the masks that it had.

        UnknownToken if they are not kept any more, at once or when its turn comes.
        """
        if token not in self._cache:
            raise UnknownToken(token)
        return self.line.submit(partial(self._relabel, token, spec), name)

    def refuse(self) -> None:
        """Take no more requests; see `Line.refuse`."""
        self.line.refuse()

    def close(self) -> None:
        """The same, and wait for the request in hand."""
        self.line.close()

    def _segment(self, image: bytes | NDArray[np.uint8], spec: RunSpec) -> Answer:
        limit_pixels(self.limits.max_megapixels)
        rgb = decode_image(image) if isinstance(image, bytes) else as_rgb(image)
        if rgb.shape[0] * rgb.shape[1] > self.limits.max_megapixels * 1e6:
            size = f"{rgb.shape[1]} x {rgb.shape[0]} px"
            raise ValueError(
                f"image: too large: it has {size}, expected {self.limits.max_megapixels:g} megapixels at most"
            )
        token = digest({"pixels": pixel_hash(rgb), "masks": spec.mask_hash})
        seen = self._cache.get(token)
        is_kept = seen is not None
        if seen is None:
            made = None if spec.masks == MaskSource.NONE else self._segmenter(spec).make_masks(rgb, spec.seed)
            seen = Seen(rgb, made, spec)
            is_kept = self._cache.put(token, seen)
        return self._answer(seen, spec, token if is_kept else None)

    def _relabel(self, token: str, spec: RunSpec) -> Answer:
        seen = self._cache.get(token)
        if seen is None:
            raise UnknownToken(token)
        # What decides masks is as it was.
        preset = replace(spec.preset, emerdiff=seen.spec.preset.emerdiff)
        spec = replace(spec, preset=preset, masks=seen.spec.masks, seed=seen.spec.seed)
        return self._answer(seen, spec, token)

    def _answer(self, seen: Seen, spec: RunSpec, token: str | None) -> Answer:
        segmenter = self._segmenter(spec)
        coarse = segmenter.coarse_map(seen.image, seen.masks, spec.labels, background=spec.background, seed=spec.seed)
        masks = seen.masks or coarse_masks(coarse)
        kept = lasting(seen).masks or masks
        return Answer(seen.image, fuse(masks, coarse, segmenter.fusion), token, kept, coarse)

    def _segmenter(self, spec: RunSpec) -> Segmenter:
        """The loaded models with the settings of a request."""
        emerdiff = None
        if self._emerdiff is not None:
            emerdiff = type(self._emerdiff)(self._emerdiff.backbone, spec.preset.emerdiff)
        return Segmenter(spec.preset, self._ovseg, emerdiff, spec.masks)

    def _background_besides(self, labels: Sequence[str | Label]) -> list[str | Label]:
        """The service's own background labels, but for those that are asked for."""
        asked_for = {label.name.casefold() for label in as_labels(labels)}
        return [given for given in self.background if as_labels([given])[0].name.casefold() not in asked_for]
