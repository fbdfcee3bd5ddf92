"""What changed in a session since it was last stored, and how it becomes rows."""

from .entrance import Entrance, copied
from .journal import Journal, Taken
from .rows import LET_GO, checked_tags, item_of, replay

__all__ = ["LET_GO", "Entrance", "Journal", "Taken", "checked_tags", "copied", "item_of", "replay"]
