"""What the tests against receivers share; see `otlp`, `programs` and `work`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # for modules that tests and programs share

from monitoring import Monitoring, monitoring
from otlp import Received, grpc_backend, http_backend


@pytest.fixture
def backend() -> Iterator[Received]:
    """A backend that takes OTLP by HTTP."""
    with http_backend() as received:
        yield received


@pytest.fixture
def grpc() -> Iterator[Received]:
    """A backend that takes OTLP by gRPC."""
    with grpc_backend() as received:
        yield received


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitoring]:
    """Prometheus and Alertmanager, with this project's rules, at work on an application."""
    with monitoring(tmp_path_factory.mktemp("monitoring")) as seen:
        yield seen
