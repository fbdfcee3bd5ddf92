"""Which OTLP exporter a target means: ``otlp``, or a URL."""

from __future__ import annotations

import importlib
import os
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from .errors import ConfigurationError

Signal = Literal["traces", "metrics"]
HTTP, GRPC = "http/protobuf", "grpc"

EXPORT_TIMEOUT_S = 2.0
"""Seconds that one export may take, unless ``OTEL_EXPORTER_OTLP_TIMEOUT`` says otherwise. With
OpenTelemetry's own 10 s, ending against a backend that does not answer takes as long."""

_EXPORTERS = {
    (HTTP, "traces"): ("opentelemetry.exporter.otlp.proto.http.trace_exporter", "OTLPSpanExporter"),
    (HTTP, "metrics"): (
        "opentelemetry.exporter.otlp.proto.http.metric_exporter",
        "OTLPMetricExporter",
    ),
    (GRPC, "traces"): ("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", "OTLPSpanExporter"),
    (GRPC, "metrics"): (
        "opentelemetry.exporter.otlp.proto.grpc.metric_exporter",
        "OTLPMetricExporter",
    ),
}


class Endpoint(NamedTuple):
    """Where one signal goes.

    Args:
        protocol: ``http/protobuf`` or ``grpc``.
        url: As the exporter takes it; None: it reads ``OTEL_EXPORTER_OTLP_*`` itself.
        label: The address for people, without user, password and query.
    """

    protocol: str
    url: str | None
    label: str


def endpoint(target: str, signal: Signal) -> Endpoint:
    """Where a signal goes that is exported to ``otlp`` or to a URL.

    Raises:
        ConfigurationError: The target is neither, or the environment names an unknown protocol.

    >>> endpoint("http://localhost:4318", "traces").url
    'http://localhost:4318/v1/traces'
    >>> endpoint("grpc://localhost:4317", "metrics")
    Endpoint(protocol='grpc', url='http://localhost:4317', label='http://localhost:4317')
    """
    if target == "otlp":
        return _from_environment(signal)
    try:
        parts = urlsplit(target)
        known = parts.scheme in ("http", "https", "grpc", "grpcs") and bool(parts.hostname)
        port = parts.port
    except ValueError:
        known = False
    if not known:
        raise ConfigurationError(
            f"cannot export to {target!r}; what works is 'console', 'otlp' (with the environment's "
            "OTEL_EXPORTER_OTLP_*), or a URL such as 'http://localhost:4318' or "
            "'grpc://localhost:4317'"
        )
    if parts.scheme.startswith("grpc"):
        protocol, scheme = GRPC, parts.scheme.replace("grpc", "http")
    else:
        # 4317 is the port that OTLP reserves for gRPC.
        protocol, scheme = _protocol(signal, GRPC if port == 4317 else HTTP), parts.scheme
    path = "" if protocol == GRPC else _signal_path(parts.path, signal)
    query = "" if protocol == GRPC else parts.query
    url = urlunsplit((scheme, parts.netloc, path, query, ""))
    return Endpoint(protocol, url, _label(parts._replace(scheme=scheme)))


def _from_environment(signal: Signal) -> Endpoint:
    protocol = _protocol(signal, HTTP)
    default = "http://localhost:4317" if protocol == GRPC else "http://localhost:4318"
    url = (
        os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT")
        or os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
        or default
    )
    return Endpoint(protocol, None, _label(urlsplit(url)))


def _protocol(signal: Signal, default: str) -> str:
    for variable in (
        f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL",
        "OTEL_EXPORTER_OTLP_PROTOCOL",
    ):
        name = os.environ.get(variable, "").strip().lower()
        if name in (HTTP, GRPC):
            return name
        if name:
            raise ConfigurationError(
                f"{variable} is {name!r}; memtrace exports by {HTTP} or {GRPC}"
            )
    return default


def _signal_path(path: str, signal: Signal) -> str:
    """A base address's path with the signal's own at its end, as OTLP says."""
    base = path.rstrip("/")
    for other in ("/v1/traces", "/v1/metrics"):
        base = base.removesuffix(other)
    return f"{base}/v1/{signal}"


def _label(parts: SplitResult) -> str:
    netloc = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, netloc, parts.path.rstrip("/"), "", ""))


def exporter(place: Endpoint, signal: Signal, headers: dict[str, str] | None) -> Any:
    """The exporter of OpenTelemetry's for an endpoint.

    Raises:
        ConfigurationError: The package with it is not installed, or it refuses its settings.
    """
    module, name = _EXPORTERS[place.protocol, signal]
    try:
        made = getattr(importlib.import_module(module), name)
    except ImportError as error:
        raise ConfigurationError(
            f"exporting by OTLP needs a package that is not installed ({error}): "
            'pip install "memtrace-otel[otlp]"'
        ) from error
    options: dict[str, Any] = {}
    if place.url is not None:
        options["endpoint"] = place.url
        if place.protocol == GRPC:
            options["insecure"] = place.url.startswith("http://")
    if headers:
        options["headers"] = {name.lower(): value for name, value in headers.items()}
    if not _timeout_is_set(signal):
        options["timeout"] = EXPORT_TIMEOUT_S
    try:
        return made(**options)
    except Exception as error:
        raise ConfigurationError(f"the exporter to {place.label} refused: {error}") from error


def _timeout_is_set(signal: Signal) -> bool:
    specific = f"OTEL_EXPORTER_OTLP_{signal.upper()}_TIMEOUT"
    return bool(os.environ.get(specific) or os.environ.get("OTEL_EXPORTER_OTLP_TIMEOUT"))
