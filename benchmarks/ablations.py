"""The studies of EmerDiff's paper (arXiv 2401.11739) in small: curves over its settings, on the embedded models.

    python -m benchmarks.ablations --output docs/results                       # drawn scenes, preset `toy`
    python -m benchmarks.ablations --output docs/results --study strength,clusters
    python -m benchmarks.ablations --output docs/results --name ablations-photographs --preset mini \\
        --dataset pictures --root DIR/labels/SOURCE:0::20 --study strength
    python -m benchmarks.ablations --output docs/results --name ablations-clusters --root 1000200:1000220 \\
        --set modulation=false --study timestep-feature,feature-layer      # what concerns clusters, on more scenes
    python -m benchmarks.ablations --output docs/results --name ablations-one-step \\
        --set one_step=true --set differences=latents --study strength     # cheaper by far, and not the paper's

The studies in docs/results/ were made with the UNet that is now that of `mini-research`; studies of its layers at the
finest grid need it, too (`--set model=builtin:research`).

A study varies one setting of the paper's pipeline (benchmarks/studies/table.py). Each value is measured on each image
and appended to NAME.csv at once; what stands there is not measured again, unless settings or weights have changed.
NAME.md and a plot for each study are written from all lines that hold, so that a command without anything left to
measure writes them anew. NAME.yaml, written by hand, has a sentence for each study, and one for all under `summary`.

Bound is the mIoU of masks that take their majority region, and F that of their borders at 2 px, of each image.
`naive` are the same clusters, upsampled.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import yaml

from benchmarks.studies.measure import image_hash, scores, setting_hash
from benchmarks.studies.records import Record, append_record, read_records
from benchmarks.studies.report import write_report
from benchmarks.studies.table import BASE, STUDIES, Study
from emerdiff import EmerDiff, EmerDiffConfig
from fusion.evaluation.datasets import Sample, open_dataset
from ground.presets import read_section


def main() -> None:
    arguments = _arguments()
    studies = _chosen(arguments.study)
    base = EmerDiffConfig.from_mapping({**read_section(arguments.preset, "emerdiff"), **BASE, **_settings(arguments)})
    path = arguments.output / f"{arguments.name}.csv"
    arguments.output.mkdir(parents=True, exist_ok=True)
    if not arguments.report:
        model = EmerDiff.from_config(base, device=arguments.device, dtype=arguments.dtype)
        samples = list(open_dataset(arguments.dataset, arguments.root, arguments.limit).samples())
        for record in measure(model, studies, samples, path, _commit()):
            print(f"{record.study} {record.value}: bound {record.bound:.3f}", file=sys.stderr, flush=True)
    print(write_report(arguments.output, arguments.name, STUDIES, base, read_records(path), _command(arguments)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder for NAME.csv, NAME.md and the plots")
    parser.add_argument("--name", default="ablations")
    parser.add_argument("--study", help="some of them, with commas; without it all")
    parser.add_argument("--preset", default="toy")
    parser.add_argument("--dataset", default="toy")
    parser.add_argument("--root", default="1000200:1000208")
    parser.add_argument("--limit", type=int, help="images")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the base")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--report", action="store_true", help="measure nothing, write NAME.md and the plots")
    return parser.parse_args()


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    return {name: yaml.safe_load(value) for name, value in (each.split("=", 1) for each in arguments.set)}


def _chosen(names: str | None) -> list[Study]:
    """Studies of these names, in their order."""
    known = {study.name: study for study in STUDIES}
    chosen = names.split(",") if names else list(known)
    if unknown := [name for name in chosen if name not in known]:
        raise SystemExit(f"study is {unknown[0]!r}, expected one of {', '.join(known)}")
    return [known[name] for name in chosen]


def measure(
    model: EmerDiff, studies: Sequence[Study], samples: Sequence[Sample], path: Path, commit: str
) -> Iterator[Record]:
    """Yields what it appends to `path`: every value of the studies on every sample that has no line there yet."""
    records = read_records(path)
    places = {record.place for record in records}
    known = {(record.image, record.setting): record for record in records}
    for study in studies:
        for sample in samples:
            image, kept = image_hash(sample), {}
            for value in study.values:
                setting = setting_hash(model.config, value)
                if (study.name, value.name, image, setting) in places:
                    continue
                # Studies share the base: it is measured once.
                if (same := known.get((image, setting))) is None:
                    found = (commit, *astuple(scores(model, sample, value, kept)))
                else:
                    found = astuple(same)[4:]
                record = Record(study.name, value.name, image, setting, *found)
                append_record(path, record)
                known[image, setting] = record
                yield record


def _command(arguments: argparse.Namespace) -> str:
    """As it may be said on any machine."""
    root = arguments.root if arguments.dataset == "toy" else f"DIR/labels/{arguments.root.split('/labels/')[-1]}"
    return (
        f"python -m benchmarks.ablations --output docs/results --name {arguments.name} "
        f"--preset {arguments.preset} --dataset {arguments.dataset} --root {root}"
        + "".join(f" --set {setting}" for setting in arguments.set)
    )


def _commit() -> str:
    run = subprocess.run(["git", "rev-parse", "--short=10", "HEAD"], capture_output=True, text=True, check=False)
    return run.stdout.strip() or "unknown"


if __name__ == "__main__":
    main()
