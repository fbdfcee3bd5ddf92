"""The OpenTelemetry instrumentor: ``opentelemetry-instrument python app.py`` finds it by itself."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry.instrumentation.instrumentor import BaseInstrumentor

from ..telemetry import spans
from .clients import install, uninstall


class MemtraceInstrumentor(BaseInstrumentor):
    """Observes what an application's model calls carry, and changes nothing of them.

        MemtraceInstrumentor().instrument()
        ...
        MemtraceInstrumentor().uninstrument()

    Spans and metrics go to OpenTelemetry's providers, or to those of ``memtrace.configure``. To
    leave it out under ``opentelemetry-instrument``, name it in
    ``OTEL_PYTHON_DISABLED_INSTRUMENTATIONS``: ``memtrace``.
    """

    def instrumentation_dependencies(self) -> Collection[str]:
        """None: it observes whichever clients there are, and those imported later."""
        return ()

    def _instrument(self, **_options: Any) -> None:
        try:
            install()
        except Exception as error:  # an application starts whatever becomes of this
            spans.failure("observing", error)

    def _uninstrument(self, **_options: Any) -> None:
        uninstall()
