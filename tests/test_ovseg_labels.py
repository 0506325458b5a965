"""Words in, labels out: exactly the user's words, and errors that name the culprit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovseg import Label, as_labels, parse_labels, read_labels

NAMES = st.text(st.characters(blacklist_characters=",", blacklist_categories=("Cs",)), min_size=1).filter(
    lambda text: text.strip()
)
DISTINCT = st.lists(st.text("abcdefgh", min_size=1), min_size=1, max_size=20, unique=True)


@given(st.lists(NAMES, min_size=1, max_size=8))
def test_parsed_names_are_the_given_ones_trimmed_or_refused(names: list[str]) -> None:
    try:
        labels = parse_labels(",".join(names))
    except ValueError as error:
        assert "more than once" in str(error)
    else:
        assert [label.name for label in labels] == [name.strip() for name in names]
        assert all(label == Label(label.name) for label in labels)


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
    ],
)
def test_errors_of_label_files_say_where(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        read_labels(write(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_a_missing_label_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no label file .*words.txt"):
        read_labels(tmp_path / "words.txt")
