"""Garbage collection comes back, whatever happens while there is none."""

from __future__ import annotations

import gc
import weakref

import pytest

from ground.garbage import uncollected


@pytest.mark.parametrize("enabled", [True, False])
def test_afterwards_it_is_as_before(enabled):
    was_enabled = gc.isenabled()
    try:
        gc.enable() if enabled else gc.disable()
        with pytest.raises(ValueError), uncollected():
            assert not gc.isenabled()
            raise ValueError
        assert gc.isenabled() == enabled
    finally:
        gc.enable() if was_enabled else gc.disable()


class Loop:
    """An object that holds itself."""

    def __init__(self) -> None:
        self.itself = self


def test_what_was_made_within_is_old_and_is_collected_when_nobody_holds_it():
    with uncollected():
        made = Loop()
        seen = weakref.ref(made)
    assert not any(each is made for each in gc.get_objects(generation=0))
    del made
    gc.collect()
    assert seen() is None


def test_what_a_program_froze_stays_so():
    gc.freeze()
    try:
        with uncollected():
            pass
        assert gc.get_freeze_count()
    finally:
        gc.unfreeze()
