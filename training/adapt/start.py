"""What is adapted: a preset → the folders of its two models, and whether the trainers can adapt them."""

from __future__ import annotations

from pathlib import Path

import emerdiff.fetch
import ovseg.fetch
from emerdiff import EmerDiffConfig
from ground.paths import user_path
from ovseg import OvsegConfig
from ovseg.fetch import checked_folder

# MB of a UNet's weights, at most: about what a laptop can train.
MAX_UNET_MB = 250


def words_start(config: OvsegConfig) -> Path:
    """The open_clip folder of a preset's words; ValueError for a model of the hub or of open_clip's list.

    Whether its image tower is one that can be trained is seen when it is loaded (`photo_clip.load_start`).
    """
    schema, _, name = config.model.partition(":")
    if schema == "builtin":
        return ovseg.fetch.builtin_folder(name)
    if schema == "local-dir":
        return checked_folder(user_path(name))
    raise ValueError(
        f"words of {config.model} cannot be adapted: expected a preset such as mini, whose image tower is an "
        "EfficientNet of timm in a folder; --masks leaves the words as they are"
    )


def has_small_masks(config: EmerDiffConfig) -> bool:
    """Whether the model of a preset's masks is on this disk, and no larger than a laptop can run for many images."""
    try:
        masks_start(config)
    except (ValueError, FileNotFoundError):
        return False
    return True


def masks_start(config: EmerDiffConfig) -> Path:
    """The diffusers folder of a preset's masks; ValueError for a model of the hub, and one that is too large."""
    if not config.model.startswith("builtin:") and not user_path(config.model).is_dir():
        raise ValueError(
            f"masks of {config.model} cannot be adapted: expected a preset such as mini, whose UNet is a small one in "
            "a folder; --words leaves the masks as they are"
        )
    folder = emerdiff.fetch.fetch_weights(config, download=False)
    size = sum(file.stat().st_size for file in emerdiff.fetch.weights_files(folder, "unet")) / 1e6
    if size > MAX_UNET_MB:
        raise ValueError(
            f"the UNet of {folder} takes {size:.0f} MB, expected at most {MAX_UNET_MB} to adapt its masks; "
            "--words leaves them as they are"
        )
    return folder
