"""How much of what an OTLP exporter was handed arrived, and waiting for it no longer than said.

An exporter of OpenTelemetry's logs every attempt that fails and tells its caller nothing. Here
its logging is kept to one warning when a backend first fails and one line at the end with the
number of spans that were lost; exporters that the application set up itself log as before.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Sequence
from contextvars import ContextVar
from typing import Any, Literal

from . import config
from .endpoints import Signal

logger = logging.getLogger("memtrace")

_REASON_LENGTH = 400


class Delivery:
    """Counts what was handed over and what arrived, and says so once.

    Args:
        label: The backend's address, for people.
    """

    def __init__(self, label: str) -> None:
        self.label = label
        self._handed = itertools.count()  # one step in the interpreter: safe from any thread
        self._arrived = 0
        self._metrics: Literal["none", "under way", "lost", "arrived"] = "none"
        self._reason = ""
        self._warned = False
        self.closed = False

    def hand_over(self) -> None:
        """A span ended, and is to be exported."""
        next(self._handed)

    def overflow(self) -> None:
        """A span ended for which the queue has no place."""
        self._warn("too slowly: the queue is full")

    def watch(self, exporter: Any, signal: Signal) -> Any:
        """The exporter, with its results counted and its logging kept quiet."""
        for kind in type(exporter).__mro__:
            if kind.__module__.startswith("opentelemetry.exporter."):
                filters = logging.getLogger(kind.__module__).filters
                if _quiet not in filters:
                    filters.insert(0, _quiet)  # before those that drop what was said lately
        return _Watched(exporter, signal, self)

    def hush(self) -> None:
        """Say nothing more before :meth:`close`, which says it all."""
        self._warned = True

    def close(self, *, in_time: bool) -> None:
        """Let nothing more be sent, and say what was lost, if anything was.

        Args:
            in_time: All attempts had ended.
        """
        self.closed = True
        handed = next(self._handed)
        lost = []
        if handed > self._arrived:
            lost.append(f"{handed - self._arrived:,} of {handed:,} spans")
        if self._metrics in ("under way", "lost"):
            lost.append("the last metrics")
        if lost:
            reason = self._reason or ("the queue was full" if in_time else "no answer in time")
            logger.warning(
                "memtrace: %s did not reach %s: %s", " and ".join(lost), self.label, reason
            )

    def trying(self, signal: Signal) -> None:
        """An export has begun."""
        if signal == "metrics":
            self._metrics = "under way"

    def tried(self, signal: Signal, batch: Any, arrived: bool, reason: str) -> None:
        """An export has ended."""
        if signal == "metrics":
            self._metrics = "arrived" if arrived else "lost"
        elif arrived:
            self._arrived += len(batch)
        if arrived:
            return
        self._reason = reason or self._reason or "no reason given"
        self._warn(self._reason)

    def _warn(self, why: str) -> None:
        if self._warned:
            return
        self._warned = True
        logger.warning(
            "memtrace: telemetry does not reach %s (%s); the application goes on, and what is lost "
            "is counted at the end",
            self.label,
            why,
        )


class _Watched:
    """An exporter whose results are counted; in all else the exporter itself."""

    def __init__(self, exporter: Any, signal: Signal, delivery: Delivery) -> None:
        self._exporter = exporter
        self._signal: Signal = signal
        self._delivery = delivery

    def export(self, batch: Any, *args: Any, **options: Any) -> Any:
        if self._delivery.closed:
            return None  # what calls an exporter does not read its answer
        heard: list[str] = []
        token = _heard.set(heard)
        self._delivery.trying(self._signal)
        result = None
        try:
            result = self._exporter.export(batch, *args, **options)
        except Exception as error:
            heard.insert(0, f"{type(error).__name__}: {error}")
        finally:
            _heard.reset(token)
        arrived = getattr(result, "name", "") == "SUCCESS"
        # The first thing said of an attempt is its cause; the rest is that it was tried again.
        reason = heard[0][:_REASON_LENGTH] if heard else ""
        self._delivery.tried(self._signal, batch, arrived, reason)
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exporter, name)


class Sent:
    """Spans and metrics, sent in the background while the application goes on.

    Args:
        delivery: Counts them.
        processor: The SDK's batch processor; None: no spans are sent.
        meters: A meter provider of memtrace's own, in use until the end; None: no metrics are sent.
        deadline_s: Seconds that the end may take.
    """

    def __init__(
        self, delivery: Delivery, processor: Any | None, meters: Any | None, deadline_s: float
    ) -> None:
        self._delivery = delivery
        self._processor = processor
        # The processor drops the oldest and logs that, each 20 s for as long as it lasts, on the
        # caller's path. To look first costs nothing, and what is dropped is counted all the same.
        self._queue = getattr(getattr(processor, "_batch_processor", None), "_queue", None)
        self._meters = meters
        self._deadline_s = deadline_s
        if meters is not None:
            self._before = config.configure(meter_provider=meters).meter_provider

    def on_start(self, span: Any) -> None:
        """Nothing is sent of what has not ended."""

    def on_end(self, span: Any) -> None:
        """Queue a span, or drop it where the queue is full."""
        if self._processor is None or not span.context.trace_flags.sampled:
            return
        self._delivery.hand_over()
        queue = self._queue
        if queue is not None and len(queue) == queue.maxlen:
            self._delivery.overflow()
        else:
            self._processor.on_end(span)

    def flush(self) -> None:
        """Send what is queued."""
        if self._processor is not None:
            self._processor.force_flush()

    def close(self) -> None:
        """Send what is queued, within the deadline, and say what was lost."""
        self._delivery.hush()
        steps: list[Callable[[], Any]] = []
        if self._processor is not None:
            steps.append(self._processor.shutdown)  # which sends what is queued
        if self._meters is not None:
            if config.current.meter_provider is self._meters:
                config.configure(meter_provider=self._before)
            steps.append(self._meters.shutdown)
        self._delivery.close(in_time=within(self._deadline_s, steps))


_heard: ContextVar[list[str] | None] = ContextVar("memtrace_heard", default=None)


class _Quiet(logging.Filter):
    """Keeps what an exporter logs while it works for us, and lets everything else through."""

    def filter(self, record: logging.LogRecord) -> bool:
        heard = _heard.get()
        if heard is None:
            return True
        if record.levelno >= logging.WARNING:
            heard.append(record.getMessage())
        return False


_quiet = _Quiet()


def within(seconds: float, steps: Sequence[Callable[[], Any]]) -> bool:
    """Run steps side by side, and wait for them so long and no longer; whether all ended.

    Neither the processor's nor the reader's own time limits hold against a backend that takes
    connections and never answers. A thread that is left behind keeps no process alive.

    >>> within(5, [lambda: None])
    True
    """
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=_quietly, args=(step,), daemon=True) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _quietly(step: Callable[[], Any]) -> None:
    try:
        step()
    except Exception as error:
        logger.debug("memtrace: while ending an export: %s", error)
