"""Speed: how much of EmerDiff is computed. A mode is a row of `SPEEDS`: named choices that can each be set alone too.

Imports nothing heavy: the command line lists the modes before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from ground.choices import Choice


class Speed(Choice):
    """How much is computed."""

    EXACT = "exact"  # the paper's computation: nothing approximated, nothing computed twice
    FAST = "fast"  # modulated denoising, approximated: one step, latents, few passes; and what instant does
    INSTANT = "instant"  # no modulated denoising: clusters are spread by the affinity of positions in the UNet


class AffinitySource(Choice):
    """What tells how alike two positions are."""

    ATTENTION = "attention"  # the self-attentions of the last up block
    FEATURES = "features"  # the features that come into it


class Differences(Choice):
    """Between what the distance d of a modulated pass is taken."""

    IMAGES = "images"  # decoded ones, as in the paper
    LATENTS = "latents"


@dataclass(frozen=True)
class Choices:
    """What is computed. A field of the same name in `EmerDiffConfig` overrides what the mode says."""

    # Whether clusters become fine masks by the difference maps of modulated denoising; else they are masks as they are.
    modulation: bool
    # Whether masks, fine or not, are spread over the image by the affinity of positions in the UNet's finest layers.
    spread: bool
    # Whether the clean latents are those that the UNet predicts at t_m, without the later timesteps.
    one_step: bool
    # One of Differences.
    differences: str
    # Whether d = ‖I⁺ − I‖, where I is the end without offset, which is known; else d = ‖I⁻ − I⁺‖, as in the paper.
    one_side: bool
    # Modulated passes of each sign at most, far-apart masks sharing one; 0, as in the paper: one for each mask.
    passes: int
    # Borders follow edges of the image that are this near, in positions of the feature layer; 0, as in the paper: none.
    guided_radius: float


_EXACT = Choices(
    modulation=True, spread=False, one_step=False, differences="images", one_side=False, passes=0, guided_radius=0.0
)
_FAST = Choices(
    modulation=True, spread=True, one_step=True, differences="latents", one_side=True, passes=12, guided_radius=1.5
)
SPEEDS: dict[str, Choices] = {
    Speed.EXACT: _EXACT,
    Speed.FAST: _FAST,
    # What concerns modulated denoising does not matter without it.
    Speed.INSTANT: replace(_FAST, modulation=False),
}
