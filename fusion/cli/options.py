"""The options that several commands share: their names, types and help, and the check of choices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from emerdiff.speed import Speed
from fusion.runs.choices import Export
from fusion.step.choices import FuseRule, MaskSource, SegmentationStyle
from ground import choices
from ground.checks import MAX_SEED
from ground.choices import Choice
from ground.paths import user_path
from ovseg.choices import DenseVariant


def several_of(kind: type[Choice]) -> Callable[[str | None], str | None]:
    """A typer callback: the comma-separated values must be values of the Enum, each once."""

    def check(value: str | None) -> str | None:
        values = split_list(value)
        for part in values:
            if part not in kind.values():
                raise typer.BadParameter(f"{part!r} given, expected one of {', '.join(kind.values())}")
        if len(set(values)) < len(values):
            raise typer.BadParameter(f"{value!r} names something twice")
        return value

    return check


def split_list(value: str | None) -> list[str]:
    """ "a, b" → ["a", "b"]; None → []."""
    return [part.strip() for part in value.split(",")] if value is not None else []


def named(text: str | Path) -> Path:
    """A path; an empty text does not stand for the current folder."""
    if not str(text).strip():
        raise typer.BadParameter(f"it is {text!r}, expected a path")
    return user_path(text)


def place(text: str | Path) -> str:
    """A path, or the URL of a folder elsewhere."""
    return str(text) if "://" in str(text) else str(named(text))


def folder(text: str | Path) -> Path:
    """A folder, which need not be there."""
    path = named(text)
    if path.exists() and not path.is_dir():
        raise typer.BadParameter(f"{str(text)!r} is a file, expected a folder")
    return path


Inputs = Annotated[
    list[str],
    typer.Argument(
        help="Images, videos (see --every), folders, globs, lists of these (@FILE, or a .txt file), or - for a list "
        "from stdin.",
        metavar="INPUT...",
        show_default=False,
    ),
]
Output = Annotated[Path, typer.Option("--output", "-o", parser=folder, metavar="DIR", help="Folder for the results.")]
Labels = Annotated[
    str, typer.Option("--labels", "-l", help='Labels, as in "cat, grass, sky \\[stuff]", or a label file.')
]
Background = Annotated[
    str | None,
    typer.Option(
        "--background",
        help="Labels, or a label file, whose pixels become other. auto among them: usual surroundings, such as sky and "
        "wall, but for what is asked for.",
    ),
]
PresetName = Annotated[str, typer.Option("--preset", help="A preset's name (see `emerseg presets`) or YAML file.")]
Masks = Annotated[MaskSource, typer.Option("--masks", help="Where masks come from; none: CLIP alone.")]
HowFast = Annotated[
    Speed | None,
    typer.Option("--speed", help="How much of EmerDiff is computed. Default: the preset's."),
]
Clusters = Annotated[int | None, typer.Option("--clusters", min=1, help="Masks per image (K).")]
Clip = Annotated[
    DenseVariant | None,
    typer.Option("--clip", help="Variant of dense CLIP. All but maskclip need a ViT of open_clip."),
]
Fuse = Annotated[
    FuseRule | None, typer.Option("--fuse", help="How masks get labels; auto divides those whose vote is not clear.")
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
    SegmentationStyle | None,
    typer.Option(
        "--segmentation",
        help="How instances.json says where a segment is: rle, the default; polygon, along the sides of pixels, for "
        "pycocotools and canvases; polygon-centers, for OpenCV, supervision, YOLO.",
    ),
]
Exports = Annotated[
    str | None,
    typer.Option(
        "--export",
        callback=several_of(Export),
        help="Further formats, comma-separated: yolo (yolo/data.yaml), labelstudio, parquet, polygon, polygon-centers. "
        "Later runs in the folder keep them.",
    ),
]
MaxMegapixels = Annotated[
    float | None,
    typer.Option("--max-megapixels", min=0, help="Refuse images of more million pixels (bombs). Default: 180."),
]
Tile = Annotated[
    int | None,
    typer.Option(
        "--tile",
        help="Cut larger images into tiles of so many px, segment each as an image of its own, and join them.",
    ),
]
Overlap = Annotated[
    int | None,
    typer.Option("--overlap", help="px that tiles have in common, at least. Default: an eighth of --tile."),
]
Bits = Annotated[
    int | None,
    typer.Option(
        "--bits", min=9, max=16, help="Bits that samples of 16-bit images hold, such as 12, if the files do not say it."
    ),
]
Host = Annotated[str, typer.Option("--host", help="Where to listen. What others can reach needs a token.")]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps.")]
Dtype = Annotated[choices.Dtype, typer.Option("--dtype", help="Precision; auto: float16 on a GPU, else float32.")]
Batch = Annotated[
    int | None,
    typer.Option("--batch", min=1, help="Trajectories of the diffusion model at once. Default: by the GPU's memory."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, help="Threads that compute. Default: one for each processor.")
]
Seed = Annotated[
    int, typer.Option("--seed", min=0, max=MAX_SEED, help="Seed of the noise; the same seed gives the same result.")
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Only the first N images.")]
Every = Annotated[
    int | None,
    typer.Option(
        "--every", min=1, help="Of videos each N-th frame is an image, from the first on: NAME-000000, NAME-000010, ..."
    ),
]
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
        "speed": "emerdiff.speed",
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
