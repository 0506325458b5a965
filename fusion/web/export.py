"""The images of a desk → a zip with them and an output folder as of `emerseg segment`, which `validate` accepts."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
from numpy.typing import NDArray

from fusion.runs.batch import LOCK, locked, plan_run, run_batch
from fusion.runs.inputs import name_outputs
from fusion.runs.job import Compute
from fusion.runs.jobs import CachedMasks, Segmented, segment_job
from fusion.runs.journal import Journal
from fusion.runs.outputs import pixel_hash
from fusion.runs.spec import RunSpec
from fusion.serve.fields import file_name_of
from fusion.web.desk import Desk, Work

# The folders in the zip. run.json leads from one to the other, so that `emerseg relabel` works where it is unpacked.
ROOT, IMAGES, RESULTS = "emerseg", "images", "segmentation"


def write_zip(desk: Desk, path: Path) -> None:
    """Write the images of a desk, as they are now, into a new file. ValueError if there is none."""
    if not desk.works:
        raise ValueError("there is no segmented image to save: press Segment")
    with tempfile.TemporaryDirectory(prefix="emerseg-") as folder:
        root = Path(folder, ROOT)
        write_folder(desk, root)
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(root.rglob("*")):
                if file.is_file() and file.name != LOCK:
                    stored = file.suffix in (".png", ".npz", ".jpg", ".jpeg")
                    how = zipfile.ZIP_STORED if stored else zipfile.ZIP_DEFLATED
                    archive.write(file, file.relative_to(folder).as_posix(), how)


def write_folder(desk: Desk, root: Path) -> Path:
    """Write the images into `root`/images and the rest into `root`/segmentation: the path of the latter."""
    spec, output = replace(desk.spec, labels=desk.labels), root / RESULTS
    (root / IMAGES).mkdir(parents=True)
    works: dict[Path, Work] = {}
    for name, work in zip(unique_names(work.name for work in desk.works), desk.works, strict=True):
        works[root / IMAGES / name] = work
        (root / IMAGES / name).write_bytes(work.data)
    with locked(output):
        journal = Journal.open(output)
        files = name_outputs(list(works), journal.names)
        by_name = {file.name: works[file.path] for file in files}
        job = segment_job(output, spec)
        plan = plan_run(files, journal, job)
        failed = [one for one in run_batch(plan, job, _finished(by_name, spec)) if one.status == "failed"]
    if failed:
        raise ValueError(f"{PurePath(failed[0].source).name}: {failed[0].reason}")
    return output


def unique_names(names: Iterable[str]) -> list[str]:
    """Names of files without folders, told apart by a number, upper and lower case aside."""
    taken: set[str] = set()
    found = []
    for given in names:
        name = PurePath(file_name_of("name", given))
        number, unique = 1, name.name
        while unique.casefold() in taken:
            number += 1
            unique = f"{name.stem} ({number}){name.suffix}"
        taken.add(unique.casefold())
        found.append(unique)
    return found


def _finished(works: Mapping[str, Work], spec: RunSpec) -> Compute:
    """The `Compute` of a batch whose images are done: nothing is left to be computed."""

    def compute(image: NDArray[np.uint8], name: str) -> Segmented:
        work = works[name]
        cached = CachedMasks(work.answer.masks, pixel_hash(image), spec.mask_hash, found=False)
        return Segmented(image, cached, work.result)

    return compute
