"""Preset files are found by name and by path, and what is no preset is named."""

from __future__ import annotations

import pytest

from ground.presets import list_presets, read_preset, read_section


def test_a_file_is_read_by_its_path(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("description: x\novseg: {model: 'builtin:mini'}\n")
    assert read_preset(path) == read_preset(str(path)) == {"description": "x", "ovseg": {"model": "builtin:mini"}}
    assert read_section(path, "ovseg") == {"model": "builtin:mini"}


def test_every_preset_of_the_project_is_found_by_its_name():
    assert {"mini", "mini-research", "toy", "sd14", "sd15", "sd21"} <= set(list_presets())
    assert all(read_section(name, "emerdiff")["model"] for name in list_presets())


@pytest.mark.parametrize("name", ["sd99", "../pyproject", ""])
def test_an_unknown_name_is_answered_with_the_known_ones(name):
    with pytest.raises(ValueError, match=r"^preset is .*, expected one of .*mini.*, or the path of a \.yaml file$"):
        read_preset(name)


def test_a_missing_file_is_said_to_be_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no preset file .*none\.yaml"):
        read_preset(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"- a\n- b\n", "holds list, expected a mapping of sections"),
        (b"a: [1,\n b: }", "cannot be read as YAML"),
        (b"\xff\xfe\xfd", "cannot be read as YAML"),
        (b"[" * 9999, "cannot be read as YAML"),
        (b"a: 2024-13-45", "cannot be read as YAML"),
    ],
)
def test_what_is_no_mapping_is_named_in_one_line(tmp_path, content, message):
    path = tmp_path / "mine.yaml"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf"mine\.yaml.*{message}") as error:
        read_preset(path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", ["ovseg: {}\n", "emerdiff: 3\n"])
def test_a_section_must_be_a_mapping(tmp_path, content):
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(ValueError, match=r"section emerdiff is (None|3), expected a mapping of settings"):
        read_section(path, "emerdiff")
