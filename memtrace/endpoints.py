"""Which OTLP exporter a target means: ``otlp``, or a URL."""

from __future__ import annotations

import importlib
import os
from typing import Any, Literal, NamedTuple
from urllib.parse import SplitResult, urlsplit, urlunsplit

from opentelemetry.util.re import parse_env_headers

from .errors import ConfigurationError

Signal = Literal["traces", "metrics"]
SIGNALS: tuple[Signal, ...] = ("traces", "metrics")
HTTP, GRPC, JSON = "http/protobuf", "grpc", "http/json"

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
    (JSON, "traces"): ("opentelemetry.exporter.otlp.json.http.trace_exporter", "OTLPSpanExporter"),
    (JSON, "metrics"): (
        "opentelemetry.exporter.otlp.json.http.metric_exporter",
        "OTLPMetricExporter",
    ),
}

# The one that speaks JSON asks for other versions of what it stands on than the others do.
_PACKAGES = {
    HTTP: "memtrace-otel[otlp]",
    GRPC: "memtrace-otel[otlp]",
    JSON: "opentelemetry-exporter-otlp-json-http",
}


class Endpoint(NamedTuple):
    """Where one signal goes.

    Args:
        protocol: ``http/protobuf``, ``http/json`` or ``grpc``.
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
    url = _variable(signal, "ENDPOINT")[1] or default
    return Endpoint(protocol, None, _label(urlsplit(url)))


def _protocol(signal: Signal, default: str) -> str:
    variable, name = _variable(signal, "PROTOCOL")
    name = name.lower()
    if name and name not in _PACKAGES:
        raise ConfigurationError(f"{variable} is {name!r}; what works is {', '.join(_PACKAGES)}")
    return name or default


def _variable(signal: Signal, what: str) -> tuple[str, str]:
    """Name and value of the variable that says it of a signal, else of all; may be empty."""
    own = f"OTEL_EXPORTER_OTLP_{signal.upper()}_{what}"
    name = own if os.environ.get(own, "").strip() else f"OTEL_EXPORTER_OTLP_{what}"
    return name, os.environ.get(name, "").strip()


def is_left_out(signal: Signal) -> bool:
    """Whether the environment wants a signal sent nowhere: ``OTEL_METRICS_EXPORTER=none``."""
    return os.environ.get(f"OTEL_{signal.upper()}_EXPORTER", "").strip().lower() == "none"


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
            f"exporting by {place.protocol} needs a package that is not installed ({error}): "
            f'pip install "{_PACKAGES[place.protocol]}"'
        ) from error
    options: dict[str, Any] = {}
    if place.url is not None:
        options["endpoint"] = place.url
        if place.protocol == GRPC:
            options["insecure"] = place.url.startswith("http://")
    if headers:
        # An exporter that is given some does not look for those of the environment.
        known = parse_env_headers(_variable(signal, "HEADERS")[1], liberal=True)
        options["headers"] = {**known, **{name.lower(): value for name, value in headers.items()}}
    if not _variable(signal, "TIMEOUT")[1]:
        options["timeout"] = EXPORT_TIMEOUT_S
    try:
        return made(**options)
    except Exception as error:
        raise ConfigurationError(f"the exporter to {place.label} refused: {error}") from error
