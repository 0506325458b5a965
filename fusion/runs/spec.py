"""What decides a run: preset, labels and choices in one object, its hash, and the way back from a folder's run.json."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fusion.formats.schema import RUN, LabelEntry, Ran, RunFile, RunImage
from fusion.models.load import needs_diffusion, weights_used
from fusion.models.presets import SECTIONS, Preset, config_hash, load_preset, make_preset, mask_hash, with_overrides
from fusion.runs.choices import Export
from fusion.runs.extras import exports_of
from fusion.step.choices import MaskSource, SegmentationStyle
from ground.checks import above, seed_of
from ground.choices import Dtype
from ground.depth import BITS
from ground.device import resolved
from ground.files import read_own
from ground.images import MAX_MEGAPIXELS
from ground.tiles import Tiling
from ground.versions import all_versions
from ovseg.labels import Label, as_labels

_MEGAPIXELS = above(0)


@dataclass(frozen=True, init=False)
class RunSpec:
    """All that decides the results of a run over any images. Without labels it is a run for class-agnostic masks."""

    preset: Preset
    labels: tuple[Label, ...]
    background: tuple[Label, ...]  # labels whose pixels become "other"
    masks: MaskSource  # where masks come from
    segmentation: SegmentationStyle  # how instances.json says where a region is
    seed: int  # of the noise
    device: str  # that the models run on: "auto", "cpu", "cuda", "cuda:1", "mps"
    dtype: Dtype  # of the models
    earlier_masks: str | None  # `mask_hash` of cached masks that serve, wherever they were made; None: its own
    bits: int | None  # that 16-bit samples of images hold, if their files do not say it, see `ground.depth`
    max_megapixels: float  # larger images are refused; no part of the hash
    exports: tuple[Export, ...]  # what is written beside COCO; no part of the hash
    tile: int | None  # px, the side of the tiles that larger images are cut into; None: they are not
    overlap: int | None  # px that tiles have in common; None without tiles

    def __init__(
        self,
        preset: Preset | str | Path = "sd15",
        labels: Sequence[str | Label] = (),
        background: Sequence[str | Label] = (),
        masks: str = "emerdiff",
        segmentation: str = "rle",
        seed: int = 0,
        device: str = "auto",
        dtype: str = "auto",
        bits: int | None = None,
        max_megapixels: float = MAX_MEGAPIXELS,
        earlier_masks: str | None = None,
        exports: Iterable[str] = (),
        tile: int | None = None,
        overlap: int | None = None,
    ) -> None:
        """`preset` is a name, a .yaml file or a loaded one; labels may be plain text. ValueError on a bad value."""
        source = MaskSource.of(masks, "masks")
        if source == MaskSource.NONE and not labels:
            raise ValueError("masks is 'none', which is CLIP alone, and there are no labels for it")
        if not _MEGAPIXELS.accepts(max_megapixels):
            raise ValueError(f"max_megapixels is {max_megapixels!r}, expected {_MEGAPIXELS.expected}")
        if bits is not None and (isinstance(bits, bool) or bits not in BITS):
            raise ValueError(f"bits is {bits!r}, expected a whole number from {BITS[0]} to {BITS[-1]}")
        if exports and not labels:
            raise ValueError(f"exports are {', '.join(exports)}, and there are no labels for them")
        tiling = _tiling(tile, overlap)
        named = as_labels(labels, background) if labels else ()
        values: dict[str, Any] = {
            "preset": preset if isinstance(preset, Preset) else load_preset(preset),
            "labels": named[: len(labels)],
            "background": named[len(labels) :],
            "masks": source,
            "segmentation": SegmentationStyle.of(segmentation, "segmentation"),
            "seed": seed_of(seed),
            "device": device,
            "dtype": Dtype.of(dtype, "dtype"),
            "bits": None if bits is None else int(bits),
            "max_megapixels": _MEGAPIXELS.stored(max_megapixels),
            "earlier_masks": earlier_masks,
            "exports": exports_of(exports),
            "tile": None if tiling is None else tiling.side,
            "overlap": None if tiling is None else tiling.overlap,
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @cached_property
    def hash(self) -> str:
        """SHA-256 (hex) of all that decides the results for a given image; known before any model is loaded.

        The kind of device and the precision are part of it, as they are here: ValueError if torch cannot use them.
        """
        if not self.labels:
            return self.mask_hash
        return config_hash(
            self.preset,
            mask_hash=self.mask_hash,
            segmentation=self.segmentation,
            **self.ran,
            **self._reading,
            **self._tiles,
            labels=[asdict(label) for label in self.labels],
            background=[asdict(label) for label in self.background],
        )

    @cached_property
    def mask_hash(self) -> str:
        """SHA-256 (hex) of all that decides the masks of a given image, so that they serve other labels as well."""
        if self.earlier_masks is not None:
            return self.earlier_masks
        return mask_hash(self.preset.emerdiff, self.masks, seed=self.seed, **self.ran, **self._reading, **self._tiles)

    @cached_property
    def ran(self) -> dict[str, str]:
        """Where the models run, and in which precision, by name; errors as for `hash`."""
        return resolved(self.device, self.dtype)

    @property
    def _reading(self) -> dict[str, int]:
        """What decides how images are read, if it is not their files alone."""
        return {} if self.bits is None else {"bits": self.bits}

    @property
    def tiling(self) -> Tiling | None:
        """How larger images are cut."""
        return _tiling(self.tile, self.overlap)

    @property
    def _tiles(self) -> dict[str, int]:
        tiling = self.tiling
        return {} if tiling is None else {"tile": tiling.side, "overlap": tiling.overlap}

    def run_file(self, images: Sequence[RunImage], largest: float) -> RunFile:
        """What run.json says of it, of the software and weights that it runs with, and of its images.

        `largest` is the size of the largest image that is done, in million pixels: it may be of an earlier run with a
        higher limit, and shall be read again.
        """
        return RunFile(
            config_hash=self.hash,
            preset=self.preset.name,
            masks=str(self.masks),
            segmentation=str(self.segmentation),
            seed=self.seed,
            dtype=str(self.dtype),
            ran=Ran(**self.ran),
            mask_hash=self.mask_hash,
            bits=self.bits,
            **self._tiles,
            max_megapixels=max(self.max_megapixels, float(math.ceil(largest))),
            labels=[_label_entry(label) for label in self.labels],
            background=[_label_entry(label) for label in self.background],
            exports=[str(export) for export in self.exports],
            config={section: asdict(getattr(self.preset, section)) for section in SECTIONS},
            weights=weights_used(
                self.preset,
                diffusion=needs_diffusion(self.masks, self.preset, labels=bool(self.labels)),
                clip=bool(self.labels),
            ),
            versions=all_versions(),
            images=list(images),
        )

    @classmethod
    def read(cls, output: Path) -> RunSpec:
        """The spec of the run in the folder `output`, on the device at hand, with the masks that are cached there.

        ValueError, in one line, if its run.json is none.
        """
        run = read_run(output)
        try:
            return cls(
                preset=make_preset(run.preset, "", run.config),
                labels=labels_of(run),
                background=[_label(entry) for entry in run.background],
                masks=run.masks,
                segmentation=run.segmentation,
                seed=run.seed,
                dtype=run.dtype,
                bits=run.bits,
                max_megapixels=run.max_megapixels,
                earlier_masks=run.mask_hash,
                exports=run.exports,
                tile=run.tile,
                overlap=run.overlap,
            )
        except (ValueError, KeyError) as error:
            raise _unreadable(output, error) from None

    def with_overrides(self, overrides: Sequence[str]) -> RunSpec:
        """The spec with `overrides` of its preset, such as "ovseg.dense=clip"."""
        return replace(self, preset=with_overrides(self.preset, overrides))


def _tiling(tile: int | None, overlap: int | None) -> Tiling | None:
    """An overlap that is not given is an eighth of the tile."""
    if tile is None and overlap is not None:
        raise ValueError(f"overlap is {overlap}, and there is no tile that it would be of: expected tile as well")
    if tile is None:
        return None
    whole = Tiling(tile)
    return whole if overlap == 0 else Tiling(whole.side, whole.side // 8 if overlap is None else overlap)


def read_run(output: Path) -> RunFile:
    """A folder's run.json. ValueError, in one line, if there is none, or if it is not what a run writes."""
    try:
        return RunFile.from_bytes(read_own(output / RUN))
    except FileNotFoundError:
        raise ValueError(f"no {RUN} in {output}: expected the output folder of `emerseg segment`") from None
    except (OSError, ValueError) as error:
        raise _unreadable(output, error) from None


def labels_of(run: RunFile) -> list[Label]:
    """The labels that run.json names."""
    return [_label(entry) for entry in run.labels]


def _unreadable(output: Path, error: Exception) -> ValueError:
    return ValueError(f"{output / RUN} is not what `emerseg segment` writes, or damaged: {error}")


def _label_entry(label: Label) -> LabelEntry:
    color = None if label.color is None else list(label.color)
    return LabelEntry(name=label.name, synonyms=list(label.synonyms), stuff=label.stuff, color=color)


def _label(entry: LabelEntry) -> Label:
    color = None if entry.color is None else (entry.color[0], entry.color[1], entry.color[2])
    return Label(entry.name, tuple(entry.synonyms), entry.stuff, color)
