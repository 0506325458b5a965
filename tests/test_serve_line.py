"""The line of requests and the cache of masks: bounded, in order, and honest about it."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_fusion import masks_of

from emerdiff.affinity import WINDOW, AttentionAffinity, WindowAffinity
from fusion.serve.cache import MaskCache, Seen
from fusion.serve.limits import Limits
from fusion.serve.line import Line, LineClosed, LineFull


@pytest.fixture
def line():
    line = Line(2)
    yield line
    line.close()


@pytest.fixture
def held(line):
    """A job that the worker has begun, and the event that lets it end."""
    began, end = threading.Event(), threading.Event()

    def work():
        began.set()
        end.wait(30)
        return "held"

    future = line.submit(work, "held")
    assert began.wait(30)
    yield future, end
    end.set()


def test_jobs_are_done_in_order(line):
    done = []
    for number in range(5):
        line.submit(lambda number=number: done.append(number)).result(30)
    assert done == list(range(5))
    assert (line.state.done, line.state.waiting) == (5, ())


def test_the_state_says_who_waits_and_where(line, held):
    line.submit(str, "first")
    line.submit(str, "second")
    state = line.state
    assert state.busy and state.limit == 2
    assert [(place.name, place.position) for place in state.waiting] == [("first", 1), ("second", 2)]


def test_a_full_line_refuses_and_says_when(line, held):
    waiting = [line.submit(str), line.submit(str)]
    with pytest.raises(LineFull, match=r"full \(2 requests wait\)") as refused:
        line.submit(str)
    assert refused.value.retry_after >= 1
    held[1].set()
    assert [future.result(30) for future in waiting] == ["", ""]
    assert line.submit(lambda: 7).result(30) == 7


def test_what_is_cancelled_leaves_the_line_and_is_never_done(line, held):
    done = []
    first, second = line.submit(lambda: done.append(1), "1"), line.submit(lambda: done.append(2), "2")
    assert first.cancel()
    assert [(place.name, place.position) for place in line.state.waiting] == [("2", 1)]
    assert not held[0].cancel()
    held[1].set()
    second.result(30)
    assert (done, held[0].result(30)) == ([2], "held")


def test_errors_belong_to_their_own_job(line):
    with pytest.raises(ZeroDivisionError):
        line.submit(lambda: 1 / 0).result(30)
    assert line.submit(lambda: 1).result(30) == 1


def test_closing_finishes_the_job_in_hand_and_drops_the_others(line, held):
    waiting = line.submit(str)
    line.refuse()
    with pytest.raises(LineClosed):
        waiting.result(30)
    with pytest.raises(LineClosed):
        line.submit(str)
    held[1].set()
    line.close()
    assert held[0].result(30) == "held"


def seen(side=8, affinity=None):
    masks = replace(masks_of(np.zeros((side, side), np.int32)), affinity=affinity)
    return Seen(np.zeros((side, side, 3), np.uint8), masks, None)


def test_what_was_not_used_for_longest_is_forgotten_first():
    size = seen().num_bytes
    assert size == 8 * 8 * (3 + 4 + 4) + 4  # image, label map, low_res, features
    cache = MaskCache(2 * size)
    assert cache.put("a", seen()) and cache.put("b", seen())
    assert cache.get("a") is not None
    assert cache.put("c", seen())
    assert [name for name in "abc" if cache.get(name) is not None] == ["a", "c"]
    assert (len(cache), cache.num_bytes) == (2, 2 * size)
    assert cache.put("a", seen()) and cache.num_bytes == 2 * size
    assert not cache.put("large", seen(64))
    assert (len(cache), cache.num_bytes) == (2, 2 * size)


def test_of_affinities_only_what_is_small_is_kept():
    closeness = torch.full((((2 * WINDOW + 1) ** 2) // 2, 4, 4), 200, dtype=torch.uint8)
    affinity = WindowAffinity(closeness)
    assert affinity.weights.dtype == torch.float32  # which it keeps
    cache = MaskCache(10**6)
    cache.put("window", seen(affinity=affinity))
    kept = cache.get("window").masks.affinity
    assert "weights" not in vars(kept)
    torch.testing.assert_close(kept.weights, affinity.weights, rtol=0, atol=0)
    assert "weights" not in vars(cache.get("window").masks.affinity)
    assert cache.num_bytes == seen().num_bytes + closeness.nbytes
    cache.put("attention", seen(affinity=AttentionAffinity.__new__(AttentionAffinity)))
    assert cache.get("attention").masks.affinity is None


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"queue": -1}, "limits.queue is -1, expected a whole number from 0"),
        ({"max_megabytes": 0}, "limits.max_megabytes is 0, expected a number above 0"),
        ({"timeout": float("nan")}, "limits.timeout is nan"),
    ],
)
def test_limits_are_checked(settings, expected):
    with pytest.raises(ValueError, match=expected):
        Limits(**settings)


def test_labels_are_counted_with_synonyms_and_background():
    from ovseg import Label

    limits = Limits(max_labels=3, max_name=5)
    limits.check_labels(["cat", Label("dog", ("puppy",))])
    with pytest.raises(ValueError, match="4 names of labels"):
        limits.check_labels(["cat", Label("dog", ("puppy",))], ["sky"])
    with pytest.raises(ValueError, match="a name of 6 letters, expected 5 at most"):
        limits.check_labels(["abcdef"])
