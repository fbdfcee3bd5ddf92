"""The form in which changes are stored: rows of declared types, each with a hash.

A row is one change of memory, as msgpack. Its hash is taken over the hash before it and its own
bytes, so one hash tells that a row is whole, that none is missing before it, and in which order
they came. The last hash of a snapshot's rows is its root.

Decoding builds numbers, text, bytes, lists and mappings, and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import msgspec

from ..errors import StoreDamagedError, StoreError

START = bytes(16)
"""What the first row of a session rests on."""

_SURROGATES, _BIG, _PAIRS = 1, 2, 3
"""Extension types: text that has lone surrogates, whole numbers past 64 bits, and mappings with
such keys, as a list of pairs."""

_DEEPEST = 64
"""How deep an object's own attributes are followed; a cycle ends here."""


StoredItem = tuple[
    str,  # id
    Any,  # kind (text, which may have lone surrogates)
    Any,  # content
    int,  # tokens
    bool,  # pinned
    int,  # priority
    float,  # created_at
    float,  # last_used_at
    float | None,  # expires_at
    Any,  # agent
    int | None,  # run_id
    tuple[str, ...],  # derived_from
    Any,  # key
]
"""An item as it is stored: the fields of :class:`memtrace.Item` but for its layer, in order."""


class Row(msgspec.Struct, array_like=True, frozen=True):
    """One change.

    Args:
        op: Which change it is; see :mod:`memtrace.journal`.
        layer: Index of the layer.
        place: A position in the history, or a revision.
        key: A key, a name or an item's id.
        item: The item that came, if one did.
        extra: What else the change needs.
    """

    op: str
    layer: int = 0
    place: int = 0
    key: Any = None
    item: StoredItem | None = None
    extra: Any = None


class Head(msgspec.Struct, array_like=True, frozen=True):
    """What a snapshot says of itself.

    Args:
        id: Unique in its session.
        name: As given.
        created_at: Seconds since the epoch.
        tokens: The session's total.
        items: Number of items.
        rows: How many rows came with it.
        root: Hash of the last row it rests on.
        facts: The session's counters and its budget.
    """

    id: str
    name: Any
    created_at: float
    tokens: int
    items: int
    rows: int
    root: bytes
    facts: dict[str, Any]


def chained(before: bytes, payload: bytes) -> bytes:
    """The hash of a row that comes after another: 16 bytes of SHA-256."""
    return sha256(before + payload).digest()[:16]


class Foreign(Exception):
    """A value holds an object of somebody's own class: it would come back as plain data."""


# --- writing --------------------------------------------------------------------------------------


def encode(value: Any) -> tuple[bytes, bool]:
    """A value as msgpack, and whether it comes back as it is (False: as plain data).

    Raises:
        StoreError: It holds something that is no data, such as a socket.
    """
    try:
        return _exact.encode(value), True
    except (UnicodeEncodeError, OverflowError, Foreign):
        pass
    except (RecursionError, ValueError, TypeError) as error:
        raise StoreError(f"cannot be stored: {error}") from error
    seen: list[Any] = []
    try:
        plain = _plain(value, seen, 0)
        return _exact.encode(plain), not seen
    except (RecursionError, ValueError, TypeError, Foreign) as error:
        raise StoreError(f"cannot be stored: {error}") from error


def _refuse(value: Any) -> Any:
    raise Foreign(type(value).__qualname__)


_exact = msgspec.msgpack.Encoder(enc_hook=_refuse)


