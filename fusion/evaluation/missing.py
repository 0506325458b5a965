"""The error of a data set whose files are not where they should be; light, so that a command line can catch it."""

from __future__ import annotations


class MissingFilesError(FileNotFoundError):
    """Files that are missing, in one line, and below it the tree of files that is expected."""

    def __init__(self, what: str, tree: str = "") -> None:
        super().__init__(f"{what}\n{tree}" if tree else what)
        self.what = what
        self.tree = tree  # empty until it is known which data set the files are of
