"""Threads and processes: who may use a loaded model, and when one may be loaded.

A model works with hooks, processors and other position embeddings that sit on its modules for the time of a call, so
that two calls at once would read each other's. Calls from several threads therefore take turns.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import torch

_LOADING = threading.RLock()


class Turns:
    """A model's lock: `with turns:` waits for the threads that are using it; the same thread may enter again.

    A pickled copy, for a worker process, is a model with turns of its own. RuntimeError in a process that was forked
    after the model was loaded: torch's threads do not live on in it, and it would wait for them for ever.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._process = os.getpid()

    def __enter__(self) -> None:
        if os.getpid() != self._process:
            raise RuntimeError(
                "this model was loaded before its process was forked: load it in the worker, or start workers by "
                "spawn, which pickles it"
            )
        self._lock.acquire()

    def __exit__(self, *exception: object) -> None:
        self._lock.release()

    def __reduce__(self) -> tuple[type[Turns], tuple[()]]:
        return Turns, ()


class _Taken(Protocol):
    @property
    def turns(self) -> Turns: ...


Owner = TypeVar("Owner", bound=_Taken)
Arguments = ParamSpec("Arguments")
Result = TypeVar("Result")


def in_turn(
    method: Callable[Concatenate[Owner, Arguments], Result],
) -> Callable[Concatenate[Owner, Arguments], Result]:
    """A method of an object with `turns`, such that its calls take turns with those of all methods marked so."""

    @wraps(method)
    def called(owner: Owner, *args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        with owner.turns:
            return method(owner, *args, **kwargs)

    return called


@contextmanager
def loaded_alone() -> Iterator[None]:
    """For the loading of a model: one at a time in this process.

    While they load, libraries change how all modules are made and torch's default precision, and where loading fails
    they leave it changed: it is put back.
    """
    with _LOADING:
        precision = torch.get_default_dtype()
        try:
            yield
        finally:
            torch.set_default_dtype(precision)
