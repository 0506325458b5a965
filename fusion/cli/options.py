"""The options that several commands share: their names, types and help, and the check of choices."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer


def one_of(module: str, choices: str) -> Callable[[str | None], str | None]:
    """A typer callback: the value must be in the tuple `choices` of `module`, imported only when it is needed."""

    def check(value: str | None) -> str | None:
        known = getattr(import_module(module), choices)
        if value is not None and value not in known:
            raise typer.BadParameter(f"{value!r} given, expected one of {', '.join(known)}")
        return value

    return check


def several_of(module: str, choices: str) -> Callable[[str | None], str | None]:
    """A typer callback: the comma-separated values must be in the tuple `choices` of `module`, each once."""
    check_one = one_of(module, choices)

    def check(value: str | None) -> str | None:
        values = split_list(value)
        for part in values:
            check_one(part)
        if len(set(values)) < len(values):
            raise typer.BadParameter(f"{value!r} names something twice")
        return value

    return check


def split_list(value: str | None) -> list[str]:
    """ "a, b" → ["a", "b"]; None → []."""
    return [part.strip() for part in value.split(",")] if value is not None else []


Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Images, folders, globs, lists of these (@FILE, or a .txt file), or - for a list from stdin.",
        metavar="INPUT...",
        show_default=False,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", file_okay=False, help="Folder for the results.")]
PresetName = Annotated[str, typer.Option("--preset", help="A preset's name (see `emerseg presets`) or YAML file.")]
Masks = Annotated[
    str,
    typer.Option(
        "--masks",
        callback=one_of("fusion.step.config", "MASK_SOURCES"),
        help="Where masks come from: emerdiff, naive, slic, grid, none (CLIP alone).",
    ),
]
Clusters = Annotated[int | None, typer.Option("--clusters", min=1, help="Masks per image (K).")]
Clip = Annotated[
    str | None,
    typer.Option(
        "--clip",
        callback=one_of("ovseg.config", "DENSE_VARIANTS"),
        help="Variant of dense CLIP: maskclip, clip (ViT alone).",
    ),
]
Fuse = Annotated[
    str | None,
    typer.Option(
        "--fuse",
        callback=one_of("fusion.step.config", "FUSE_RULES"),
        help="How masks get labels: overlap, embedding.",
    ),
]
MinScore = Annotated[
    float | None, typer.Option("--min-score", min=0, max=1, help="Masks of a lower mean score become other.")
]
MinMargin = Annotated[
    float | None,
    typer.Option("--min-margin", min=0, max=1, help="Masks won by a smaller margin become other."),
]
MinArea = Annotated[
    int | None, typer.Option("--min-area", min=0, help="Smaller components (px) go to the label around them.")
]
Segmentation = Annotated[
    str | None,
    typer.Option(
        "--segmentation",
        callback=one_of("fusion.step.config", "SEGMENTATIONS"),
        help="How instances.json says where a segment is: rle (exact; the default), polygon (without holes).",
    ),
]
MaxMegapixels = Annotated[
    float | None,
    typer.Option("--max-megapixels", min=0, help="Refuse images of more million pixels (bombs). Default: 180."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Dtype = Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16.")]
Batch = Annotated[int | None, typer.Option("--batch", min=1, help="Trajectories of the diffusion model at once.")]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Seed of the noise; the same seed gives the same result.")]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Do finished images again.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="SECTION.KEY=VALUE", help="Any setting; may be given often."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print errors only.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print what the libraries say, too.")]


def given(**settings: object) -> dict[str, Any]:
    """Those options that were given, so that what was not keeps its default where that stands."""
    return {name: value for name, value in settings.items() if value is not None}


def overrides_of(given: list[str] | None, **settings: object) -> list[str]:
    """Options as overrides of a preset, `--set` last: clusters=20 → "emerdiff.clusters=20"; None is no override."""
    keys = {
        "clusters": "emerdiff.clusters",
        "batch": "emerdiff.batch_size",
        "clip": "ovseg.dense",
        "fuse": "fusion.fuse",
        "min_score": "fusion.min_score",
        "min_margin": "fusion.min_margin",
        "min_area": "fusion.min_area",
    }
    return [
        *(f"{keys[name]}={value}" for name, value in settings.items() if value is not None),
        *(given or []),
    ]
