"""Settings of the open-vocabulary step: the `ovseg` section of a preset → a checked, frozen `OvsegConfig`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any

from ground import checks
from ground.checks import Check, above, any_text, number, one_of, or_null, text, whole
from ovseg.choices import DenseVariant, Refinement, Scope, SynonymRule
from ovseg.templates import EXPECTED, TEMPLATES, are_templates, resolve_templates

MODEL_FORMS = "an open_clip name, hf-hub:ORG/REPO, local-dir:PATH or builtin:NAME"
OVERLAY_FORMS = "a .safetensors file or builtin:NAME"

# YAML knows no tuples. What a file says is kept, not its name: the settings of a run say all.
_TEMPLATES = Check(are_templates, EXPECTED, lambda value: value if _is_named(value) else resolve_templates(value))


def _is_named(value: object) -> bool:
    return isinstance(value, str) and value in TEMPLATES


@dataclass(frozen=True)
class OvsegConfig:
    """What dense CLIP runs with; checked when it is made (ValueError on the first bad value)."""

    # An open_clip name, which needs `pretrained`, or "hf-hub:ORG/REPO", "local-dir:PATH", "builtin:NAME".
    model: Annotated[str, text(MODEL_FORMS)]
    # open_clip tag or a .safetensors file; for a bare open_clip name only.
    pretrained: Annotated[str | None, or_null(text("a tag, a .safetensors file"))] = None
    # A .safetensors file, or builtin:NAME, whose weights take the places of the model's own of the same names.
    overlay: Annotated[str | None, or_null(text(OVERLAY_FORMS))] = None
    # Commit of the hub repository; None: its main branch.
    revision: Annotated[str | None, or_null(text("a commit of the hub"))] = None
    # Of the weights.
    license: Annotated[str, any_text()] = ""
    # MB that a download takes; 0: not known.
    download_mb: Annotated[int, whole(0, "MB")] = 0
    # One of DenseVariant: what stands in for the last block of a ViT.
    dense: Annotated[str, one_of(DenseVariant)] = "maskclip"
    # The name of a set in templates.TEMPLATES, the templates themselves, or a file of them.
    templates: Annotated[str | tuple[str, ...], _TEMPLATES] = "photo"
    # One of SynonymRule: what becomes of a label's names.
    synonyms: Annotated[str, one_of(SynonymRule)] = "mean"
    # One of Scope: which patches attend to each other in the last block; nothing to the variants clip and maskclip.
    scope: Annotated[str, one_of(Scope)] = "none"
    # One of Refinement: what carries logits to a finer grid, and how many times.
    refine: Annotated[str, one_of(Refinement)] = "none"
    refine_times: Annotated[int, whole(1, "times")] = 1
    # px of the shorter side of CLIP's input; sides are rounded to whole patches.
    image_size: Annotated[int, whole(1, "px")] = 448
    # px of that input per location of a convolutional tower's feature map, by dilation; None: the tower's own stride.
    output_stride: Annotated[int | None, or_null(whole(1, "px"))] = None
    # px of that input that CLIP sees at once, a square; 0: all of it.
    window: Annotated[int, whole(0, "px")] = 0
    # px from one window to the next; 0: half a window.
    stride: Annotated[int, whole(0, "px")] = 0
    # Factor on the cosines before the softmax; None: the model's own.
    logit_scale: Annotated[float | None, or_null(above(0))] = None
    # Logits by which some patch must prefer a label to the neutral prompt for it to compete; None: all labels compete.
    absence: Annotated[float | None, or_null(number(-1000, 1000, "logits"))] = None

    def __post_init__(self) -> None:
        checks.check_fields(self, "ovseg")
        if self.window and self.stride > self.window:
            raise ValueError(f"ovseg.stride is {self.stride}, expected at most ovseg.window, {self.window}")
        if ":" in self.model and self.pretrained is not None:
            raise ValueError(
                f"ovseg.pretrained is {self.pretrained!r}, expected null: {self.model} has its own weights"
            )

    @property
    def is_guided(self) -> bool:
        """Whether masks or another model have a say in where labels are."""
        return self.scope != Scope.NONE or self.refine != Refinement.NONE

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> OvsegConfig:
        """Config from a preset's `ovseg` section; ValueError on a missing `model` or an unknown key."""
        return checks.from_mapping(cls, values, "ovseg")
