"""The report: figures before and after on images that were held out → report.json and report.md."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ground.files import write_bytes, write_json
from training.adapt.split import Split
from training.adapt.task import Plan

JSON, MARKDOWN = "report.json", "report.md"
# What is shown of a part's figures: the name, what it is, whether more of it is better, and how it is written.
_PERCENT, _PLAIN, _DECIBEL = "{:.1%}", "{:.4f}", "{:.2f} dB"
_SHOWN: dict[str, list[tuple[str, str, int, str]]] = {
    "words": [
        ("tag_first", "best tag is one of its own", 1, _PERCENT),
        ("tags_found", "of its k tags, among the k best", 1, _PERCENT),
        ("tag_loss", "loss of tags, nats", -1, _PLAIN),
        ("caption_first", "best caption is its own", 1, _PERCENT),
        ("caption_loss", "loss of captions, nats", -1, _PLAIN),
    ],
    "masks": [
        ("noise_mean", "noise not predicted", -1, _PLAIN),
        ("psnr", "VAE, which is not adapted", 0, _DECIBEL),
    ],
    "labels": [
        ("label_miou", "label mIoU", 1, _PERCENT),
        ("label_miou_without_masks", "label mIoU, words alone", 1, _PERCENT),
        ("pixel_accuracy", "pixels labelled rightly", 1, _PERCENT),
        ("bound_miou", "mIoU of masks with their best label", 1, _PERCENT),
    ],
}


@dataclass(frozen=True)
class Report:
    """What was done and what it brought; the figures are those of words, masks and labels, as plain data."""

    folder: str
    start: str
    adapted: tuple[str, ...]  # "words", "masks"
    said_by: str  # where the tags are from
    train_images: int
    held_out_images: int
    unreadable: tuple[str, ...]
    tags: int
    captions: int
    minutes: dict[str, float]  # asked for, by part
    undo: dict[str, str]  # by part: the option of commands that goes back to what it was
    training: dict[str, dict[str, float]]  # the last line of each part's log: step, minutes, losses
    own_maps: int  # label maps that the words drew of the images, and learned from
    before: dict[str, Any]
    after: dict[str, Any]

    @classmethod
    def of(
        cls,
        plan: Plan,
        halves: Split,
        training: dict[str, dict[str, float]],
        own_maps: int,
        before: dict[str, Any],
        after: dict[str, Any],
    ) -> Report:
        """The report of a plan that was carried out."""
        return cls(
            folder=str(plan.collection.folder),
            start=plan.task.start,
            adapted=tuple(plan.minutes),
            said_by=plan.collection.said_by,
            train_images=halves.train_count,
            held_out_images=halves.held_count,
            unreadable=halves.unreadable,
            tags=len(plan.collection.tags),
            captions=len(plan.collection.captions),
            minutes=plan.minutes,
            undo={part: _undo(plan, part) for part in plan.minutes},
            training=training,
            own_maps=own_maps,
            before=before,
            after=after,
        )


@dataclass(frozen=True)
class Line:
    """A figure before and after."""

    part: str  # "words", "masks", or which label maps, such as "labels/SOURCE:0::10"
    name: str
    images: int  # that it was measured on
    before: str
    after: str
    verdict: str  # "better", "worse", "the same", or "" for what is not adapted


def lines(report: Report) -> Iterator[Line]:
    """What is shown of a report, figure by figure; what was not measured is left out."""
    for part in ("words", "masks"):
        if part in report.before:
            yield from _lines(part, part, report.before[part], report.after[part])
    for before, after in zip(report.before["labels"], report.after["labels"], strict=True):
        yield from _lines("labels", before["root"].removeprefix(f"{report.folder}/"), before, after)


def write_report(output: Path, report: Report) -> None:
    """report.json and report.md."""
    write_json(output / JSON, asdict(report))
    write_bytes(output / MARKDOWN, markdown(report).encode())


def markdown(report: Report) -> str:
    """The report as a page."""
    trained = "; ".join(
        f"{part} {row['minutes']:.1f} minutes, {row['step']:.0f} steps" for part, row in report.training.items()
    )
    if report.own_maps:
        trained += f"; words {report.own_maps} label maps that they drew themselves"
    text = f"""# What the adaptation brought

`{report.start}` adapted to {report.train_images} images of {report.folder}: {trained}.
Tags by: {report.said_by} ({report.tags} different tags, {report.captions} captions).

| | figure | images | before | after | |
|---|---|---:|---:|---:|---|
"""
    text += "".join(
        f"| {line.part} | {line.name} | {line.images} | {line.before} | {line.after} | {line.verdict} |\n"
        for line in lines(report)
    )
    text += f"""
Measured on {report.held_out_images} images that nothing was learned from, every tenth in the order of their names.
Where these resemble the others, as frames of one video do, the figures are too good for new images. A few images tell
little: {_tells(report)}
"""
    text += "\n" + "".join(
        f"Back to the {part} of `{report.start}`: `{option}`\n" for part, option in report.undo.items()
    )
    if report.unreadable:
        text += "\nLeft out:\n\n" + "".join(f"- {reason}\n" for reason in report.unreadable)
    return text


def _undo(plan: Plan, part: str) -> str:
    preset = plan.preset
    if part == "masks":
        return f"--set emerdiff.model={preset.emerdiff.model}"
    overlay = f" --set ovseg.overlay={preset.ovseg.overlay}" if preset.ovseg.overlay else ""
    return f"--set ovseg.model={preset.ovseg.model}{overlay}"


def _tells(report: Report) -> str:
    """How far the figures of label maps may be off, else of shares in general."""
    for figures in report.after["labels"]:
        if bounds := figures["label_miou_interval"]:
            return f"the label mIoU after is within {bounds[0]:.1%} to {bounds[1]:.1%} (95 %)."
    return f"one image more or less is {1 / report.held_out_images:.1%} of a share."


def _lines(part: str, title: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Line]:
    for name, about, sign, form in _SHOWN[part]:
        old, new = before[name], after[name]
        if old is None or new is None:
            continue
        shown = form.format(old), form.format(new)
        verdict = "the same" if shown[0] == shown[1] else ("better" if (new - old) * sign > 0 else "worse")
        images = after["captions" if name.startswith("caption") else "images"]
        yield Line(title, about, images, *shown, verdict if sign else "")
