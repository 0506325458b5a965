"""A field's check stands with it: what it accepts, how it is stored, and what a bad value is told."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import numpy as np
import pytest

from ground.checks import (
    above,
    any_text,
    check_fields,
    field_checks,
    from_mapping,
    number,
    one_of,
    or_null,
    seed_of,
    text,
    whole,
    yes_no,
)
from ground.choices import Choice


class Fruit(Choice):
    APPLE = "apple"
    PEAR = "pear"


@dataclass(frozen=True)
class Basket:
    name: Annotated[str, text("a name")]
    note: Annotated[str, any_text()] = ""
    fruit: Annotated[str, one_of(Fruit)] = "apple"
    count: Annotated[int, whole(1)] = 3
    side: Annotated[int, whole(8, "px")] = 8
    weight: Annotated[float, number(0)] = 1.0
    share: Annotated[float, number(0, 1)] = 0.5
    scale: Annotated[float | None, or_null(above(0))] = None
    fresh: Annotated[bool, yes_no()] = True

    def __post_init__(self) -> None:
        check_fields(self, "basket")


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("name", "  ", "a name"),
        ("name", None, "a name"),
        ("note", None, "text"),
        ("fruit", "plum", "one of apple, pear"),
        ("fruit", ["apple"], "one of apple, pear"),
        ("count", 0, "a whole number from 1"),
        ("count", 2.0, "a whole number from 1"),
        ("count", True, "a whole number from 1"),
        ("side", 7, "a whole number of px from 8"),
        ("weight", -1, "a number from 0"),
        ("weight", float("inf"), "a number from 0"),
        ("weight", float("nan"), "a number from 0"),
        ("weight", "1", "a number from 0"),
        ("share", 1.5, "a number from 0 to 1"),
        ("scale", 0, "a number above 0, or null"),
        ("fresh", 1, "true or false"),
    ],
)
def test_a_bad_value_is_one_line_in_one_style(field: str, value: Any, expected: str) -> None:
    with pytest.raises(ValueError) as error:
        Basket(**{"name": "mine", field: value})
    assert str(error.value) == f"basket.{field} is {value!r}, expected {expected}"


def test_a_value_is_stored_in_one_form() -> None:
    whole_numbers = Basket("mine", weight=2, share=1, scale=3, fruit=Fruit.PEAR)
    assert whole_numbers == Basket("mine", weight=2.0, share=1.0, scale=3.0, fruit="pear")
    stored = asdict(whole_numbers)
    assert [type(stored[name]) for name in ("weight", "share", "scale", "fruit")] == [float, float, float, str]


def test_a_mapping_gives_the_fields_and_the_defaults_the_rest() -> None:
    assert from_mapping(Basket, {"name": "mine", "count": 5}, "basket") == Basket("mine", count=5)


def test_unknown_and_missing_keys_are_named() -> None:
    with pytest.raises(ValueError, match=r"^unknown basket setting 'color', 7; known: name, note, fruit, .*, fresh$"):
        from_mapping(Basket, {"name": "mine", "color": "red", 7: 8}, "basket")  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"^basket\.name is missing, expected a name$"):
        from_mapping(Basket, {}, "basket")


def test_every_setting_of_a_preset_has_a_check() -> None:
    from emerdiff import EmerDiffConfig
    from fusion import FusionConfig
    from ovseg import OvsegConfig

    for config in (EmerDiffConfig, OvsegConfig, FusionConfig):
        assert list(field_checks(config)) == list(config.__dataclass_fields__)


def test_a_choice_is_its_text() -> None:
    assert Fruit.PEAR == "pear" and f"{Fruit.PEAR}" == str(Fruit.PEAR) == "pear"
    assert Fruit.values() == ("apple", "pear")
    assert "pear" in {Fruit.PEAR} and Fruit.PEAR in {"pear"}


def test_choices_and_checks_are_light() -> None:
    """A command line may import them before it knows what it has to do."""
    code = (
        "import sys, fusion.step.config, ground.weights, ovseg.choices; "
        "print(sorted({'torch', 'numpy', 'PIL', 'yaml', 'huggingface_hub'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("kind", [int, np.int64, np.uint8, np.int32])
def test_whole_numbers_of_every_type_are_seeds(kind):
    seed = seed_of(kind(3))
    assert (type(seed), seed) == (int, 3)


@pytest.mark.parametrize("value", [True, 1.0, np.float64(3), "3", None, -1, 2**53 + 1, 2**64])
def test_what_is_no_seed_is_one_line(value):
    with pytest.raises(
        ValueError, match=rf"seed is {re.escape(repr(value))}, expected a whole number from 0 to {2**53}$"
    ):
        seed_of(value)
