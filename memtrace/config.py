"""Process-wide settings: one frozen value, swapped whole, read with one attribute access.

Reading ``config.current`` needs no lock: :func:`configure` builds a new :class:`Config` and
binds it in one step, so a reader sees the old settings or the new ones, never a mixture.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from .errors import ConfigurationError
from .values import STAGES

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

logger = logging.getLogger("memtrace")


@dataclass(frozen=True, slots=True)
class Config:
    """What :func:`configure` sets.

    Args:
        enabled: False: decorated functions run bare. Environment: ``MEMTRACE_DISABLED=true``.
        strict: Raise memtrace's own failures instead of logging and counting them. For tests.
        token_budget: Tokens, where neither a session nor a policy names a budget. Environment:
            ``MEMTRACE_TOKEN_BUDGET``.
        encoding: Default encoding's name, or ``approx`` for a marked estimate that needs no
            vocabulary. Environment: ``MEMTRACE_ENCODING``.
        hooks: Hooks for every session, as ``(stage, callable)`` pairs.
        tracer_provider: The provider to use; None: OpenTelemetry's global one.
        meter_provider: The same for metrics.
        capture_content: Put content on spans. Off by default: no content leaves.
        log_events: Send memtrace's events as log records instead of span events.
    """

    enabled: bool = True
    strict: bool = False
    token_budget: int | None = None
    encoding: str = "o200k_base"
    hooks: tuple[tuple[str, Callable[[Any], Any]], ...] = ()
    tracer_provider: TracerProvider | None = None
    meter_provider: MeterProvider | None = None
    capture_content: bool = False
    log_events: bool = False


def _flag(name: str, text: str) -> bool:
    word = text.strip().lower()
    if word in ("1", "true", "yes", "on"):
        return True
    if word in ("", "0", "false", "no", "off"):
        return False
    raise ConfigurationError(f"{name} must be true or false, got {text!r}")


def _positive(name: str, text: str) -> int:
    try:
        value = int(text.replace("_", ""))
    except ValueError:
        value = 0
    if value <= 0:
        raise ConfigurationError(
            f"{name} must be a whole number of tokens above 0, got {text!r}; e.g. {name}=128000"
        )
    return value


def from_environment(environ: Mapping[str, str]) -> Config:
    """Settings from ``MEMTRACE_*`` variables.

    A variable that cannot be used is named in one logged error and left at its default: an
    application must start whatever its environment says.

    >>> from_environment({"MEMTRACE_TOKEN_BUDGET": "128_000"}).token_budget
    128000
    """
    settings: dict[str, Any] = {}
    for variable, setting, read in (
        ("MEMTRACE_DISABLED", "enabled", lambda name, text: not _flag(name, text)),
        ("MEMTRACE_TOKEN_BUDGET", "token_budget", _positive),
        ("MEMTRACE_ENCODING", "encoding", lambda _, text: text.strip() or "o200k_base"),
    ):
        text = environ.get(variable)
        if text is None:
            continue
        try:
            settings[setting] = read(variable, text)
        except ConfigurationError as error:
            logger.error("memtrace ignores an environment variable: %s", error)
    return Config(**settings)


current: Config = from_environment(os.environ)
_changing = threading.Lock()


def configure(**settings: Any) -> Config:
    """Change process-wide settings; those not named stay. Returns the settings before.

    Takes the fields of :class:`Config`. ``hooks`` takes ``(stage, callable)`` pairs.

    Raises:
        ConfigurationError: There is no setting of that name, or its value cannot work.

    >>> before = configure(strict=True)
    >>> restored = configure(strict=before.strict)
    """
    global current
    known = {f.name for f in fields(Config)}
    unknown = sorted(set(settings) - known)
    if unknown:
        raise ConfigurationError(
            f"no setting named {', '.join(unknown)}; the settings are {', '.join(sorted(known))}"
        )
    if "hooks" in settings:
        settings["hooks"] = _pairs(settings["hooks"])
    budget = settings.get("token_budget")
    if budget is not None and (
        isinstance(budget, bool) or not isinstance(budget, int) or budget <= 0
    ):
        raise ConfigurationError(
            f"token_budget must be a whole number of tokens above 0, got {budget!r}"
        )
    with _changing:
        before = current
        current = replace(before, **settings)
    return before


def _pairs(hooks: Iterable[Any]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    pairs = []
    for entry in hooks:
        if not (isinstance(entry, tuple) and len(entry) == 2 and callable(entry[1])):
            raise ConfigurationError(
                f"hooks takes (stage, callable) pairs, for example "
                f"hooks=[('after_run', print)]; got {entry!r}"
            )
        if entry[0] not in STAGES:
            raise ConfigurationError(
                f"no stage named {entry[0]!r}; the stages are {', '.join(STAGES)}"
            )
        pairs.append(entry)
    return tuple(pairs)
