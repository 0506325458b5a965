"""`emerseg validate`: an output folder → its faults. `recipe.py` is the way there, every other file a step of it."""

from fusion.validate.faults import Fault
from fusion.validate.recipe import count, validate

__all__ = ["Fault", "count", "validate"]
