"""Recalling: what of everything a session ever held has to do with a query."""

from .asking import gathered, recalled
from .meaning import LOOP
from .passages import Passage
from .recaller import Recaller

__all__ = ["LOOP", "Passage", "Recaller", "gathered", "recalled"]
