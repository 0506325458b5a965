"""The rules that were tried beside those that are built: where nothing is in doubt, all are one."""

from __future__ import annotations

import numpy as np
import pytest
from tiny_fusion import coarse_of, masks_of

from benchmarks.rules import mean, table
from benchmarks.studies.rules import BASE, RULES, Votes, together
from emerdiff import Masks
from fusion import FusionConfig

MASKS = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 2, 2], [2, 2, 2, 2]], np.int32)
LABEL_OF_MASK = np.array([0, 2, 1], np.int32)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("split", [False, True])
def test_where_nothing_is_in_doubt_all_rules_agree(rule, split):
    votes = Votes(masks_of(MASKS), coarse_of(LABEL_OF_MASK[MASKS], sharpness=50.0), FusionConfig(split=split))
    np.testing.assert_array_equal(RULES[rule](votes), LABEL_OF_MASK[MASKS] + 1)


def test_a_weak_mask_votes_together_with_the_neighbour_that_looks_like_it():
    features = np.array([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.0]], np.float32)
    # Mask 0 is one px more grass than cat, mask 1 all cat, and mask 2, which looks unlike both, is sky.
    coarse = coarse_of([[0, 1, 0, 0], [1, 1, 0, 0], [2, 2, 2, 2], [2, 2, 2, 2]])
    votes = Votes(Masks(label_map=MASKS, low_res=MASKS, features=features), coarse, FusionConfig())
    assert together(votes, 0.5, 0.6).tolist() == [[1] * 4] * 2 + [[3] * 4] * 2
    assert together(votes, 0.5, 0.4).tolist() == [[2, 2, 1, 1]] * 2 + [[3] * 4] * 2


def test_a_table_says_how_far_a_rule_is_from_the_first():
    values = np.stack([np.linspace(0.4, 0.5, 1001), np.full(1001, 0.3)], axis=1)
    figures = {rule: values + 0.01 * (rule == "auto") for rule in RULES}
    rows = table(figures).splitlines()
    assert f"| {BASE} | 40.0 | 30.0 |" in rows
    assert "| auto | 41.0 (+1.0: +1.0 to +1.0) | 31.0 (+1.0: +1.0 to +1.0) |" in rows
    np.testing.assert_allclose(mean([figures, figures], "auto")[0], figures["auto"][0])
