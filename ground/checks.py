"""Checks of settings, each declared where its field stands: `clusters: Annotated[int, whole(1)] = 30`.

A frozen dataclass calls `check_fields` in its `__post_init__`; `from_mapping` makes it from a section of a preset.
Every error is a ValueError of one line: `emerdiff.clusters is 0, expected a whole number from 1`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields
from math import isfinite
from operator import index
from typing import Any, TypeVar, get_type_hints

from ground.choices import Choice

MAX_SEED = 2**53  # what JSON keeps exactly, whoever reads it

Settings = TypeVar("Settings")


def _same(value: Any) -> Any:
    return value


@dataclass(frozen=True)
class Check:
    """What a field accepts."""

    accepts: Callable[[Any], bool]
    expected: str  # ends the sentence "emerdiff.clusters is 0, expected …"
    stored: Callable[[Any], Any] = _same  # an accepted value → what the field holds


def text(expected: str = "text") -> Check:
    """Text that is not blank."""
    return Check(lambda value: isinstance(value, str) and bool(value.strip()), expected)


def any_text() -> Check:
    """Text that may be empty."""
    return Check(lambda value: isinstance(value, str), "text")


def yes_no() -> Check:
    """True or False; no number stands for them."""
    return Check(lambda value: isinstance(value, bool), "true or false")


def whole(low: int, unit: str = "", high: int | None = None) -> Check:
    """An int from `low`, to `high` if given; `unit` is named in the error, such as "px"."""
    to_high = "" if high is None else f" to {high}"
    of_unit = f" of {unit}" if unit else ""
    return Check(
        lambda value: _is_number(value, int) and low <= value and (high is None or value <= high),
        f"a whole number{of_unit} from {low}{to_high}",
    )


def number(low: float, high: float | None = None, unit: str = "") -> Check:
    """A finite number from `low`, to `high` if given, stored as float: 10 and 10.0 are one setting."""
    to_high = "" if high is None else f" to {high}"
    of_unit = f" of {unit}" if unit else ""
    return Check(
        lambda value: _is_number(value, (int, float)) and low <= value and (high is None or value <= high),
        f"a number{of_unit} from {low}{to_high}",
        float,
    )


def above(low: float) -> Check:
    """A finite number greater than `low`, stored as float."""
    return Check(lambda value: _is_number(value, (int, float)) and value > low, f"a number above {low}", float)


def one_of(choices: type[Choice]) -> Check:
    """A member of the Enum or its value; stored as plain text."""
    names = choices.values()
    return Check(lambda value: isinstance(value, str) and value in names, f"one of {', '.join(names)}", _plain_text)


def or_null(check: Check) -> Check:
    """What `check` accepts, or None."""
    return Check(
        lambda value: value is None or check.accepts(value),
        f"{check.expected}, or null",
        lambda value: None if value is None else check.stored(value),
    )


def check_fields(settings: object, section: str) -> None:
    """Checks the fields of a frozen dataclass in order, and stores each value in its one form.

    `section` names the dataclass in the ValueError on the first bad value.
    """
    for name, check in field_checks(type(settings)).items():
        value = getattr(settings, name)
        if not check.accepts(value):
            raise ValueError(f"{section}.{name} is {value!r}, expected {check.expected}")
        object.__setattr__(settings, name, check.stored(value))


def from_mapping(cls: type[Settings], values: Mapping[str, Any], section: str) -> Settings:
    """The dataclass from a mapping of its fields. ValueError on an unknown key, a missing one, or a bad value."""
    members = fields(cls)  # type: ignore[arg-type]
    known = [member.name for member in members]
    if unknown := [key for key in values if key not in known]:
        raise ValueError(f"unknown {section} setting {', '.join(map(repr, unknown))}; known: {', '.join(known)}")
    for member in members:
        if member.default is MISSING and member.name not in values:
            raise ValueError(f"{section}.{member.name} is missing, expected {field_checks(cls)[member.name].expected}")
    return cls(**values)


def field_checks(cls: type) -> dict[str, Check]:
    """The checks of a dataclass by the name of the field: those in its `Annotated` types."""
    return {
        name: each
        for name, annotation in get_type_hints(cls, include_extras=True).items()
        for each in getattr(annotation, "__metadata__", ())
        if isinstance(each, Check)
    }


def seed_of(value: object) -> int:
    """A seed as an int: whole numbers of every type from 0 to MAX_SEED. ValueError on anything else."""
    try:
        seed = -1 if isinstance(value, bool) else index(value)  # type: ignore[arg-type]
    except TypeError:
        seed = -1
    if not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed is {value!r}, expected a whole number from 0 to {MAX_SEED}")
    return seed


def _is_number(value: object, kinds: type | tuple[type, ...]) -> bool:
    return isinstance(value, kinds) and not isinstance(value, bool) and isfinite(value)  # type: ignore[arg-type]


def _plain_text(value: str) -> str:
    return value.value if isinstance(value, Choice) else value
