"""What `benchmarks.differences` measures with, on cases that can be counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent)


def test_pairs_that_are_ranked_rightly():
    from benchmarks.studies.refinement import ranked_rightly

    high, low = np.array([1.0, 2.0, 2.0]), np.array([0.0, 2.0])
    assert ranked_rightly(high, low) == pytest.approx((1 + 0 + 1 + 0.5 + 1 + 0.5) / 6)
    assert ranked_rightly(low - 9, high) == 0 and ranked_rightly(low + 9, high) == 1


def test_true_regions_as_clusters():
    from benchmarks.studies.refinement import true_clusters

    truth = np.zeros((8, 8), np.int32)
    truth[:4, :3] = 2  # fills most of a position, and of no other
    truth[7, 7] = 1  # is too small for any
    low_res, regions = true_clusters(truth, (2, 2))
    assert low_res.tolist() == [[1, 0], [0, 0]] and regions.tolist() == [0, 2]


def test_a_balanced_plane_is_one_on_average_within_its_mask():
    from benchmarks.studies.refinement import balanced

    masks = torch.zeros(2, 4, 4)
    masks[0, :, :2], masks[1, :, 2:] = 1, 1
    planes = torch.rand(2, 4, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 50]).view(2, 1, 1)
    even = balanced(planes, masks)
    torch.testing.assert_close((even * masks).sum((1, 2)), torch.full((2,), 8.0))
    torch.testing.assert_close(even[0] / even[0].max(), planes[0] / planes[0].max())
