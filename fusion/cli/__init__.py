"""The command line `emerseg`: arguments in, calls of the packages, one clear line for every wrong use.

Nothing heavy is imported before a command runs, so that `emerseg --help` answers at once.
"""

from fusion.cli.app import app, main

__all__ = ["app", "main"]
