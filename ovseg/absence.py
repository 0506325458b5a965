"""The absence test: labels that no patch of an image prefers to a neutral prompt do not compete there.

Our own. CLIP says nothing of a label by itself, only that one fits better than another; the neutral prompt is what a
label is compared with when it is alone: the templates with no name in them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Below all others by this, a logit has no part in any softmax of float32: e^-48 is 1e-21.
_BELOW = 48.0


def neutral_prompts(templates: Sequence[str]) -> list[str]:
    """The templates without a name: "a photo of a {}." → "a photo of a."."""
    return [" ".join(template.replace("{}", " ").split()).replace(" .", ".") for template in templates]


def find_absent(logits: NDArray[np.float32], neutral: NDArray[np.float32], margin: float) -> NDArray[np.bool_]:
    """(L,) whether each label is absent: at no patch by `margin` or more above the neutral prompt.

    `logits` (L, h, w), `neutral` (h, w) that of the neutral prompt. Where all would be, the nearest to it stays.
    """
    highest = (logits - neutral).max(axis=(1, 2))
    absent: NDArray[np.bool_] = highest < min(margin, highest.max())
    return absent


def without(logits: NDArray[np.float32], absent: NDArray[np.bool_]) -> NDArray[np.float32]:
    """`logits` (L, h, w), with those of absent labels so far below all others that they change no score of these."""
    if not absent.any():
        return logits
    lowest = logits[~absent].min() - np.float32(_BELOW)
    return np.where(absent[:, None, None], lowest, logits)
