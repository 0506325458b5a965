"""Is an output folder whole, and do all its files say the same? A folder of `emerseg segment` → its faults.

Documents are read first, then compared with each other, then with the pixels, one image in memory at a time. Every
step yields the faults that it finds, and returns what the next ones can use: None where that is damaged.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from fusion.formats.schema import INSTANCES
from fusion.step.choices import MaskSource
from fusion.validate.agreement import (
    agreement_with_run_faults,
    instances_faults,
    journal_faults,
    panoptic_faults,
    pycocotools_faults,
    read_journal,
    results_faults,
    run_faults,
)
from fusion.validate.documents import fusion_settings, read_instances, read_panoptic, read_results, read_run
from fusion.validate.extras import read_extras
from fusion.validate.faults import Fault
from fusion.validate.folder import check_folder, stray_faults, unfinished_faults
from fusion.validate.images import image_facts
from fusion.validate.pixels import image_faults
from fusion.validate.report import report_faults


def validate(output: Path) -> Iterator[Fault]:
    """The faults of the folder `output`; none if it is valid.

    What a missing or damaged file would be needed for is not looked at: the faults that are left show when that file
    is whole again. Raises ValueError if `output` is no folder, or one without any file of `emerseg segment`.
    """
    check_folder(output)
    yield from unfinished_faults(output)
    run = yield from read_run(output)
    instances = yield from read_instances(output)
    results = yield from read_results(output)
    panoptic = yield from read_panoptic(output)
    journal = yield from read_journal(output)
    if run is not None:
        yield from run_faults(run)
        yield from journal_faults(journal, run)
        yield from stray_faults(output, run, journal)
    if instances is None:
        return
    yield from instances_faults(instances)
    if results is not None:
        yield from results_faults(results, instances)
    if panoptic is not None:
        yield from panoptic_faults(panoptic, instances)
    yield from pycocotools_faults(output, with_results=bool(results))
    if run is not None:
        yield from agreement_with_run_faults(run, instances, panoptic)
        fusion = yield from fusion_settings(run)
        extras = yield from read_extras(output, run, instances, results)
        for image in image_facts(output, run, instances, results, panoptic):
            with_masks = run["masks"] != MaskSource.NONE
            categories = instances["categories"]
            yield from image_faults(output, image, categories, fusion, extras, with_masks=with_masks)
        yield from report_faults(output, run, instances)


def count(output: Path) -> tuple[int, int]:
    """How many (images, annotations) a valid folder holds."""
    instances = json.loads((output / INSTANCES).read_bytes())
    return len(instances["images"]), len(instances["annotations"])
