"""One clear error where a framework is missing, or of a version that was never tried."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from ..errors import ConfigurationError


def require(package: str, extra: str, least: str, below: str | None = None) -> None:
    """Refuse a framework that is not there, or that an adapter was not made for.

    Args:
        package: The distribution's name.
        extra: memtrace's extra that brings it.
        least: The oldest version that works.
        below: The first version that does not; None: none is known.

    Raises:
        ConfigurationError: It names the version that is there and those that work.

    >>> require("wrapt", "otlp", "1.0")
    """
    wanted = f"{package} >= {least}" + (f", < {below}" if below else "")
    advice = f"pip install 'memtrace-otel[{extra}]'"
    try:
        found = version(package)
    except PackageNotFoundError:
        raise ConfigurationError(
            f"this adapter needs {wanted}, which is not installed: {advice}"
        ) from None
    if _parts(found) < _parts(least) or (below and _parts(found) >= _parts(below)):
        raise ConfigurationError(f"this adapter needs {wanted}, and {found} is installed: {advice}")


def _parts(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", text.partition("+")[0])[:3])
