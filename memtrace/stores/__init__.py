"""Where sessions are kept: the protocol, the embedded store, and the one for many machines.

Nothing here is imported until a session first keeps something.
"""

from .asleep import ColdError
from .base import (
    Damage,
    Entry,
    Found,
    Indexing,
    Loaded,
    OutOfStepError,
    Store,
    Ticket,
    Verification,
    Write,
    Written,
    settled,
)
from .opening import open_store
from .rows import Head, Row, StoredItem, encode
from .sqlite import SQLiteStore

__all__ = [
    "ColdError",
    "Damage",
    "Entry",
    "Found",
    "Head",
    "Indexing",
    "Loaded",
    "OutOfStepError",
    "Row",
    "SQLiteStore",
    "Store",
    "StoredItem",
    "Ticket",
    "Verification",
    "Write",
    "Written",
    "encode",
    "open_store",
    "settled",
]
