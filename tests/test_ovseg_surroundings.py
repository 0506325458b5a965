"""`auto` among background labels: usual surroundings, but never what is asked for anyway."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg import Label, as_labels
from ovseg.stuff import USUAL_STUFF
from ovseg.surroundings import SURROUNDINGS, note_surroundings, surroundings_besides


def left_out(*names: str) -> set[str]:
    return set(SURROUNDINGS) - set(surroundings_besides(names))


def test_the_list_is_usual_stuff_each_once_and_whole_beside_things() -> None:
    assert len(set(SURROUNDINGS)) == len(SURROUNDINGS) and set(SURROUNDINGS) <= USUAL_STUFF
    assert {"sky", "wall", "floor", "grass", "tree", "water", "road", "ground", "building"} <= set(SURROUNDINGS)
    assert surroundings_besides(["cat", "person", "snow leopard", "skier", "grasshopper"]) == SURROUNDINGS


@pytest.mark.parametrize(
    ("name", "surroundings"),
    [
        ("Sky", {"sky"}),
        ("skies", {"sky"}),
        ("clear blue sky", {"sky"}),
        ("lawns", {"grass"}),
        ("wet grass", {"grass"}),
        ("grasses", {"grass"}),
        ("bushes", {"bush"}),
        ("vegetation", {"grass", "tree", "bush"}),
        ("houses", {"building"}),
        ("brick-wall", {"wall"}),
        ("  Body  of water ", {"water"}),
        ("tree in the snow", {"tree"}),
        ("glass of water", set()),
        ("person on a road", set()),
        ("road sign", set()),
        ("potted plant", set()),
        ("stair", {"stairs"}),
    ],
)
def test_what_is_asked_for_is_left_out_by_name_plural_other_word_or_kind(name: str, surroundings: set[str]) -> None:
    assert left_out(name) == surroundings
    assert left_out("cat", name) == surroundings


@given(st.lists(st.sampled_from(SURROUNDINGS)), st.sampled_from([str, str.upper, "the old {}".format, " {} ".format]))
def test_each_name_leaves_itself_out_whatever_its_form(names: list[str], form: Any) -> None:
    assert left_out(*map(form, names)) >= set(names)


@given(st.lists(st.text(), max_size=4))
def test_any_text_is_no_error(names: list[str]) -> None:
    assert set(surroundings_besides(names)) <= set(SURROUNDINGS)


def test_auto_comes_last_and_leaves_out_labels_synonyms_and_background(caplog: pytest.LogCaptureFixture) -> None:
    note_surroundings.cache_clear()
    labels = as_labels([Label("field", ("lawn",)), "cat"], [" Auto", "hand", "walls"])
    names = [label.name for label in labels]
    assert names[:4] == ["field", "cat", "hand", "walls"]
    assert tuple(names[4:]) == surroundings_besides(["lawn", "wall"]) and "sky" in names
    assert all(label.stuff and not label.synonyms for label in labels[4:])
    (note,) = [message for message in caplog.messages if "auto" in message]
    assert note.startswith("background auto is sky, floor, ceiling, ground, tree, bush")


def test_auto_may_stand_for_the_list_and_its_result_for_itself() -> None:
    labels = as_labels(["cat"], "auto")
    assert labels == as_labels(["cat"], ["auto"]) == as_labels(["cat"], labels[1:])
    with pytest.raises(ValueError, match="labels are one text 'sky'"):
        as_labels(["cat"], "sky")


def test_auto_is_a_label_where_it_says_so_or_is_asked_for() -> None:
    assert as_labels(["auto"], ["auto"])[0] == Label("auto")
    assert as_labels(["cat"], ["auto [thing]"]) == (Label("cat"), Label("auto"))
    assert as_labels(["cat"], [Label("auto")]) == (Label("cat"), Label("auto"))


def test_where_all_are_asked_for_none_is_left() -> None:
    assert as_labels(SURROUNDINGS, ["auto"]) == as_labels(SURROUNDINGS)
