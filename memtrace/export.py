"""``export_to``: from no telemetry to a readable tree or a backend, in one ``with``.

Nothing of the application's is replaced. Where it has an OpenTelemetry tracer provider, that one
is listened to for the length of the block; else memtrace has a provider of its own for the block,
and OpenTelemetry's global one is left alone.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import threading
import weakref
from collections.abc import Callable, Mapping
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any, Literal, Protocol, TextIO

from opentelemetry import metrics as metrics_api
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.sdk.trace.id_generator import IdGenerator

from . import config
from .console import Console
from .delivery import Delivery, Sent, within
from .endpoints import SIGNALS, Signal, endpoint, exporter, is_left_out
from .errors import ConfigurationError
from .telemetry import spans

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("memtrace")

_SHARE_OF_DEADLINE = 0.9
"""What of ``timeout_s`` is spent on waiting for the backend; the rest is for ending."""


class _Target(Protocol):
    def on_start(self, span: Any) -> None: ...
    def on_end(self, span: Any) -> None: ...
    def flush(self) -> None: ...
    def close(self) -> None: ...


class export_to:  # noqa: N801 (used as a keyword would be)
    """Show memtrace's telemetry, or send it, while a block runs: ``with export_to("console"):``.

    Works with ``async with`` too, which does not hold up the event loop at the end. Blocks may be
    nested: ``export_to("console")`` within ``export_to("otlp")`` does both. The application waits
    for a backend only at the end of the block, and never longer than ``timeout_s``; what was lost
    is then said in one log line.

    If the application has set a tracer provider, globally or with ``memtrace.configure``, its spans
    are exported with memtrace's, as it samples them. If not, only memtrace's own spans are
    recorded: to see a framework's around them, set OpenTelemetry up before the block. Metrics are
    exported where the application has no meter provider; where it has one, that one has them. Of
    nested blocks the outermost that exports metrics has them.

    With ``OTEL_SDK_DISABLED=true`` it does nothing, and says so once; with
    ``OTEL_TRACES_EXPORTER=none`` or ``OTEL_METRICS_EXPORTER=none`` that signal is not sent. What
    else the environment's ``OTEL_*`` say of samplers, limits, resources, intervals and the way to a
    backend holds too; where an argument says otherwise, the argument.

    Args:
        target: ``console``: a tree of text for each run. ``otlp``: the backend that the
            environment's ``OTEL_EXPORTER_OTLP_*`` name, else ``http://localhost:4318``. Or an
            OTLP URL: ``http(s)://host:port`` speaks HTTP with protobuf (gRPC on port 4317, else as
            ``OTEL_EXPORTER_OTLP_PROTOCOL`` says), ``grpc(s)://host:port`` speaks gRPC.
        timeout_s: Seconds, > 0, that the end of the block may take.
        headers: Headers for the backend besides those of ``OTEL_EXPORTER_OTLP_HEADERS``, for
            instance ``{"authorization": "Bearer …"}``.
        service_name: ``service.name`` of a provider made here; None: ``OTEL_SERVICE_NAME``.
        metrics: Export metrics too. The console shows none.
        file: Where the console writes; None: standard error.

    Raises:
        ConfigurationError: The target is none of these, OTLP's packages are not installed, or
            another argument cannot work.

    >>> import sys, memtrace
    >>> with memtrace.export_to("console", file=sys.stdout):
    ...     pass
    memtrace: no agent run and no checkpoint ended
    """

    def __init__(
        self,
        target: str,
        *,
        timeout_s: float = 5.0,
        headers: Mapping[str, str] | None = None,
        service_name: str | None = None,
        metrics: bool = True,
        file: TextIO | None = None,
    ) -> None:
        if not isinstance(target, str):
            raise ConfigurationError(f"export_to takes 'console', 'otlp' or a URL, got {target!r}")
        if not (isinstance(timeout_s, (int, float)) and 0 < timeout_s < math.inf):
            raise ConfigurationError(f"timeout_s must be seconds above 0, got {timeout_s!r}")
        if target != "console":
            endpoint(target, "traces")  # refused here, where it is written
        self._target_name = target
        self._timeout_s = timeout_s
        self._headers = dict(headers or {})
        self._service_name = service_name
        self._metrics = metrics
        self._file = file
        self._stop: Callable[[], None] | None = None

    def __enter__(self) -> Self:
        if self._stop is not None:
            raise ConfigurationError("this export_to was entered before: make a new one")
        self._stop = (lambda: None) if _sdk_is_disabled() else self._start()
        return self

    def __exit__(self, *_error: object) -> None:
        assert self._stop is not None
        self._stop()

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, *_error: object) -> None:
        assert self._stop is not None
        await asyncio.to_thread(self._stop)

    def _start(self) -> Callable[[], None]:
        resource = Resource.create({SERVICE_NAME: self._service_name} if self._service_name else {})
        target = self._make(resource)
        try:
            relay = _listen(target, resource)
        except BaseException:
            target.close()
            raise
        if self._service_name and not relay.owned:
            logger.info("memtrace: service_name is not used: the application's provider has one")

        def stop() -> None:
            relay.leave(target)
            try:
                target.close()
            except Exception as error:  # a stream that was closed meanwhile fails nobody
                spans.failure("export", error)

        return stop

    def _make(self, resource: Resource) -> _Target:
        if self._target_name == "console":
            return Console(self._file)
        places = {signal: endpoint(self._target_name, signal) for signal in SIGNALS}
        delivery = Delivery(places["traces"].label)

        def watched(signal: Signal) -> Any:
            return delivery.watch(exporter(places[signal], signal, self._headers), signal)

        processor = meters = None
        if not is_left_out("traces"):
            processor = BatchSpanProcessor(watched("traces"))
        if self._metrics and not is_left_out("metrics") and _has_no_meter_provider():
            reader = PeriodicExportingMetricReader(watched("metrics"))
            meters = MeterProvider([reader], resource, shutdown_on_exit=False)
        return Sent(delivery, processor, meters, self._timeout_s * _SHARE_OF_DEADLINE)


def _sdk_is_disabled() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true":
        return False
    _tell_disabled()
    return True


@functools.cache  # once a process
def _tell_disabled() -> None:
    logger.warning("memtrace: OTEL_SDK_DISABLED is true, so export_to does nothing")


# --- whom to listen to ----------------------------------------------------------------------------


class _Relay(SpanProcessor):
    """The one processor of ours on a provider: the SDK can add one, and never takes one off."""

    def __init__(self) -> None:
        self._targets: tuple[_Target, ...] = ()
        self._give_back: Callable[[], None] | None = None

    @property
    def owned(self) -> bool:
        """Whether the provider is memtrace's own."""
        return self._give_back is not None

    def join(self, target: _Target, give_back: Callable[[], None] | None) -> None:
        """Tell a target of spans from now on."""
        self._targets = (*self._targets, target)
        self._give_back = self._give_back or give_back

    def leave(self, target: _Target) -> None:
        """Tell it no more; the last one to leave gives a provider of memtrace's own back."""
        with _listening:
            self._targets = tuple(other for other in self._targets if other is not target)
            if not self._targets and self._give_back is not None:
                self._give_back()
                self._give_back = None  # it holds the provider, which is to go

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        self._tell("on_start", span)

    def on_end(self, span: Any) -> None:
        self._tell("on_end", span)

    def _tell(self, what: Literal["on_start", "on_end"], span: Any) -> None:
        for target in self._targets:
            try:
                getattr(target, what)(span)
            except Exception as error:
                spans.failure("export", error)

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return within(timeout_millis / 1e3, [target.flush for target in self._targets])


