"""What changes memory: each takes a session, and returns a report that was measured after it."""

from .keep import consolidate_memory, create_memory_snapshot, put_back, update_cache
from .relief import cleanup_expired_items, compress_memory, trigger_cleanup

__all__ = [
    "cleanup_expired_items",
    "compress_memory",
    "consolidate_memory",
    "create_memory_snapshot",
    "put_back",
    "trigger_cleanup",
    "update_cache",
]
