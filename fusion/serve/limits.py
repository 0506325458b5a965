"""How much one request, and all of them together, may ask for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

from ground import checks
from ground.checks import above, whole
from ovseg.labels import Label


@dataclass(frozen=True)
class Limits:
    """Checked when it is made (ValueError on the first bad value)."""

    # Requests that may wait beside the one in hand.
    queue: Annotated[int, whole(0)] = 8
    # MB of the body of a request.
    max_megabytes: Annotated[float, above(0)] = 32.0
    # Million pixels of an image.
    max_megapixels: Annotated[float, above(0)] = 50.0
    # Names that a request may list: of labels, their synonyms and background labels.
    max_labels: Annotated[int, whole(1)] = 500
    # Letters of a name.
    max_name: Annotated[int, whole(1)] = 200
    # Masks of an image (K).
    max_clusters: Annotated[int, whole(1)] = 100
    # s from the first byte of a request to its answer.
    timeout: Annotated[float, above(0)] = 300.0
    # MB of images with their masks, for other labels.
    cache_megabytes: Annotated[float, above(0)] = 512.0

    def __post_init__(self) -> None:
        checks.check_fields(self, "limits")

    @property
    def max_bytes(self) -> int:
        """Bytes of the body of a request."""
        return int(self.max_megabytes * 1e6)

    def check_labels(self, labels: Sequence[str | Label], background: Sequence[str | Label] = ()) -> None:
        """ValueError if there are too many names, or one that is too long."""
        names = [name for label in (*labels, *background) for name in _names(label)]
        if len(names) > self.max_labels:
            raise ValueError(
                f"{len(names)} names of labels, synonyms and background labels: expected {self.max_labels} at most"
            )
        longest = max((len(name) for name in names), default=0)
        if longest > self.max_name:
            raise ValueError(f"a label has a name of {longest} letters, expected {self.max_name} at most")


def _names(label: str | Label) -> tuple[str, ...]:
    return (label,) if isinstance(label, str) else (label.name, *label.synonyms)
