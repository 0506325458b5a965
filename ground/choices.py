"""Choices as Enums whose members are plain text. Nothing heavy is imported, so that a command line can offer them."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing_extensions import Self


class Choice(str, Enum):
    """Base of Enums whose members equal their value: `Dtype.FLOAT16 == "float16"`, and print as it."""

    def __str__(self) -> str:
        return str(self.value)

    def __repr__(self) -> str:
        return repr(self.value)

    @classmethod
    def values(cls) -> tuple[str, ...]:
        """The plain texts of all members, in the order of definition."""
        return tuple(member.value for member in cls)

    @classmethod
    def of(cls, value: str, name: str) -> Self:
        """The member with that value; ValueError with the choices otherwise, in which the setting is called `name`."""
        if value not in cls.values():
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(cls.values())}")
        return cls(value)


class Dtype(Choice):
    """The precision that a model runs in."""

    AUTO = "auto"  # float16 on cuda and mps, float32 elsewhere
    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"
    FLOAT16 = "float16"
