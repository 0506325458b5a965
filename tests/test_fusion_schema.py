"""Names that are read from a folder: on no system does one lead out of it."""

from __future__ import annotations

import ntpath
import posixpath

import pytest
from pydantic import TypeAdapter, ValidationError

from fusion.formats import schema

POSIX, WINDOWS = (posixpath, "/out/semantic"), (ntpath, "C:\\out\\semantic")
NAMES = TypeAdapter(schema.Name)


@pytest.mark.parametrize("system", [POSIX, WINDOWS], ids=["posix", "windows"])
@pytest.mark.parametrize("name", ["", ".", "..", "../x", "/x", "a/b", "x/", "a\0b", "\ud800"])
def test_what_leads_out_is_no_name_anywhere(monkeypatch, system, name):
    monkeypatch.setattr(schema, "path", system[0])
    with pytest.raises(ValidationError, match="expected the name of a file"):
        NAMES.validate_python(name)


@pytest.mark.parametrize("name", ["..\\x", "\\x", "a\\b", "C:\\x", "C:x", "\\\\server\\share\\x"])
def test_separators_and_drives_of_windows_are_refused_there(monkeypatch, name):
    assert NAMES.validate_python(name) == name
    monkeypatch.setattr(schema, "path", ntpath)
    with pytest.raises(ValidationError, match="expected the name of a file"):
        NAMES.validate_python(name)


@pytest.mark.parametrize("system", [POSIX, WINDOWS], ids=["posix", "windows"])
@pytest.mark.parametrize("name", ["a", "..a", "a.b", "~", "-x", "犬", "a b", "\udcff"])
def test_other_names_stay_in_their_folder(monkeypatch, system, name):
    path, folder = system
    monkeypatch.setattr(schema, "path", path)
    assert NAMES.validate_python(name) == name
    assert path.dirname(path.normpath(path.join(folder, name + ".png"))) == folder
