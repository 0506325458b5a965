"""All data sets alike: names, random access, order, and what is said of each kind."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_cli import emerseg

from fusion.evaluation.datasets import DATASETS, open_dataset


def test_a_sample_is_read_by_its_name_alone():
    data = open_dataset("toy", "1000000:1000005")
    one = data.load("1000003")
    in_turn = list(data.samples())[3]
    assert one.name == in_turn.name == "1000003"
    np.testing.assert_array_equal(one.image, in_turn.image)
    np.testing.assert_array_equal(one.regions, in_turn.regions)


def test_shuffling_comes_before_the_limit_and_is_alike_for_a_seed():
    names = [str(seed) for seed in range(1000000, 1000020)]
    shuffled = open_dataset("toy", "1000000:1000020", shuffle_seed=3).names
    assert list(shuffled) != names and sorted(shuffled) == names
    assert open_dataset("toy", "1000000:1000020", limit=5, shuffle_seed=3).names == shuffled[:5]
    assert open_dataset("toy", "1000000:1000020", limit=5, shuffle_seed=4).names != shuffled[:5]
    assert open_dataset("toy", "1000000:1000020", limit=5).names == tuple(names[:5])
    assert [sample.name for sample in open_dataset("toy", "1000000:1000020", 2, shuffle_seed=3).samples()] == [
        *shuffled[:2]
    ]


def test_an_unknown_name_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="dataset is 'moon', expected one of toy, pictures"):
        open_dataset("moon", "x")


@pytest.mark.parametrize("name", DATASETS)
def test_the_page_about_data_sets_shows_each_with_its_tree(name):
    page = (Path(__file__).parent.parent / "docs/datasets.md").read_text(encoding="utf-8")
    assert f"| `{name}` |" in page
    assert name in ("toy", "coco-stuff27") or f"```\n{DATASETS[name].tree}\n```" in page


@pytest.mark.parametrize("name", DATASETS)
def test_every_kind_says_in_a_line_what_it_is_and_what_its_root_holds(name):
    kind = DATASETS[name]
    assert kind.about and "\n" not in kind.about
    assert kind.tree.strip() == kind.tree != ""


def test_the_command_line_shows_the_tree_that_is_expected_below_one_line(tmp_path, capsys):
    assert emerseg("eval", "--dataset", "voc21", "--root", tmp_path) == 2
    first, *tree = capsys.readouterr().err.rstrip("\n").split("\n")
    assert first.startswith(f"emerseg: error: dataset voc21: no folder JPEGImages in {tmp_path}; expected as the root:")
    assert "\n".join(tree) == DATASETS["voc21"].tree
