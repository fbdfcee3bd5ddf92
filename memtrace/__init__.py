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
from .errors import ConfigurationError, MemtraceError, StaleSessionError, VocabularyError
from .instrument import checkpoint, checkpoints, managed_agent, propagate
from .layers import AgentState
from .policy import Policy
from .record import Snapshot
from .session import Session, current_session, profile_memory_usage
from .tokens import measure_tokens
from .values import (
    Action,
    ActionReport,
    Alert,
    Event,
    Item,
    Layer,
    LayerUsage,
    MemoryProfile,
    Point,
    TokenBudget,
)

if TYPE_CHECKING:
    from .export import export_to

__all__ = [
    "Action",
    "ActionReport",
    "AgentState",
    "Alert",
    "ConfigurationError",
    "Event",
    "Item",
    "Layer",
    "LayerUsage",
    "MemoryProfile",
    "MemtraceError",
    "Point",
    "Policy",
    "Session",
    "Snapshot",
    "StaleSessionError",
    "TokenBudget",
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
    "trigger_cleanup",
    "update_cache",
]


def __getattr__(name: str) -> Any:
    # The one public name that brings the SDK along: loaded when it is asked for.
    if name == "export_to":
        from .export import export_to

        return export_to
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
