"""The pytest plugin: one fixture, which imports what it needs when a test asks for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from .testing import Captured


@pytest.fixture
def memtrace_capture() -> Iterator[Captured]:
    """memtrace's spans and metrics during one test; see :func:`memtrace.testing.capture`."""
    from .testing import capture

    with capture() as captured:
        yield captured
