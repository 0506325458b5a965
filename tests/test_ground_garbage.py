"""Garbage collection comes back, whatever happens while there is none."""

from __future__ import annotations

import gc

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
