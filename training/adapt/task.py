"""What is asked for, and what follows from it and the images: which models are adapted, from where, for how long."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusion.models.presets import Preset, config_hash, digest, load_preset
from ground.choices import Choice
from ground.files import read_own, write_bytes
from training.adapt.folder import NOTHING, Collection, check_words
from training.adapt.start import masks_start, words_start

# Of the minutes, where both are adapted; the rest is for masks.
WORDS_SHARE = 1 / 3


class What(Choice):
    """What is adapted."""

    WORDS = "words"
    MASKS = "masks"
    BOTH = "both"


@dataclass(frozen=True)
class Task:
    """What to adapt to which images, and for how long; ValueError on minutes that are none."""

    folder: Path  # of the images, see training.adapt.folder
    output: Path
    what: str | None = None  # one of What; None: both, or masks alone where nothing says what the images show
    minutes: float = 120.0  # of training, in all; feature maps, latents and figures come on top
    start: str = "mini"  # a preset's name or YAML file
    device: str = "auto"

    def __post_init__(self) -> None:
        if not 0 < self.minutes < float("inf"):
            raise ValueError(f"minutes is {self.minutes!r}, expected a finite number above 0")
        if self.what is not None:
            What.of(self.what, "what")


@dataclass(frozen=True)
class Plan:
    """A task whose images were read and whose preset was looked at."""

    task: Task
    collection: Collection
    preset: Preset  # to begin with
    words: Path | None  # the model to begin with; None: words stay as they are
    masks: Path | None

    @property
    def minutes(self) -> dict[str, float]:
        """For each part that is adapted."""
        share = {(True, True): WORDS_SHARE, (True, False): 1.0}.get((self.of("words"), self.of("masks")), 0.0)
        shares = {"words": share, "masks": 1 - share}
        return {name: self.task.minutes * part for name, part in shares.items() if part}

    def of(self, part: str) -> bool:
        """Whether `part`, "words" or "masks", is adapted."""
        return {"words": self.words, "masks": self.masks}[part] is not None

    @property
    def parts(self) -> str:
        """ "words and masks"."""
        return " and ".join(self.minutes)


def planned(task: Task, collection: Collection) -> Plan:
    """The plan of a task; ValueError, in one line, where words or masks cannot be adapted as it asks."""
    what = task.what or (What.MASKS if collection.said_by == NOTHING else What.BOTH)
    preset = load_preset(task.start)
    words = masks = None
    if what != What.MASKS:
        check_words(collection)
        words = words_start(preset.ovseg)
    if what != What.WORDS:
        masks = masks_start(preset.emerdiff)
    return Plan(task, collection, preset, words, masks)


def claim(plan: Plan, work: Path) -> None:
    """Note in `work` what is adapted to what; ValueError if it is the work of something else."""
    mark = work / "task.txt"
    identity = _identity(plan).encode()
    if mark.exists() and read_own(mark) != identity:
        raise ValueError(
            f"{plan.task.output} holds an adaptation of other images, tags, parts or another preset: give the same "
            "again, remove it, or choose another --output"
        )
    write_bytes(mark, identity)


def _identity(plan: Plan) -> str:
    """A hash of what must not change from one run in a folder to the next; the minutes may."""
    images = []
    for photo in plan.collection.photos:
        stat = photo.path.stat()
        images.append([str(photo.path), list(photo.tags), photo.caption, stat.st_size, stat.st_mtime_ns])
    return digest({"images": images, "preset": config_hash(plan.preset), "parts": list(plan.minutes)})
