"""The choices of a fleet as Enums; light, so that a command line can offer them."""

from __future__ import annotations

from ground.choices import Choice


class Png(Choice):
    """Images that a shard's tar holds of each of its images: KEY.KIND.png."""

    SEMANTIC = "semantic"  # semantic/NAME.png of `emerseg segment`
    OVERLAYS = "overlays"  # overlays/NAME.png
