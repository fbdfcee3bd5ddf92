"""A file as JSON values one after the other: JSON Lines as a stream, a JSON document whole."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from ..files import as_json, as_text, lines, refuse

PEEKED = 50
"""Values that are looked at to tell the format: transcripts may begin with lines of other kinds."""

_SNIFFED = 64


class Record(NamedTuple):
    """One value of a file.

    Args:
        place: Its line, from 1; of an element of an array, its number in words.
        value: A JSON object.
    """

    place: int | str
    value: dict[str, Any]


class Source:
    """A file that is read once.

    Args:
        path: The file.

    Attributes:
        path: The same.
        head: Its first records: what its format is told by.
        binary: It is no text, by its first bytes.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.binary = _is_binary(self.path)
        self._records = iter(()) if self.binary else _records(self.path)
        self.head = list(islice(self._records, PEEKED))

    def __iter__(self) -> Iterator[Record]:
        yield from self.head
        yield from self._records

    def refuse(self, place: int | str, cause: str) -> NoReturn:
        """Say what is wrong with the file, and where.

        Raises:
            ConfigurationError: Always.
        """
        if isinstance(place, int):
            refuse(self.path, place, cause)
        refuse(self.path, None, f"{place}: {cause}")

    def whole(self) -> bytes:
        """All of its bytes.

        Raises:
            ConfigurationError: It is too large, or cannot be read.
        """
        return b"".join(line for _, line in lines(self.path))


def _is_binary(path: Path) -> bool:
    """Whether a file begins as an OTLP export in protobuf does: field 1, and its length."""
    first = b"".join(line for _, line in islice(lines(path, most_bytes=None), 2))[:_SNIFFED]
    if first[:1] != b"\n":
        return False
    return first.strip()[:1] not in (b"{", b"[", b"") or min(first) < min(b"\t\n")


def _records(path: Path) -> Iterator[Record]:
    read = lines(path, most_bytes=None)
    for number, line in read:
        text = as_text(path, number, line)
        if not text.strip():
            continue
        if _goes_on(text, number, path):
            yield from _document(path)
            return
        yield Record(number, _object(path, number, as_json(path, number, text)))
        break
    for number, line in read:
        text = as_text(path, number, line)
        if text.strip():
            yield Record(number, _object(path, number, as_json(path, number, text)))


def _goes_on(text: str, number: int, path: Path) -> bool:
    """Whether a document begins on a file's first line: an array, or an object of many lines."""
    start = text.strip()
    if start[0] == "[":
        return True
    return start == "{" or (start[0] == "{" and start[-1] in ",[{:" and text.endswith("\n"))


def _document(path: Path) -> Iterator[Record]:
    text = "".join(as_text(path, number, line) for number, line in lines(path))
    value = as_json(path, 1, text)
    if not isinstance(value, list):
        yield Record(1, _object(path, 1, value))
        return
    for number, element in enumerate(value, 1):
        if not isinstance(element, dict):
            refuse(path, None, f"element {number} is {_kind(element)}, not an object")
        yield Record(f"element {number}", element)


def _object(path: Path, number: int, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        refuse(path, number, f"{_kind(value)}, not an object")
    return value


def _kind(value: Any) -> str:
    kinds = {list: "a JSON array", str: "a JSON string", type(None): "null", bool: "a truth value"}
    return kinds.get(type(value), "a JSON number")
