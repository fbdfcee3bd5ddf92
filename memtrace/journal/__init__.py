"""What changed in a session since it was last stored, and how it becomes rows."""

from .entrance import Entrance, copied
from .journal import Journal, Taken
from .rows import item_of, replay

__all__ = ["Entrance", "Journal", "Taken", "copied", "item_of", "replay"]
