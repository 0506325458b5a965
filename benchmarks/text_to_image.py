"""Does the embedded diffusion model draw what a caption says? Judged by the embedded CLIP; and a sheet of some.

    python -m benchmarks.text_to_image [--captions 200] [--sheet FILE.jpg] [--weights emerdiff/weights/mini]

Each caption is that of a validation scene. The judge ranks it among ten that differ in one word, by how well each thing
that a caption names fits the places that it fits best (as in patch-aligned contrastive learning). The scene that the
caption was made from shows how far that judge can be trusted.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageDraw, ImageFont
from scipy.special import softmax

from ovseg import OpenVocabSegmenter
from toyworld import scene
from toyworld.wording import draw_one_word_apart, phrases

FIRST_SEED = 1_000_000
WRONG = 9
SHOWN, COLUMNS = 8, 4  # generated images on the sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, default=Path("emerdiff/weights/mini"))
    parser.add_argument("--preset", default="toy", help="whose CLIP judges")
    parser.add_argument("--captions", type=int, default=200)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--sheet", type=Path, help="also write the first images with their captions there")
    arguments = parser.parse_args()
    pipeline = StableDiffusionPipeline.from_pretrained(arguments.weights, torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    judge = OpenVocabSegmenter.from_preset(arguments.preset)

    first = {"generated": 0, "the scene itself": 0}
    count, shown = 0, []
    for seed in range(FIRST_SEED, FIRST_SEED + arguments.captions):
        drawn, rng = scene(seed), np.random.default_rng(seed)
        try:
            wrong = draw_one_word_apart(drawn.caption, WRONG, rng)
        except ValueError:  # such as "a sky"
            continue
        captions = [drawn.caption, *wrong]
        made = pipeline(
            drawn.caption,
            height=256,
            width=256,
            num_inference_steps=arguments.steps,
            guidance_scale=arguments.guidance,
            generator=torch.Generator().manual_seed(seed),
            output_type="np",
        ).images[0]
        generated = (made * 255).round().astype(np.uint8)
        for name, image in (("generated", generated), ("the scene itself", drawn.image)):
            first[name] += int(fits(judge, image, captions).argmax() == 0)
        count += 1
        shown.append((drawn.caption, generated))
    for name, hits in first.items():
        print(f"{name:17} {hits / count:.2f} of {count} captions ranked first among {WRONG + 1}")
    if arguments.sheet:
        sheet(shown[:SHOWN]).save(arguments.sheet, quality=85)


def fits(judge: OpenVocabSegmenter, image: np.ndarray, captions: list[str]) -> np.ndarray:
    """(N,) how well N captions fit the image (H, W, 3) uint8: the mean over the things that each names of the mean over
    the image's places, by how well they fit."""
    named = [phrases(caption) for caption in captions]
    labels = sorted({phrase for some in named for phrase in some})
    texts = judge.backbone.encode_text(labels)
    places = judge.segment(image, labels).embeddings.reshape(texts.shape[1], -1)  # C x P
    logits = judge.backbone.logit_scale * texts @ places
    fit = dict(zip(labels, (softmax(logits, axis=1) * logits).sum(axis=1), strict=True))
    return np.array([np.mean([fit[phrase] for phrase in some]) for some in named])


def sheet(shown: list[tuple[str, np.ndarray]]) -> Image.Image:
    """Images in rows, each over its caption."""
    side, line = 256, 54
    page = Image.new("RGB", (COLUMNS * side, -(-len(shown) // COLUMNS) * (side + line)), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(13)
    for index, (caption, image) in enumerate(shown):
        row, column = divmod(index, COLUMNS)
        page.paste(Image.fromarray(image), (column * side, row * (side + line)))
        words, lines = caption.split(), [""]
        for word in words:
            if draw.textlength(f"{lines[-1]} {word}", font=font) > side - 10:
                lines.append("")
            lines[-1] = f"{lines[-1]} {word}".strip()
        corner = (column * side + 5, row * (side + line) + side + 3)
        draw.multiline_text(corner, "\n".join(lines[:3]), font=font, fill="black")
    return page


if __name__ == "__main__":
    main()