_listening = threading.RLock()
# By identity, and weakly: providers need not be hashable.
_relays: list[tuple[weakref.ref[Any], _Relay]] = []


def _listen(target: _Target, resource: Resource) -> _Relay:
    """Tell a target of spans from now on, of the application's provider or of one made here."""
    with _listening:
        provider = config.current.tracer_provider or trace.get_tracer_provider()
        give_back = None
        # Those of the API itself record nothing.
        if type(provider).__module__.startswith("opentelemetry.trace"):
            provider, give_back = _own_provider(resource)
        if not hasattr(provider, "add_span_processor"):
            raise ConfigurationError(
                f"the application's {type(provider).__qualname__} takes no span processors: "
                "add the exporter where that provider is set up"
            )
        relay = _relay_of(provider)
        relay.join(target, give_back)
        return relay


def _own_provider(resource: Resource) -> tuple[TracerProvider, Callable[[], None]]:
    provider = TracerProvider(
        resource=resource, id_generator=_id_generator(), shutdown_on_exit=False
    )
    before = config.configure(tracer_provider=provider).tracer_provider

    def give_back() -> None:
        if config.current.tracer_provider is provider:
            config.configure(tracer_provider=before)

    return provider, give_back


def _id_generator() -> IdGenerator | None:
    """The one that the environment names: of all settings the SDK leaves this to who sets it up."""
    name = os.environ.get("OTEL_PYTHON_ID_GENERATOR", "").strip()
    if not name:
        return None
    for found in entry_points(group="opentelemetry_id_generator", name=name):
        made: IdGenerator = found.load()()
        return made
    raise ConfigurationError(f"OTEL_PYTHON_ID_GENERATOR is {name!r}, which is not installed")


def _relay_of(provider: Any) -> _Relay:
    _relays[:] = [(ref, relay) for ref, relay in _relays if ref() is not None]
    for ref, relay in _relays:
        if ref() is provider:
            return relay
    relay = _Relay()
    provider.add_span_processor(relay)
    _relays.append((weakref.ref(provider), relay))
    return relay


def _has_no_meter_provider() -> bool:
    provider = config.current.meter_provider or metrics_api.get_meter_provider()
    if type(provider).__module__.startswith("opentelemetry.metrics"):
        return True
    logger.info("memtrace: metrics stay with the application's own meter provider")
    return False
