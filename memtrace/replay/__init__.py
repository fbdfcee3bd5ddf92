"""Recorded sessions: reading them, and playing them turn by turn through a managed agent."""

from .played import Replay, Sent, Turn
from .playing import open_session, play, turns
from .reading import Message, Recorded, RecordedMessage, read_session
from .sight import Names, Sighted

__all__ = [
    "Message",
    "Names",
    "Recorded",
    "RecordedMessage",
    "Replay",
    "Sent",
    "Sighted",
    "Turn",
    "open_session",
    "play",
    "read_session",
    "turns",
]
