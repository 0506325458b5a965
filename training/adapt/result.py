"""The folder that comes out: preset.yaml, which `--preset` takes as it is, and a card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from ground.files import write_bytes
from ground.presets import read_preset
from training.adapt.split import Split
from training.adapt.task import Plan

PRESET, CARD = "preset.yaml", "README.md"
# Relative to the preset.
WORDS, MASKS = "weights/words", "weights/masks"
_MODELS = {"words": ("ovseg", f"local-dir:./{WORDS}"), "masks": ("emerdiff", f"./{MASKS}")}

_CARD = """# An adapted preset of emerseg

    emerseg segment IMAGES --preset {folder}/preset.yaml --labels "{labels}" --output out

The folder may be moved: the preset finds its weights beside itself. `report.md` says what the adaptation brought on
images that were held out. `work/` is needed only to train on, and may be deleted.

- **What was adapted:** {parts}, from the preset `{start}`.
- **To what:** {train} images of {source}; {held} others were held out. What they show was said by: {said_by}.
- **What it was made with:** `emerseg adapt`, {minutes:g} minutes of training asked for.

## Licence

These weights were derived from the images named above and from these:

{licenses}

Both count: who may not use those weights, or has no right to the images, may not use or pass on these. Weights can
give away what they learned from; think of persons in the images before passing them on.
"""


def write_preset(plan: Plan, halves: Split) -> Path:
    """Write the preset and its card into the output of the plan; the path of the preset."""
    output = plan.task.output
    values: dict[str, Any] = {**read_preset(plan.task.start)}
    values["description"] = f"{plan.task.start}, its {plan.parts} adapted to {halves.train_count} images"
    licenses = []
    for part in plan.minutes:
        section, model = _MODELS[part]
        settings = dict(values[section])
        license = settings.get("license") or "not stated"
        overlay = settings.pop("overlay", None)  # it is in the weights now
        source = settings["model"] + (f" with {overlay}" if overlay else "")
        licenses.append(f"- {part}: `{source}`, licence: {license}")
        settings |= {"model": model, "license": f"of {source} ({license}) and of the images, see {CARD}"}
        values[section] = settings
    path = output / PRESET
    write_bytes(path, yaml.safe_dump(values, sort_keys=False, allow_unicode=True).encode())
    card = _CARD.format(
        folder=output,
        labels=", ".join(plan.collection.tags[:4]) or "dog, grass, sky",
        parts=plan.parts,
        start=plan.task.start,
        train=halves.train_count,
        held=halves.held_count,
        source=plan.collection.folder,
        said_by=plan.collection.said_by,
        minutes=plan.task.minutes,
        licenses="\n".join(licenses),
    )
    write_bytes(output / CARD, card.encode())
    return path
