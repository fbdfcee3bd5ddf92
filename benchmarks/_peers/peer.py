"""What every peer comes down to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple


class Peer(NamedTuple):
    """A peer that is set up.

    Args:
        decorate: Its decorator for a function of an agent's.
        current: What it holds to be the current span, to be compared.
        between: What it does off the caller's path, called between the timings.
    """

    decorate: Callable[[Any], Any]
    current: Callable[[], Any]
    between: Callable[[], Any] = lambda: None
