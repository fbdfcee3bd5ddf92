"""What changed in a session since it was last stored, and how it becomes rows."""

from .journal import Journal, Taken
from .rows import item_of, replay

__all__ = ["Journal", "Taken", "item_of", "replay"]
