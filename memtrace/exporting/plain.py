"""Stored values as JSON that says all of them."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Mapping
from math import isfinite
from typing import Any


def line(record: Mapping[str, Any]) -> str:
    r"""A record as one line of ASCII.

    >>> line({"content": b"\x00", "score": float("nan")})
    '{"content": {"$bytes": "AA=="}, "score": {"$float": "nan"}}\n'
    >>> line({"days": {1: "one"}})
    '{"days": {"$pairs": [[1, "one"]]}}\n'
    """
    return json.dumps(plain(record), allow_nan=False) + "\n"


def plain(value: Any) -> Any:
    """A value as JSON has it. What JSON has not is named: bytes (base64), numbers that are none,
    mappings with keys that are no text (pairs)."""
    if isinstance(value, bytes):
        return {"$bytes": b64encode(value).decode()}
    if isinstance(value, float) and not isfinite(value):
        return {"$float": str(value)}
    if isinstance(value, Mapping):
        if all(isinstance(key, str) for key in value):
            return {key: plain(part) for key, part in value.items()}
        return {"$pairs": [[plain(key), plain(part)] for key, part in value.items()]}
    if isinstance(value, (list, tuple)):
        return [plain(part) for part in value]
    return value