def _plain(value: Any, foreign: list[Any], depth: int) -> Any:
    """The same value in data that msgpack has."""
    if depth > 10 * _DEEPEST:
        raise ValueError("it is nested too deep, or holds itself")
    kind = type(value)
    if kind is str:
        return _text(value)
    if kind is int:
        return value if -(2**63) <= value < 2**64 else _big(value)
    if value is None or kind in (bool, float, bytes):
        return value
    if isinstance(value, (Row, Head)):
        return [_plain(part, foreign, depth + 1) for part in msgspec.structs.astuple(value)]
    if isinstance(value, Mapping):
        if kind is not dict:
            foreign.append(value)
        pairs = [
            (_plain(key, foreign, depth + 1), _plain(part, foreign, depth + 1))
            for key, part in value.items()
        ]
        if any(isinstance(key, (msgspec.msgpack.Ext, list)) for key, _ in pairs):
            return msgspec.msgpack.Ext(_PAIRS, _exact.encode(pairs))
        return dict(pairs)
    if isinstance(value, (list, tuple)):
        return [_plain(part, foreign, depth + 1) for part in value]
    if isinstance(value, (str, int, float, bytearray, memoryview, set, frozenset)):
        return _plain(_base(value), foreign, depth + 1)
    foreign.append(value)
    return _plain(_attributes(value, depth), foreign, depth + 1)


def _text(value: str) -> Any:
    try:
        value.encode()
        return value
    except UnicodeEncodeError:
        return msgspec.msgpack.Ext(_SURROGATES, value.encode("utf-8", "surrogatepass"))


def _big(value: int) -> Any:
    size = (value.bit_length() + 8) // 8
    return msgspec.msgpack.Ext(_BIG, value.to_bytes(size, "big", signed=True))


def _base(value: Any) -> Any:
    """A subclass's value as the plain type it is one of."""
    for plain in (str, int, float):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    try:
        return sorted(value)
    except TypeError:
        return list(value)


def _attributes(value: Any, depth: int) -> Any:
    """What an object of somebody's own class holds."""
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        return dump(mode="json")
    try:
        return msgspec.to_builtins(value)
    except (TypeError, ValueError):
        pass
    held = getattr(value, "__dict__", None)
    if not isinstance(held, dict) or not held or callable(value) or depth > _DEEPEST:
        raise TypeError(f"{type(value).__qualname__} is no data")
    return {name: part for name, part in held.items() if not name.startswith("_")}


# --- reading --------------------------------------------------------------------------------------


def _extension(code: int, data: memoryview) -> Any:
    if code == _SURROGATES:
        return bytes(data).decode("utf-8", "surrogatepass")
    if code == _BIG:
        if len(data) > 4096:
            raise ValueError("a number of more than 4,096 bytes")
        return int.from_bytes(data, "big", signed=True)
    if code == _PAIRS:
        return {_key(key): part for key, part in _any.decode(data)}
    raise ValueError(f"an unknown extension type {code}")


def _key(key: Any) -> Any:
    return tuple(_key(part) for part in key) if isinstance(key, list) else key


ROW = msgspec.msgpack.Decoder(Row, ext_hook=_extension)
_head = msgspec.msgpack.Decoder(Head, ext_hook=_extension)
_any = msgspec.msgpack.Decoder(ext_hook=_extension)

BROKEN = (msgspec.DecodeError, RecursionError, ValueError, TypeError, MemoryError)


def decode_row(payload: Any) -> Row:
    """A row from its bytes.

    Raises:
        StoreDamagedError: They are no row.
    """
    try:
        return ROW.decode(payload)
    except BROKEN as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> StoreDamagedError:
    """What decoding a row failed with, as it is told."""
    return StoreDamagedError(f"a row cannot be read: {error}")


def decode_head(payload: Any) -> Head:
    """A snapshot's head from its bytes.

    Raises:
        StoreDamagedError: They are none.
    """
    try:
        return _head.decode(payload)
    except BROKEN as error:
        raise StoreDamagedError(f"a snapshot cannot be read: {error}") from error


def decode(payload: Any) -> Any:
    """Any value from its bytes.

    Raises:
        StoreDamagedError: They are none.
    """
    try:
        return _any.decode(payload)
    except BROKEN as error:
        raise StoreDamagedError(f"a value cannot be read: {error}") from error
