"""A finished output folder gets further exports, made of its records: no model is loaded, no other file changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fusion.formats.record import Record
from fusion.formats.schema import RunImage
from fusion.runs.batch import Plan, finish_run, locked
from fusion.runs.choices import Export
from fusion.runs.extras import exports_of, files_of
from fusion.runs.job import Encoded, Job
from fusion.runs.jobs import about_all
from fusion.runs.journal import Journal
from fusion.runs.relabel import earlier_files
from fusion.runs.spec import labels_of, read_run


@dataclass(frozen=True)
class Converted:
    """What a folder has got."""

    files: tuple[str, ...]  # about all images, relative to the folder
    images: int  # that are done
    damaged: Mapping[str, str]  # source of an image that had to be left out → why


def convert(output: Path, to: Sequence[str]) -> Converted:
    """Give the folder `output` the exports `to`, by name. Later runs in it keep them as its other files are.

    ValueError, in one line, unless it is a folder of `emerseg segment` whose last run wrote all of its files.
    """
    exports = exports_of(to)
    if not exports:
        raise ValueError(f"nothing to convert to, expected some of {', '.join(Export.values())}")
    run = read_run(output)
    if not run.labels:
        raise ValueError(f"{output} holds masks without labels: `emerseg segment` gives them some")
    every = exports_of([*run.exports, *exports])
    with locked(output):
        journal = Journal.open(output)
        if journal.config_hash != run.config_hash:
            raise ValueError(f"{output} is unfinished: the command that made it, run again, does the rest")

        def run_file(images: Sequence[RunImage], largest: float) -> Record:
            return run.model_copy(update={"images": list(images), "exports": [str(export) for export in every]})

        job = Job(
            config_hash=run.config_hash,
            kinds=(),
            encode=_never,
            run_file=run_file,
            bits=run.bits,
            **about_all(output, labels_of(run), every, run.bits),
        )
        damaged = finish_run(Plan(earlier_files(journal), frozenset(), journal), job)
    done = sum(entry.status == "done" for entry in journal.entries.values())
    return Converted(files_of(exports), done, {one.source: one.reason or "" for one in damaged})


def _never(result: object, first_id_of: object) -> Encoded:
    raise AssertionError("no image is computed")
