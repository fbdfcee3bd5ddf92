"""Changes one value deep inside a message, copying only what leads to it.

The message given is never changed, and the new one has its form and its types: dicts, lists,
pydantic models, dataclasses, plain objects.
"""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from typing import Any

from .blocks import Path, field

DEPTH_LIMIT = 64
"""Levels of a JSON-like value whose strings are rewritten; deeper ones stay as they are."""


def replaced(holder: Any, path: Path, value: Any) -> Any:
    """A copy of `holder` with another value at the end of a path.

    Raises:
        TypeError: Something on the path cannot be changed in a copy.

    >>> replaced({"content": [{"text": "long"}]}, ("content", 0, "text"), "short")
    {'content': [{'text': 'short'}]}
    """
    if not path:
        return value
    key, rest = path[0], path[1:]
    if isinstance(key, int):
        items = list(holder)
        items[key] = replaced(items[key], rest, value)
        return items if type(holder) is list else type(holder)(items)
    return _with(holder, key, replaced(field(holder, key), rest, value))


def _with(holder: Any, key: str, value: Any) -> Any:
    if type(holder) is dict:
        return {**holder, key: value}
    ways = _for_mappings if isinstance(holder, Mapping) else _for_objects
    for changed in ways(holder, key, value):
        # A property or a validator may have eaten the value: believe what can be read back.
        if changed is not None and field(changed, key) == value:
            return changed
    raise TypeError(f"cannot replace {key!r} in a copy of {type(holder).__name__}")


def _for_mappings(holder: Mapping[str, Any], key: str, value: Any) -> Iterator[Any]:
    copied = copy.copy(holder)
    if isinstance(copied, MutableMapping) and copied is not holder:
        copied[key] = value
        yield copied
    yield {**holder, key: value}


def _for_objects(holder: Any, key: str, value: Any) -> Iterator[Any]:
    yield _attempt(lambda: holder.model_copy(update={key: value}))
    yield _attempt(lambda: dataclasses.replace(holder, **{key: value}))
    yield _attempt(lambda: _set(copy.copy(holder), key, value, setattr))
    yield _attempt(lambda: _set(copy.copy(holder), key, value, object.__setattr__))


def _attempt(way: Callable[[], Any]) -> Any:
    try:
        return way()
    except Exception:
        return None


def _set(copied: Any, key: str, value: Any, setter: Callable[[Any, str, Any], None]) -> Any:
    setter(copied, key, value)
    return copied


def mapped(value: Any, fn: Callable[[str], str]) -> Any:
    """A JSON-like value with `fn` applied to each string in it; the same object if none changed.

    Keys stay as they are, and so does what is nested deeper than :data:`DEPTH_LIMIT` or
    contains itself.

    >>> mapped({"path": "a.py", "lines": [1, "b"]}, str.upper)
    {'path': 'A.PY', 'lines': [1, 'B']}
    """
    return _mapped(value, fn, ())


def _mapped(value: Any, fn: Callable[[str], str], within: tuple[int, ...]) -> Any:
    if isinstance(value, str):
        new = fn(value)
        return new if isinstance(new, str) and new != value else value
    if not isinstance(value, (dict, list, tuple)):
        return value
    if id(value) in within or len(within) > DEPTH_LIMIT:
        return value
    within = (*within, id(value))
    if isinstance(value, dict):
        held = {key: _mapped(inner, fn, within) for key, inner in dict.items(value)}
        same = all(new is old for new, old in zip(held.values(), dict.values(value), strict=True))
        return value if same else held
    items = [_mapped(inner, fn, within) for inner in value]
    if all(new is old for new, old in zip(items, value, strict=True)):
        return value
    return items if isinstance(value, list) else tuple(items)


def mapped_json(text: str, fn: Callable[[str], str]) -> str:
    """JSON text with `fn` applied to each string in it, still JSON; other text as it is.

    >>> mapped_json('{"path": "a.py", "n": 1}', str.upper), mapped_json("{not json", str.upper)
    ('{"path":"A.PY","n":1}', '{not json')
    """
    try:
        # NaN is refused both ways: a provider would refuse it too.
        value = json.loads(text, parse_constant=_refused)
    except (ValueError, RecursionError):
        return text
    changed = mapped(value, fn)
    if changed is value:
        return text
    try:
        return json.dumps(changed, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except (ValueError, RecursionError):
        return text


def _refused(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
