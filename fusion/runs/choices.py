"""The choices of what is written and merged as Enums; light, so that a command line can offer them."""

from __future__ import annotations

from ground.choices import Choice


class Keep(Choice):
    """Whose annotations an image has that several sources have."""

    THEIRS = "theirs"  # those of the source that came first
    OURS = "ours"  # those of the last one
