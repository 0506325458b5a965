"""`adapt`: a folder of images in, an adapted preset with a report out. It goes on where it was stopped."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from fusion.models.presets import Preset, load_preset
from ground.files import write_json
from training.adapt.folder import read_collection
from training.adapt.labels import label_roots, measure_labels
from training.adapt.masks import measure_masks, train_masks
from training.adapt.places import halfway, train_places
from training.adapt.report import Report, write_report
from training.adapt.result import MASKS, WORDS, write_preset
from training.adapt.split import Split, split
from training.adapt.start import has_small_masks
from training.adapt.task import Plan, Task, claim, planned
from training.adapt.words import measure_words, merged, train_words
from training.curves import last_row
from training.hardware import Hardware, choose_hardware

log = logging.getLogger(__name__)


def adapt(task: Task) -> Report:
    """Adapt, measure, and write all into `task.output`; the report is in there, too.

    Called again with the same task after a stop it goes on, and with more minutes it trains on. Raises, in one line,
    ValueError and FileNotFoundError on bad input, and ValueError on an output that holds another adaptation.
    """
    hardware = choose_hardware(task.device)
    plan = planned(task, read_collection(task.folder, task.output))
    work = task.output / "work"
    claim(plan, work)
    if plan.words is not None:
        plan = replace(plan, words=merged(plan.preset.ovseg, plan.words, work / "start"))
    log.info("adapting %s to %d images (tags: %s)", plan.parts, len(plan.collection.photos), plan.collection.said_by)
    halves = split(plan.collection, work)
    before = _before(plan, halves, work, hardware)
    own_maps = 0
    if plan.words is not None:
        own_maps = _adapt_words(plan, plan.words, halves, work, hardware)
    if plan.masks is not None:
        log.info("masks learn for %.1f minutes from %d images", plan.minutes["masks"], halves.train_count)
        train_masks(halves, plan.masks, plan.minutes["masks"], work / "masks", task.output / MASKS, hardware)
    adapted = load_preset(write_preset(plan, halves))
    words = task.output / WORDS if plan.words else None
    masks = task.output / MASKS if plan.masks else None
    after = _figures(plan, halves, adapted, words, masks, work, hardware)
    steps = {name: last_row(work / name) for name in plan.minutes}
    report = Report.of(plan, halves, steps, own_maps, before, after)
    write_report(task.output, report)
    return report


def _adapt_words(plan: Plan, start: Path, halves: Split, work: Path, hardware: Hardware) -> int:
    """The number of label maps that the words drew themselves, and learned from."""
    log.info("words learn for %.1f minutes from %d images", plan.minutes["words"], halves.train_count)
    target = plan.task.output / WORDS
    ranked = train_words(halves, start, plan.minutes["words"], work / "words", target, hardware)
    between = halfway(start, ranked, work / "halfway")
    masks = has_small_masks(plan.preset.emerdiff)
    own_maps = train_places(halves, between, plan.task.start, work / "places", target, hardware, masks=masks)
    log.info("words learned from %d label maps that they drew themselves", own_maps)
    return own_maps


def _before(plan: Plan, halves: Split, work: Path, hardware: Hardware) -> dict[str, Any]:
    """The figures of the preset to begin with; measured once."""
    kept = work / "before.json"
    if not kept.exists():
        write_json(kept, _figures(plan, halves, plan.preset, plan.words, plan.masks, work, hardware))
    found: dict[str, Any] = json.loads(kept.read_text())
    return found


def _figures(
    plan: Plan, halves: Split, preset: Preset, words: Path | None, masks: Path | None, work: Path, hardware: Hardware
) -> dict[str, Any]:
    """What is measured of a preset, whose models are in the folders `words` and `masks`, as plain data."""
    log.info("measuring %d images that are held out", halves.held_count)
    found: dict[str, Any] = {}
    if words is not None:
        tags = plan.collection.tags
        found["words"] = asdict(measure_words(halves, tags, words, work / "held-features", hardware))
    if masks is not None:
        found["masks"] = asdict(measure_masks(halves, masks, hardware))
    device = str(hardware.device)
    found["labels"] = [asdict(measure_labels(root, preset, device)) for root in label_roots(plan.collection.folder)]
    return found
