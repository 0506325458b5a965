"""What a tool's module says where the tool is not installed: one line with the command that installs it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def needs(extra: str, *, besides: str = "") -> Iterator[None]:
    """Imports in the block that fail become a ModuleNotFoundError of one line that names `extra`.

    `besides` is what the extra does not bring, as a further sentence.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"emerseg.integrations.{extra}: no module {error.name}; pip install 'emerseg[{extra}]'{besides}",
            name=error.name,
        ) from None
