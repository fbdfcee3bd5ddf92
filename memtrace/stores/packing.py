"""Rows of a log as compressed chunks, and back: what a session is stored as while it sleeps.

zlib, because every Python has it. Over the recorded sessions it kept .19-.42 of the bytes, lzma
.14-.39 at a tenth of the speed, zstandard what zlib did; waking has to be quick.

A row's hash follows from the hash before it and its own bytes, so it is not kept but made again;
only one that rests on something else, because the session went back there, is.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from typing import NamedTuple

import msgspec

from ..errors import StoreDamagedError
from .reading import Stored
from .rows import BROKEN, START, chained

CHUNK_BYTES = 1 << 20
"""Bytes of rows after which the next chunk begins: zlib looks back 32 KB, so more gains nothing."""

_LEVEL = 6
"""zlib's own default: 9 took twice as long for a hundredth."""

HEADS = 0
"""Number of the chunk that has the snapshots' heads; the others have their rows, in order."""


class Chunk(NamedTuple):
    """One chunk of a session's archive.

    Args:
        number: Its place.
        rows: How many rows it has.
        raw_bytes: How large it is when it is read, at most and at least.
        packed_bytes: How large it is now.
        payload: What it holds, compressed; None: it is somewhere else.
        hash: Of all of it, and of whose it is.
    """

    number: int
    rows: int
    raw_bytes: int
    packed_bytes: int
    payload: bytes | None
    hash: bytes


# The hash before the first row; then revision, place, payload and, if it does not follow from what
# came before, hash of each.
_decoder = msgspec.msgpack.Decoder(tuple[bytes, list[list[int | bytes]]])


def pack(key: int, rows: Iterable[Stored]) -> list[Chunk]:
    """A session's log as chunks.

    Args:
        key: The session's.
        rows: All of it in order, heads among them as place 0.
    """
    heads: list[Stored] = []
    chunks: list[Chunk] = []
    waiting: list[Stored] = []
    size, before = 0, START
    for row in rows:
        if row[1] == 0:
            heads.append(row)
            continue
        waiting.append(row)
        size += len(row[2])
        if size >= CHUNK_BYTES:
            chunks.append(_chunk(key, len(chunks) + 1, before, waiting))
            before, waiting, size = row[3], [], 0
    if waiting:
        chunks.append(_chunk(key, len(chunks) + 1, before, waiting))
    return [_chunk(key, HEADS, START, heads), *chunks]


def _chunk(key: int, number: int, before: bytes, rows: Sequence[Stored]) -> Chunk:
    packed: list[list[int | bytes]] = []
    at = before
    for revision, place, payload, digest in rows:
        follows = number != HEADS and chained(at, payload) == digest
        packed.append([revision, place, payload] if follows else [revision, place, payload, digest])
        at = digest
    raw = msgspec.msgpack.encode((before, packed))
    payload = zlib.compress(raw, _LEVEL)
    facts = number, len(rows), len(raw), len(payload)
    return Chunk(*facts, payload, chunk_hash(key, facts, payload))


def chunk_hash(key: int, facts: Sequence[int], payload: bytes) -> bytes:
    """What tells that a chunk is what was written, and whose: 16 bytes of SHA-256."""
    return sha256(msgspec.msgpack.encode((key, *facts)) + payload).digest()[:16]


def intact(key: int, chunk: Chunk, payload: bytes) -> bool:
    """Whether this is what a chunk was written with."""
    return chunk_hash(key, chunk[:4], payload) == chunk.hash


def unpack(key: int, chunk: Chunk) -> Iterator[Stored]:
    """The rows of a chunk, in order.

    Raises:
        StoreDamagedError: It is not what was written.
    """
    payload = chunk.payload
    if not isinstance(payload, bytes) or not intact(key, chunk, payload):
        raise StoreDamagedError(f"chunk {chunk.number} of its archive is not what was written")
    try:
        before, rows = _decoder.decode(_inflated(payload, chunk.raw_bytes))
    except (*BROKEN, zlib.error) as error:
        raise StoreDamagedError(
            f"chunk {chunk.number} of its archive cannot be read: {error}"
        ) from error
    return _rows(before, rows)


def _rows(before: bytes, rows: Iterable[Sequence[int | bytes]]) -> Iterator[Stored]:
    for row in rows:
        revision, place, payload = row[:3]
        assert isinstance(revision, int)
        assert isinstance(place, int)
        assert isinstance(payload, bytes)
        kept = row[3] if len(row) > 3 else chained(before, payload)
        assert isinstance(kept, bytes)
        before = kept
        yield revision, place, payload, kept


def _inflated(payload: bytes, size: int) -> bytes:
    """What was compressed, never more than it is said to be: a few bytes can stand for gigabytes.

    Raises:
        ValueError: It is not of that size.
    """
    reader = zlib.decompressobj()
    raw = reader.decompress(payload, size + 1)
    if len(raw) != size or not reader.eof:
        raise ValueError(f"it is not the {size} bytes that it should be")
    return raw
