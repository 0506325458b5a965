"""The files of the folder: whether it is one of ours, and what is in it that should not be there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from fusion.formats.schema import INSTANCES, JOURNAL, PANOPTIC, REPORT, RESULTS, RUN
from fusion.runs.journal import Lines
from fusion.runs.outputs import SUFFIXES, folders, output_file
from fusion.validate.faults import Fault, Json


def check_folder(output: Path) -> None:
    """Raises ValueError if `output` is no folder, or one without any file of `emerseg segment`."""
    ours = (INSTANCES, RESULTS, PANOPTIC, RUN, REPORT, JOURNAL)
    if not output.is_dir():
        raise ValueError(f"{'no folder' if not output.exists() else 'no folder but a file:'} {output}")
    if not any((output / name).exists() for name in ours):
        raise ValueError(f"no results of `emerseg segment` in {output}: expected {', '.join(ours[:4])}")


def unfinished_faults(output: Path) -> Iterator[Fault]:
    """Folders that are somewhere else, and files that a command was killed over."""
    for folder in (output, *folders(output)):
        if folder != output and folder.is_symlink():
            yield Fault(folder.name, "is a link, expected a folder")
        for path in sorted(folder.glob("*.part")):
            name = path.relative_to(output).as_posix()
            yield Fault(name, "left unfinished: the command that was killed, run again, replaces it")


def stray_faults(output: Path, run: Json, journal: Lines) -> Iterator[Fault]:
    """Files of no image. Masks may wait for one that is not done for this configuration: the journal knows its name."""
    names = {image["name"] for image in run["images"]}
    for kind in SUFFIXES:
        of_kind = names | {entry.name for entry in journal.entries} if kind == "masks" else names
        known = {output_file(output, kind, name) for name in of_kind}
        for path in sorted((output / kind).glob("*")):
            if path not in known and path.suffix != ".part" and not _is_of_a_file_manager(path):
                yield Fault(path.relative_to(output).as_posix(), f"belongs to no image of {RUN}")


def _is_of_a_file_manager(path: Path) -> bool:
    return path.name.startswith(".") or path.name.lower() in ("thumbs.db", "desktop.ini")
