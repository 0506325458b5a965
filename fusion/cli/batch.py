"""`emerseg batch`: shards of images in, a table for each out; here, as a part of an array of jobs, or on Ray."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated

import typer

from fusion.cli import options
from fusion.cli.threads import use_threads
from fusion.fleet.choices import Png
from fusion.step.choices import MaskSource
from ground.choices import Dtype

if TYPE_CHECKING:
    from fusion.fleet.run import Fleet


def _part_of(text: str | tuple[int, int]) -> tuple[int, int]:
    """ "3/100" → (3, 100)."""
    match = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if match is None or int(match[1]) >= int(match[2]):
        raise typer.BadParameter(f"{str(text)!r} given, expected i/n with i from 0 to n - 1, such as 0/8")
    return int(match[1]), int(match[2])


def batch(
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Images, folders, globs, lists; tars such as s3://bucket/{00000..00999}.tar; parquet files with a "
            "column path, url or bytes. Paths, or URLs of fsspec.",
            metavar="INPUT...",
            show_default=False,
        ),
    ],
    labels: options.Labels,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|URL", help="Where the shards go, such as s3://bucket/out.")
    ],
    preset: options.PresetName = "sd15",
    background: options.Background = None,
    masks: options.Masks = MaskSource.EMERDIFF,
    clusters: options.Clusters = None,
    speed: options.HowFast = None,
    clip: options.Clip = None,
    fuse: options.Fuse = None,
    min_score: options.MinScore = None,
    min_margin: options.MinMargin = None,
    min_area: options.MinArea = None,
    png: Annotated[
        str | None,
        typer.Option(
            "--png",
            callback=options.several_of(Png),
            help="PNGs for a tar beside each table, comma-separated: semantic, overlays.",
        ),
    ] = None,
    shard_size: Annotated[
        int, typer.Option("--shard-size", min=1, help="Images, or rows of a parquet file, in a shard; a tar is one.")
    ] = 1000,
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard",
            metavar="I/N",
            callback=lambda value: value if value is None else "/".join(map(str, _part_of(value))),
            help="Only every N-th shard from the I-th on, I from 0: one of N jobs.",
        ),
    ] = None,
    concurrency: Annotated[
        int | None,
        typer.Option("--concurrency", min=1, help="Workers on a Ray cluster. Default: this process alone, no Ray."),
    ] = None,
    num_gpus: Annotated[
        float | None,
        typer.Option("--num-gpus", min=0, help="GPUs of each worker, such as 0.5. Default: 1 where there are any."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option("--batch-size", min=1, help="Images that a worker fetches and decodes at once, ahead.")
    ] = 4,
    max_megapixels: options.MaxMegapixels = None,
    bits: options.Bits = None,
    device: options.Device = "auto",
    dtype: options.Dtype = Dtype.AUTO,
    batch: options.Batch = None,
    threads: options.Threads = None,
    seed: options.Seed = 0,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Do finished shards again.")] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Do those finished shards again that have images that failed.")
    ] = False,
    overrides: options.Overrides = None,
    quiet: options.Quiet = False,
    verbose: options.Verbose = False,
) -> None:
    """Segment shards of many images: on this machine, in an array of jobs (--shard), or on Ray (--concurrency).

    Finished shards are skipped when the command is run again; `emerseg merge` makes one COCO file of the output.
    """
    from fusion.cli.console import set_up_output

    set_up_output(verbose=verbose, quiet=quiet)
    if num_gpus is not None and concurrency is None:
        raise typer.BadParameter("--num-gpus is for workers on Ray: give --concurrency, too")
    if concurrency is None:
        use_threads(threads)
    from fusion.cli.labels import labelled_run
    from fusion.fleet.cluster import Cluster
    from fusion.fleet.run import open_fleet

    overridden = options.overrides_of(
        overrides,
        clusters=clusters,
        speed=speed,
        batch=batch,
        clip=clip,
        fuse=fuse,
        min_score=min_score,
        min_margin=min_margin,
        min_area=min_area,
    )
    spec = labelled_run(
        preset,
        overridden,
        labels,
        background,
        masks=masks,
        seed=seed,
        device=device,
        dtype=dtype,
        **options.given(max_megapixels=max_megapixels, bits=bits),
    )
    fleet = open_fleet(
        spec,
        inputs,
        options.place(output),
        png=options.split_list(png),
        shard_size=shard_size,
        part=_part_of(shard) if shard else (0, 1),
        cluster=None if concurrency is None else Cluster(concurrency, num_gpus, threads or 1),
        read_ahead=batch_size,
        overwrite=overwrite,
        retry_failed=retry_failed,
    )
    raise typer.Exit(_run_to_end(fleet, quiet=quiet))


def _run_to_end(fleet: Fleet, *, quiet: bool) -> int:
    """Take all outcomes of a fleet, print them on stderr, and return the exit code, as `console.run_to_end` does."""
    import sys
    from collections import Counter
    from contextlib import closing

    from fusion.cli.console import interruptible, printable

    total = len(fleet.finished) + len(fleet.wanted)
    shards: Counter[str] = Counter()
    images: Counter[str] = Counter()
    until = "finishing the image in hand" if fleet.cluster is None else "stopping with the next shard that is done"
    with interruptible(f"{until}; unfinished shards will be begun anew") as interrupted:
        try:
            with closing(fleet.start(interrupted.is_set)) as outcomes:
                for number, one in enumerate(outcomes, start=1):
                    shards[one.status] += 1
                    images["all"] += one.images
                    images["failed"] += one.failed
                    if one.status == "failed":
                        print(printable(f"failed: shard {one.name}: {one.about}: {one.reason}"), file=sys.stderr)
                    elif not quiet and one.status == "done":
                        failed = f", {one.failed} failed (see {one.name}_stats.json)" if one.failed else ""
                        pace = f"{one.images / one.seconds:.1f} images/s" if one.seconds else ""
                        line = (
                            f"[{number}/{total}] {one.name}: {one.images} images{failed}, {one.seconds:.1f} s, {pace}"
                        )
                        print(printable(line), file=sys.stderr, flush=True)
                    if interrupted.is_set() and fleet.cluster is not None:
                        break
        except KeyboardInterrupt:
            interrupted.set()
    done = f"{shards['done']} shards done, {shards['skipped']} finished before, {shards['failed']} failed"
    if interrupted.is_set() and shards.total() < total:
        print(f"interrupted: {done} of {total}; the same command does the rest", file=sys.stderr)
        return 130
    if not quiet:
        print(f"{done}; {images['all']} images, {images['failed']} failed", file=sys.stderr)
    return 1 if shards["failed"] or images["failed"] else 0
