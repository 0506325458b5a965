"""The demo: scenes of the toy world → the output folder of any run, scores against their truth, contact sheets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from emerdiff import Masks
from fusion.evaluation.datasets import Sample, open_dataset
from fusion.evaluation.datasets.toy import toy_labels
from fusion.evaluation.evaluate import evaluate
from fusion.evaluation.plan import Way, make_plan
from fusion.evaluation.rows import Row, rows_of
from fusion.formats.palette import label_colors
from fusion.formats.render import draw_overlay
from fusion.models.sources import coarse_masks, mask_maker
from fusion.runs.outputs import output_file, write_png
from fusion.step.choices import MaskSource
from fusion.step.pipeline import fuse
from ground.images import read_image
from ovseg.labels import Label

if TYPE_CHECKING:
    from fusion.models.segmenter import Segmenter

PRESET = "toy"
SEEDS = "1000000:1000006"  # validation scenes: no model was trained on them
SOURCES = ("none", "naive", "emerdiff")  # what is compared
_SCALE = 2  # of the images on a contact sheet
_CAPTION = 36  # px, height of the line above the images of a contact sheet
_GAP = 8  # px between them


def save_scenes(folder: Path) -> list[Path]:
    """Write the scenes as PNG files into `folder`; their paths, in order."""
    paths = []
    for index, sample in enumerate(_samples(), start=1):
        paths.append(folder / f"scene-{index}.png")
        write_png(paths[-1], sample.image)
    return paths


def score_demo(segmenter: Segmenter, output: Path, scenes: Sequence[Path], seed: int = 0) -> list[Row]:
    """Rows of both protocols for SOURCES on the scenes that were segmented into `output`, whose masks are read back."""
    files = {read_image(path).tobytes(): output_file(output, "masks", path.stem) for path in scenes}
    makers = {
        Way("naive"): mask_maker("naive", segmenter.preset.emerdiff, segmenter.emerdiff),
        Way("emerdiff"): lambda image, _seed: Masks.load(files[image.tobytes()]),
    }
    clips = {segmenter.ovseg.config.dense: segmenter.ovseg}
    data, ways = open_dataset("toy", SEEDS), [Way(source) for source in SOURCES]
    plan = make_plan(data, ways, makers, clips, segmenter.preset.fusion, seed=seed, model=segmenter.emerdiff)
    return rows_of(plan, list(evaluate(plan)))


def write_sheets(segmenter: Segmenter, output: Path, scenes: Sequence[Path]) -> list[Path]:
    """Contact sheets in `output`/sheets, one per scene: image, truth, CLIP alone, EmerDiff + CLIP; their paths."""
    labels = toy_labels()
    paths = []
    for scene, sample in zip(scenes, _samples(), strict=True):
        masks = Masks.load(output_file(output, "masks", scene.stem))
        coarse = segmenter.coarse_map(sample.image, masks, labels)
        alone = fuse(coarse_masks(coarse), coarse, segmenter.preset.fusion.for_masks(MaskSource.NONE))
        with Image.open(output_file(output, "semantic", scene.stem)) as semantic:
            fused = np.array(semantic, np.int32)
        columns = [
            ("image", np.zeros_like(sample.truth)),
            ("truth", sample.truth),
            ("CLIP alone", alone.label_map),
            ("EmerDiff + CLIP", fused),
        ]
        paths.append(output / "sheets" / f"{scene.stem}.png")
        write_png(paths[-1], contact_sheet(sample.image, columns, labels))
    return paths


def contact_sheet(
    image: NDArray[np.uint8], columns: Sequence[tuple[str, NDArray[np.int32]]], labels: Sequence[Label]
) -> NDArray[np.uint8]:
    """One image (H, W, 3) under several label maps (H, W), side by side, each with its caption above it."""
    height, width = image.shape[0] * _SCALE, image.shape[1] * _SCALE
    large = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))
    sheet = Image.new("RGB", (len(columns) * (width + _GAP) + _GAP, _CAPTION + height + _GAP), "white")
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(round(_CAPTION * 0.6))
    names, colors = [label.name for label in labels], label_colors(labels)
    for index, (caption, label_map) in enumerate(columns):
        left = _GAP + index * (width + _GAP)
        map_large = label_map.repeat(_SCALE, axis=0).repeat(_SCALE, axis=1)
        draw.text((left, _CAPTION / 2), caption, font=font, fill="black", anchor="lm")
        sheet.paste(Image.fromarray(draw_overlay(large, map_large, names, colors)), (left, _CAPTION))
    return np.array(sheet)


def _samples() -> Iterator[Sample]:
    return open_dataset("toy", SEEDS).samples()
