"""Idle sessions leave memory and are stored compressed, and come back whole on their next use."""

from .away import is_away
from .by_hand import ArchiveReport, archive
from .sweeping import after_open, watch

__all__ = ["ArchiveReport", "after_open", "archive", "is_away", "watch"]
