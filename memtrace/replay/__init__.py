"""Recorded sessions: reading them, and playing them turn by turn through a managed agent."""

from .playing import Replay, Sent, Turn, open_session, play, turns
from .reading import Message, Recorded, RecordedMessage, read_session

__all__ = [
    "Message",
    "Recorded",
    "RecordedMessage",
    "Replay",
    "Sent",
    "Turn",
    "open_session",
    "play",
    "read_session",
    "turns",
]
