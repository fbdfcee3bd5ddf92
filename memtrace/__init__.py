"""memtrace keeps an agent's memory under its token budget, and shows it through OpenTelemetry.

The public names are those in ``__all__``; the modules behind them may move.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__

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
    from .archiving import ArchiveReport, archive
    from .baggage import Caller, from_baggage
    from .config import configure
    from .decide.cache_advice import CacheAdvice
    from .decide.cache_play import CacheSetting
    from .decide.plan import plan
    from .errors import (
        ConfigurationError,
        MemtraceError,
        StaleSessionError,
        StoreDamagedError,
        StoreError,
        StoreVersionError,
        VocabularyError,
    )
    from .export import export_to
    from .exporting import export_runs, export_sessions
    from .findings import Applied, BudgetChange, Cause, Finding, Remedy
    from .instrument import checkpoint, checkpoints, managed_agent, propagate
    from .layers import AgentState
    from .outlook import Forecast, TurnsLeft
    from .policy import Policy
    from .prices import Price
    from .recalling import Passage
    from .record import Snapshot
    from .redaction import redact_secrets
    from .retaining import (
        RetentionPlan,
        RetentionReport,
        RetentionRules,
        delete_sessions,
        pin_session,
        retention,
        reviewed,
        reviews_due,
    )
    from .runlog import RunLog
    from .session import Session, current_session, profile_memory_usage, verify
    from .stores import Damage, SQLiteStore, Verification
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

__all__ = [
    "Action",
    "ActionReport",
    "AgentState",
    "Alert",
    "Applied",
    "ArchiveReport",
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
    "Price",
    "Remedy",
    "RetentionPlan",
    "RetentionReport",
    "RetentionRules",
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
    "archive",
    "checkpoint",
    "checkpoints",
    "cleanup_expired_items",
    "compress_memory",
    "configure",
    "consolidate_memory",
    "create_memory_snapshot",
    "current_session",
    "delete_sessions",
    "diagnose",
    "export_runs",
    "export_sessions",
    "export_to",
    "from_baggage",
    "managed_agent",
    "measure_tokens",
    "pin_session",
    "plan",
    "profile_memory_usage",
    "propagate",
    "redact_secrets",
    "retention",
    "reviewed",
    "reviews_due",
    "trigger_cleanup",
    "update_cache",
    "verify",
]


_LATE = {
    "Action": "values",
    "ActionReport": "values",
    "AgentState": "layers",
    "Alert": "values",
    "Applied": "findings",
    "ArchiveReport": "archiving",
    "BudgetChange": "findings",
    "CacheAdvice": "decide.cache_advice",
    "CacheSetting": "decide.cache_play",
    "Caller": "baggage",
    "Cause": "findings",
    "ConfigurationError": "errors",
    "Damage": "stores",
    "Event": "values",
    "Finding": "findings",
    "Forecast": "outlook",
    "Item": "values",
    "Layer": "values",
    "LayerUsage": "values",
    "LoggedRun": "values",
    "MemoryProfile": "values",
    "MemtraceError": "errors",
    "Passage": "recalling",
    "Point": "values",
    "Policy": "policy",
    "Price": "prices",
    "Remedy": "findings",
    "RetentionPlan": "retaining",
    "RetentionReport": "retaining",
    "RetentionRules": "retaining",
    "RunLog": "runlog",
    "SQLiteStore": "stores",
    "Session": "session",
    "Snapshot": "record",
    "StaleSessionError": "errors",
    "StoreDamagedError": "errors",
    "StoreError": "errors",
    "StoreVersionError": "errors",
    "TokenBudget": "values",
    "TurnsLeft": "outlook",
    "Verification": "stores",
    "VocabularyError": "errors",
    "archive": "archiving",
    "checkpoint": "instrument",
    "checkpoints": "instrument",
    "cleanup_expired_items": "actions",
    "compress_memory": "actions",
    "configure": "config",
    "consolidate_memory": "actions",
    "create_memory_snapshot": "actions",
    "current_session": "session",
    "delete_sessions": "retaining",
    "diagnose": "_diagnose",
    "export_runs": "exporting",
    "export_sessions": "exporting",
    "export_to": "export",
    "from_baggage": "baggage",
    "managed_agent": "instrument",
    "measure_tokens": "tokens",
    "pin_session": "retaining",
    "plan": "decide.plan",
    "profile_memory_usage": "session",
    "propagate": "instrument",
    "redact_secrets": "redaction",
    "retention": "retaining",
    "reviewed": "retaining",
    "reviews_due": "retaining",
    "trigger_cleanup": "actions",
    "update_cache": "actions",
    "verify": "session",
}
"""Where the public names are. Each is loaded when it is first used: a program that only asks for
the command's help, or for one name, waits for no other."""


def __getattr__(name: str) -> Any:
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_LATE[name]}", __name__), name)
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
