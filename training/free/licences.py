"""Licences that ask for nothing but to name the author, and Debian's machine-readable list of who licensed what."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

# Allow any use and any change, of what is made from them too; CC-BY, MIT and OFL ask to name the author.
FREE = re.compile(r"public-domain|CC0(-1\.0)?|CC-BY-\d\.\d|MIT|Expat|OFL-1\.1|Apache-2\.0|BSD-\d-Clause", re.I)


def is_free(licence: str) -> bool:
    """Whether `licence`, a name as Debian or SPDX write it, is one of FREE: of "A or B" one, of "A and B" both."""
    either = [part.split(" and ") for part in licence.strip().split(" or ")]
    return any(all(FREE.fullmatch(name.strip()) for name in both) for both in either)


def file_licences(text: str) -> Iterator[tuple[str, str]]:
    """(pattern of paths, licence) of the paragraphs of a debian/copyright file, in their order.

    Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/. A licence whose paragraph speaks of
    another one in a comment, such as the address of a file "(by-sa)", counts as unknown.
    """
    for paragraph in re.split(r"\n\s*\n", text):
        files = re.search(r"^Files:(.*?)(?=^\S|\Z)", paragraph, re.S | re.M)
        licence = re.search(r"^License:\s*(.*?)\s*$", paragraph, re.M)
        if files and licence:
            doubtful = re.search(r"by-(sa|nc|nd)\b", paragraph.replace(licence[0], ""), re.I)
            for pattern in files[1].split():
                yield pattern, "unknown" if doubtful else licence[1]


def licence_of(path: str, licences: list[tuple[str, str]]) -> str:
    """The licence of `path`: of the last pattern that fits, as the format has it; unknown if none does."""
    fitting = [licence for pattern, licence in licences if fnmatchcase(path, pattern)]
    return fitting[-1] if fitting else "unknown"
