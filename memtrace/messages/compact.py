"""Any value as compact JSON, the form in which a value that is no text is counted.

What JSON has no word for is spelled by its nearest JSON-like form (a set is a list, a dataclass
is an object of its fields); binary is never spelled out, only marked. Nothing here raises.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence, Set, ValuesView
from enum import Enum
from itertools import islice
from types import FunctionType, ModuleType
from typing import Any, NamedTuple

NODE_LIMIT = 1_000_000
"""Values spelled one by one before the rest is left out: an object may go on for ever."""


class Binary(NamedTuple):
    """Something that is paid for but never tokenised.

    Args:
        kind: ``image``, ``audio``, ``video``, ``document`` or ``binary``.
        size_bytes: Bytes of its payload once decoded; 0 where only a link or an id is held.
    """

    kind: str
    size_bytes: int


class Compact(NamedTuple):
    """A value in JSON.

    Args:
        text: The compact JSON, non-ASCII characters as they are.
        binaries: What was left out of it for being binary.
        exact: False where the value has no JSON form of its own (it contains itself, nests
            too deep, has keys that are no strings) and the text is the nearest thing to it.
    """

    text: str
    binaries: tuple[Binary, ...]
    exact: bool


def compact_json(value: object) -> Compact:
    """A value as compact JSON. Never raises.

    >>> compact_json({"path": "a.py", "lines": [1, 2], "note": "é"}).text
    '{"path":"a.py","lines":[1,2],"note":"é"}'
    >>> compact_json({"raw": bytes(10)})
    Compact(text='{"raw":""}', binaries=(Binary(kind='binary', size_bytes=10),), exact=True)
    """
    binaries: list[Binary] = []
    try:
        text = json.dumps(
            value,
            ensure_ascii=False,
            separators=(",", ":"),
            default=lambda other: _plain(other, binaries),
        )
        return Compact(text, tuple(binaries), True)
    except Exception:
        binaries.clear()
        return Compact("".join(_spelled(value, binaries)), tuple(binaries), False)


def _plain(value: Any, binaries: list[Binary]) -> Any:
    """The nearest thing to `value` that JSON has a word for; one level only."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        binaries.append(Binary("binary", memoryview(value).nbytes))
        return ""
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, Mapping):
        return dict(value.items())
    if isinstance(value, (Set, Sequence, ValuesView)):
        return list(value)
    if isinstance(value, (type, FunctionType, ModuleType)):
        return value.__name__
    if callable(getattr(value, "model_dump", None)):
        return value.model_dump()
    if dataclasses.is_dataclass(value):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if getattr(value, "__dict__", None):
        return dict(vars(value))
    return _named(value)


def _named(value: object) -> str:
    kind = type(value)
    if kind.__str__ is object.__str__ and kind.__repr__ is object.__repr__:
        return kind.__name__  # the default repr holds an address: another count each time
    return str(value)


_SCALARS = (str, int, float, type(None))
_LEAVE = object()
_RAW = object()


def _spelled(value: object, binaries: list[Binary]) -> Iterator[str]:
    """JSON-like text of a value that `json` refuses: no recursion, so any depth will do.

    A value met again inside itself is left out, and so is one that cannot be read.
    """
    stack: list[tuple[object, Any]] = [(None, value)]
    path: dict[int, object] = {}  # the objects themselves, so that no id is used twice
    nodes = 0
    while stack and nodes < NODE_LIMIT:
        mark, node = stack.pop()
        nodes += 1
        if mark is _RAW:
            yield node
        elif mark is _LEAVE:
            path.pop(id(node), None)
        elif issubclass(type(node), _SCALARS):  # isinstance() may run the value's own code
            yield _scalar(node)
        elif id(node) not in path:
            path[id(node)] = node
            stack.append((_LEAVE, node))
            try:
                stack.extend(reversed(list(islice(_children(node, binaries), NODE_LIMIT))))
            except Exception:
                yield "null"


def _children(node: Any, binaries: list[Binary]) -> Iterator[tuple[object, Any]]:
    if isinstance(node, dict):
        yield _RAW, "{"
        for index, (key, held) in enumerate(dict.items(node)):
            yield _RAW, ("," if index else "") + _scalar(key) + ":"
            yield None, held
        yield _RAW, "}"
    elif isinstance(node, (list, tuple)):
        yield _RAW, "["
        for index, held in enumerate(node):
            if index:
                yield _RAW, ","
            yield None, held
        yield _RAW, "]"
    else:
        yield None, _plain(node, binaries)


def _scalar(value: object) -> str:
    try:
        scalar = value if issubclass(type(value), _SCALARS) else str(value)
        return json.dumps(scalar, ensure_ascii=False)
    except Exception:
        # Whole numbers of more than 4,300 digits have no decimal text in CPython.
        return hex(value) if type(value) is int else '""'
