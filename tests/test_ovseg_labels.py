"""Words in, labels out: exactly the user's words, and errors that name the culprit."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg import Label, as_labels, parse_labels, read_labels
from ovseg.labels import _note
from ovseg.stuff import USUAL_STUFF

NAMES = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Cs",)), min_size=1).filter(
    lambda text: text.strip()
)
DISTINCT = st.lists(st.text("abcdefgh", min_size=1), min_size=1, max_size=20, unique=True)


@given(st.lists(NAMES, min_size=1, max_size=8))
def test_parsed_names_are_the_given_ones_trimmed_or_refused(names: list[str]) -> None:
    try:
        labels = parse_labels(",".join(names))
    except ValueError as error:
        assert re.search("more than once|empty name|marked as", str(error))
    else:
        assert [label.name for label in labels] == [name.strip() for name in names]
        assert all(label == Label(label.name, stuff=label.stuff) for label in labels)


@given(DISTINCT, st.data())
def test_a_repeated_name_is_named_whatever_its_case_and_place(names: list[str], data: st.DataObject) -> None:
    repeated = data.draw(st.sampled_from(names)).upper()
    place = data.draw(st.integers(0, len(names)))
    with pytest.raises(ValueError, match=f"'{repeated}' \\(label {place + 1}\\)"):
        as_labels([*names[:place], repeated, *names[place:]])


def test_white_space_goes_and_synonyms_and_the_rest_stay() -> None:
    label = Label(" traffic light ", (" lights ", "signal"), stuff=True, color=(1, 2, 3))
    assert as_labels([label, "\tcat\n"]) == (
        Label("traffic light", ("lights", "signal"), stuff=True, color=(1, 2, 3)),
        Label("cat"),
    )


@pytest.fixture
def notes(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """The log, with no note given before."""
    _note.cache_clear()
    return caplog


@pytest.mark.parametrize("form", ["text", "list", "w.txt", "w.names", "w.yaml", "w.json"])
def test_text_is_stuff_by_its_mark_or_by_its_usual_name(tmp_path: Path, notes: Any, form: str) -> None:
    names = ["cat", "Sky", "dog [Stuff]", "grass [thing]", "wall[stuff] ", "bank [river]", "sky hook"]
    read = {
        "text": lambda: parse_labels(", ".join(names)),
        "list": lambda: as_labels(names),
        "w.txt": lambda: read_labels(write(tmp_path, form, "\n".join(names))),
        "w.names": lambda: read_labels(write(tmp_path, form, "\n".join(names))),
        "w.yaml": lambda: read_labels(write(tmp_path, form, "\n".join(f"- {name}" for name in names))),
        "w.json": lambda: read_labels(write(tmp_path, form, json.dumps(names, indent="\t"))),
    }[form]
    for _ in range(2):
        assert [(label.name, label.stuff) for label in read()] == [
            ("cat", False),
            ("Sky", True),
            ("dog", True),
            ("grass", False),
            ("wall", True),
            ("bank [river]", False),
            ("sky hook", False),
        ]
    (note,) = notes.messages
    assert note == 'labels that usually are stuff count as that: Sky; "Sky [thing]" makes one a thing'


def test_a_mark_after_a_synonym_counts_for_the_label(tmp_path: Path, notes: Any) -> None:
    content = "hot air, steam [stuff]\nsky, heaven\nwater [thing], pool\n"
    assert read_labels(write(tmp_path, "w.txt", content)) == (
        Label("hot air", ("steam",), stuff=True),
        Label("sky", ("heaven",), stuff=True),
        Label("water", ("pool",)),
    )
    with pytest.raises(ValueError, match=r"w.txt line 2 is marked as stuff and as a thing"):
        read_labels(write(tmp_path, "w.txt", "cat\ngoo [stuff], slime [thing]"))


def test_what_says_itself_that_it_is_a_thing_stays_one_and_background_is_not_noted(tmp_path: Path, notes: Any) -> None:
    assert as_labels([Label("sky")], ["wall"]) == (Label("sky"), Label("wall", stuff=True))
    assert read_labels(write(tmp_path, "w.yaml", "- {name: sky}")) == (Label("sky"),)
    assert not notes.messages


def test_usual_stuff_is_in_the_form_that_names_are_compared_in() -> None:
    assert all(name == name.strip().casefold() and name for name in USUAL_STUFF)
    assert {"sky", "grass", "road", "wall", "water", "tree"} <= USUAL_STUFF
    assert not {"cat", "person", "car", "table", "glass"} & USUAL_STUFF


def test_background_words_come_last_and_are_checked_with_the_labels() -> None:
    assert [label.name for label in as_labels(["cat"], ["sky", "wall"])] == ["cat", "sky", "wall"]
    with pytest.raises(ValueError, match=r"'cat' \(label 1\), 'Cat' \(background label 2\)"):
        as_labels(["cat"], ["sky", "Cat"])


def test_composed_and_decomposed_letters_are_the_same_name() -> None:
    with pytest.raises(ValueError, match="more than once"):
        as_labels(["caf\u00e9", "cafe\u0301"])


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([], "no labels"),
        (["cat", "  "], "label 2 has an empty name"),
        ([Label("cat", ("",))], "label 1 has an empty name or synonym"),
        (["cat", "\u200b"], "label 2 has an empty name"),
        (["\u2060 \ufeff\u00ad"], "label 1 has an empty name"),
        (["\u3164"], "label 1 has an empty name"),
        (["\u0301\ufe0f"], "label 1 has an empty name"),
        (["\x1b"], "label 1 has an empty name"),
        (["[stuff]"], "label 1 has an empty name"),
        ([Label("cat", ("\u200d",))], "label 1 has an empty name or synonym"),
        (["cat", "c\u200bat"], r"'cat' \(label 1\), 'c\\u200bat' \(label 2\)"),
        (["cat", "caf\udce9"], r"label 2 is 'caf\\udce9', expected text that can be written as UTF-8"),
        (["cat", Label("dog", ("\ud83d",))], r"label 2 is '\\ud83d', expected text that can be written"),
        (["cat", 3], "label 2 is 3, expected text or a Label"),
        ("cat, dog", "one text 'cat, dog', expected a list"),
    ],
)
def test_what_is_no_list_of_names_is_refused(labels: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        as_labels(labels)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": 3}, "label name is 3, expected text"),
        ({"name": "cat", "synonyms": "kitty"}, "synonyms of 'cat' are 'kitty', expected a tuple"),
        ({"name": "cat", "color": (0, 0, 256)}, r"color of 'cat' is \(0, 0, 256\)"),
        ({"name": "cat", "color": 5}, "color of 'cat' is 5, expected"),
        ({"name": "cat", "color": "red"}, "color of 'cat' is 'red', expected"),
        ({"name": "cat", "color": [1, 2, 3]}, r"color of 'cat' is \[1, 2, 3\], expected \(r, g, b\)"),
        ({"name": "cat", "stuff": "no"}, "stuff of 'cat' is 'no', expected true or false"),
    ],
)
def test_a_label_checks_itself(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Label(**fields)


@pytest.mark.parametrize("text", ["", " ", "cat,,dog", "cat, dog,"])
def test_empty_names_in_text_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="empty name"):
        parse_labels(text)


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_text_file_with_comments_blank_lines_windows_ends_and_byte_order_mark(tmp_path: Path) -> None:
    content = "\ufeffcat, kitty , tomcat\r\n# animals\r\n\r\n  C# book  # not C\r\n大きな犬\r\n"
    assert read_labels(write(tmp_path, "words.txt", content)) == (
        Label("cat", ("kitty", "tomcat")),
        Label("C# book"),
        Label("大きな犬"),
    )


def test_yaml_file_with_names_and_mappings(tmp_path: Path) -> None:
    content = (
        "- cat\n- {name: sky, synonyms: [heaven, clouds], stuff: true, color: '#0a64FF'}\n"
        "- {name: 'no', color: [1, 2, 255]}\n"
    )
    for name in ("words.yaml", "words.YML"):
        assert read_labels(write(tmp_path, name, content)) == (
            Label("cat"),
            Label("sky", ("heaven", "clouds"), stuff=True, color=(10, 100, 255)),
            Label("no", color=(1, 2, 255)),
        )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("w.txt", "cat\n\ndog,,puppy\n", "w.txt line 3 has an empty name or synonym"),
        ("w.txt", "cat\n# x\nCat\n", r"'cat' \(.*w.txt line 1\), 'Cat' \(.*w.txt line 3\)"),
        ("w.txt", "# nothing\n\n", "w.txt holds no label"),
        ("w.txt", b"caf\xe9\n", r"w.txt is not UTF-8 text \(byte 3\)"),
        ("w.csv", "cat\n", r"w.csv must end in .txt, .yaml, .yml"),
        ("w.yaml", "- cat\n- no\n", "w.yaml entry 2: name is False, expected text"),
        ("w.yaml", "- {synonyms: [a]}\n", "entry 1: name is None"),
        (
            "w.yaml",
            "- {name: cat, colour: red}\n",
            "unknown key 'colour'; known: name, synonyms, stuff, color",
        ),
        ("w.yaml", "- {name: cat, synonyms: kitty}\n", "synonyms are 'kitty', expected a list"),
        ("w.yaml", "- {name: cat, stuff: 1}\n", "stuff is 1, expected true or false"),
        ("w.yaml", "- {name: cat, color: red}\n", "color is 'red', expected \"#rrggbb\""),
        ("w.yaml", "- {name: cat, color: [1, 2, 256]}\n", "color is"),
        ("w.yaml", "- {name: cat, color: [1, 2, true]}\n", "color is"),
        ("w.yaml", "cat: 1\n", "w.yaml holds dict, expected a list"),
        ("w.yaml", "", "w.yaml holds NoneType"),
        ("w.yaml", "- [", "w.yaml is no YAML"),
        ("w.yaml", "[]", "w.yaml holds no label"),
        ("w.yaml", "[" * 9999, "w.yaml is nested too deeply"),
        ("w.json", "[" * 99999, "w.json is nested too deeply"),
        ("w.yaml", "- 2024-13-45", "w.yaml is no YAML"),
        ("w.json", '["cat",]', "w.json is no JSON"),
        ("w.json", '{"categories": []}', "w.json holds dict, expected a list"),
        ("w.json", '["caf\\udce9"]', r"entry 1 is 'caf\\udce9', expected text that can be written as UTF-8"),
        ("w.yaml", "- \u200b", "w.yaml entry 1 has an empty name"),
        ("w.names", "cat\n\u200b\n", "w.names line 2 has an empty name"),
    ],
)
def test_errors_of_label_files_say_where(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_labels(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_aliases_that_unfold_to_millions_make_no_long_message(tmp_path: Path) -> None:
    content = "- &a0 [x, x, x, x, x, x, x, x, x]\n"
    for layer in range(1, 8):
        content += f"- &a{layer} [{', '.join([f'*a{layer - 1}'] * 9)}]\n"
    with pytest.raises(ValueError, match="entry 1: name is") as caught:
        read_labels(write(tmp_path, "w.yaml", content))
    assert len(str(caught.value)) < 500


def test_a_name_that_begins_with_a_tilde_is_a_file_if_there_is_one(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    write(tmp_path, "~w.txt", "cat")
    write(tmp_path / "home", "w.txt", "dog")
    assert read_labels("~w.txt") == (Label("cat"),)
    assert read_labels("~/w.txt") == (Label("dog"),)
    with pytest.raises(FileNotFoundError, match=r"no label file ~gone\.txt"):
        read_labels("~gone.txt")


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no label file .*words.txt"):
        read_labels(tmp_path / "words.txt")
