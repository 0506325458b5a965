"""`Record`: what every declared record of a file can do: become JSON, be read from it, and say what does not fit."""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, ValidationError

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails
    from typing_extensions import Self


class Record(BaseModel):
    """A record of a file. Values are taken as they are, never converted; keys that are not declared are ignored."""

    model_config = ConfigDict(strict=True, frozen=True)

    def to_json(self) -> dict[str, Any]:
        """Plain data, in the order of the fields."""
        return self.model_dump()

    def to_bytes(self) -> bytes:
        """Compact JSON on one line, in ASCII: names of files may hold bytes that are no text, as lone surrogates."""
        return json.dumps(self.to_json(), separators=(",", ":"), allow_nan=False).encode("ascii")

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """The record that `to_bytes` wrote; ValueError, in one line, on anything else.

        pydantic's own reader of JSON knows no lone surrogates.
        """
        try:
            value = json.loads(data)
            return cls.model_validate(value)
        except RecursionError:
            raise ValueError("is no record but JSON of too many levels") from None
        except ValidationError:
            raise ValueError(next(misfits(cls, value))) from None


def misfits(kind: type[Record], value: object, where: str = "the record") -> Iterator[str]:
    """What keeps `value`, plain data of JSON, from being a record of that kind: a sentence about `where` for each."""
    if not isinstance(value, dict):
        yield f"{where} is {reprlib.repr(value)}, expected an object"
        return
    try:
        kind.model_validate(value)
    except ValidationError as error:
        for misfit in error.errors(include_url=False):
            yield _misfit(misfit, where)


def _misfit(error: ErrorDetails, where: str) -> str:
    """An error of pydantic as a sentence of ours: what is there, and what is expected."""
    place = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error["loc"]).removeprefix(".")
    if error["type"] == "missing":
        return f"{where} has no {place}"
    message = re.sub("^(Input should be|Value error, expected)", ", expected", error["msg"])
    message = re.sub("^, expected (greater|less) ", r", expected a number \1 ", message)
    # Some messages are sentences of another form.
    return f"{where}: {place} is {reprlib.repr(error['input'])}{message if message[0] == ',' else f': {message}'}"
