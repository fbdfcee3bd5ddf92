"""memtrace keeps an agent's memory under its token budget, and shows it through OpenTelemetry.

The public names are those in ``__all__``; the modules behind them may move.
"""

from typing import TYPE_CHECKING, Any

from ._version import __version__
from .actions import (
    cleanup_expired_items,
    compress_memory,
    consolidate_memory,
    create_memory_snapshot,
    trigger_cleanup,
    update_cache,
)
from .config import configure
from .decide import plan
from .errors import (
    ConfigurationError,
    MemtraceError,
    StaleSessionError,
    StoreDamagedError,
    StoreError,
    StoreVersionError,
    VocabularyError,
)
from .instrument import checkpoint, checkpoints, managed_agent, propagate
from .layers import AgentState
from .policy import Policy
from .record import Snapshot
from .redaction import redact_secrets
from .runlog import RunLog
from .session import Session, current_session, profile_memory_usage, verify
from .tokens import measure_tokens
from .values import (
    Action,
    ActionReport,
    Alert,
    Event,
    Item,
    Layer,
    LayerUsage,
    LoggedRun,
    MemoryProfile,
    Point,
    TokenBudget,
)

if TYPE_CHECKING:
    from .export import export_to
    from .stores import Damage, SQLiteStore, Verification

__all__ = [
    "Action",
    "ActionReport",
    "AgentState",
    "Alert",
    "ConfigurationError",
    "Damage",
    "Event",
    "Item",
    "Layer",
    "LayerUsage",
    "LoggedRun",
    "MemoryProfile",
    "MemtraceError",
    "Point",
    "Policy",
    "RunLog",
    "SQLiteStore",
    "Session",
    "Snapshot",
    "StaleSessionError",
    "StoreDamagedError",
    "StoreError",
    "StoreVersionError",
    "TokenBudget",
    "Verification",
    "VocabularyError",
    "__version__",
    "checkpoint",
    "checkpoints",
    "cleanup_expired_items",
    "compress_memory",
    "configure",
    "consolidate_memory",
    "create_memory_snapshot",
    "current_session",
    "export_to",
    "managed_agent",
    "measure_tokens",
    "plan",
    "profile_memory_usage",
    "propagate",
    "redact_secrets",
    "trigger_cleanup",
    "update_cache",
    "verify",
]


def __getattr__(name: str) -> Any:
    # Public names that bring the SDK or a database along: loaded when they are asked for.
    if name == "export_to":
        from .export import export_to

        return export_to
    if name in ("Damage", "SQLiteStore", "Verification"):
        from . import stores

        return getattr(stores, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
