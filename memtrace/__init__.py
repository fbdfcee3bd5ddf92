"""memtrace keeps an agent's memory under its token budget, and shows it through OpenTelemetry.

The public names are those in ``__all__``; the modules behind them may move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__
from .baggage import Caller, from_baggage
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
    from ._diagnose import diagnose
    from .actions import (
        cleanup_expired_items,
        compress_memory,
        consolidate_memory,
        create_memory_snapshot,
        trigger_cleanup,
        update_cache,
    )
    from .decide.cache_advice import CacheAdvice
    from .decide.cache_play import CacheSetting
    from .export import export_to
    from .findings import Applied, BudgetChange, Cause, Finding, Remedy
    from .outlook import Forecast, TurnsLeft
    from .recalling import Passage
    from .stores import Damage, SQLiteStore, Verification

__all__ = [
    "Action",
    "ActionReport",
    "AgentState",
    "Alert",
    "Applied",
    "BudgetChange",
    "CacheAdvice",
    "CacheSetting",
    "Caller",
    "Cause",
    "ConfigurationError",
    "Damage",
    "Event",
    "Finding",
    "Forecast",
    "Item",
    "Layer",
    "LayerUsage",
    "LoggedRun",
    "MemoryProfile",
    "MemtraceError",
    "Passage",
    "Point",
    "Policy",
    "Remedy",
    "RunLog",
    "SQLiteStore",
    "Session",
    "Snapshot",
    "StaleSessionError",
    "StoreDamagedError",
    "StoreError",
    "StoreVersionError",
    "TokenBudget",
    "TurnsLeft",
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
    "diagnose",
    "export_to",
    "from_baggage",
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


_LATE = {
    "Applied": "findings",
    "BudgetChange": "findings",
    "CacheAdvice": "decide.cache_advice",
    "CacheSetting": "decide.cache_play",
    "Cause": "findings",
    "Damage": "stores",
    "Finding": "findings",
    "Forecast": "outlook",
    "Passage": "recalling",
    "Remedy": "findings",
    "SQLiteStore": "stores",
    "TurnsLeft": "outlook",
    "Verification": "stores",
    "cleanup_expired_items": "actions",
    "compress_memory": "actions",
    "consolidate_memory": "actions",
    "create_memory_snapshot": "actions",
    "diagnose": "_diagnose",
    "export_to": "export",
    "trigger_cleanup": "actions",
    "update_cache": "actions",
}
"""Public names that bring the SDK, a database or half of memtrace along, and where they are."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATE[name]}", __name__), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
