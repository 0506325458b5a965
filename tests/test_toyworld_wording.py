"""Texts that differ in one word: all are wrong, none twice, and only words of the toy world change."""

from __future__ import annotations

import numpy as np
import pytest

from toyworld import scene
from toyworld.vocabulary import COLORS
from toyworld.wording import draw_one_word_apart, one_word_apart, phrases, without_synonyms


def test_each_differs_in_one_word_of_its_sort():
    texts = one_word_apart("a red boat")
    assert sum(text.endswith(" boat") for text in texts) == len(COLORS) - 1
    assert all(text.endswith(" boat") or text.startswith("a red ") for text in texts)
    assert "an orange boat" in texts and "a red umbrella" in texts
    assert not {"a red boat", "a red ship", "a red sailboat", "a red grass"} & set(texts)


def test_synonyms_mean_what_the_kind_means():
    assert without_synonyms("a red hot-air balloon on a wheat field") == "a red balloon on a wheat"
    assert without_synonyms("blue boat") == "blue boat" and without_synonyms("meadow") == "grass"


def test_phrases_name_one_thing_each():
    caption = "a drawing of a red striped boat, an orange hot-air balloon and a ship on a wheat field under a night sky"
    assert phrases(caption) == ("red striped boat", "orange hot-air balloon", "ship", "wheat field", "night sky")
    assert phrases("water with a parasol below a sky in a picture book") == ("water", "parasol", "sky")


def test_names_of_several_words_are_one():
    texts = one_word_apart("hot-air balloon, wheat field, night sky")
    assert {"cup, wheat field, night sky", "hot-air balloon, sea, night sky"} <= set(texts)
    assert "hot-air balloon, wheat field, clear sky" in texts
    assert all(text.count(",") == 2 for text in texts)


def test_wrong_captions_are_drawn_by_lot_without_repetition():
    caption = scene(1_000_000).caption
    drawn = draw_one_word_apart(caption, 9, np.random.default_rng(0))
    assert len({*drawn, caption}) == 10
    assert drawn != draw_one_word_apart(caption, 9, np.random.default_rng(1))
    with pytest.raises(ValueError, match="'a sky' has 0 texts that differ in one word, expected at least 9"):
        draw_one_word_apart("a sky", 9, np.random.default_rng(0))
