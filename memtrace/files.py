"""Files that people name: read within bounds, refused in one line, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn, TextIO

from .errors import ConfigurationError

MOST_BYTES = 128_000_000
"""Bytes of a file that is read whole, at most. Source: a hundred times the largest recorded
session; as Python's objects it stays below a gigabyte."""

MOST_LINE_BYTES = 32_000_000
"""Bytes of one line, at most. Source: the largest document that a provider takes in one message."""

_MARKS = {
    b"\xff\xfe": "UTF-16 by its first bytes",
    b"\xfe\xff": "UTF-16 by its first bytes",
    b"\x1f\x8b": "compressed by gzip, by its first bytes",
    b"PK": "a zip archive by its first bytes",
}


def refuse(path: str | Path, line: int | None, cause: str) -> NoReturn:
    """Say in one line what is wrong with a file, and where.

    Raises:
        ConfigurationError: Always.

    >>> refuse("a.jsonl", 3, "not JSON")
    Traceback (most recent call last):
    memtrace.errors.ConfigurationError: a.jsonl, line 3: not JSON
    """
    where = "" if line is None else f", line {line}"
    raise ConfigurationError(f"{path}{where}: {cause}") from None


def lines(
    path: str | Path, *, most_bytes: int | None = MOST_BYTES, file: BinaryIO | None = None
) -> Iterator[tuple[int, bytes]]:
    r"""Number from 1 and bytes of each line, its end included; split on ``\n`` alone.

    Args:
        path: The file; a name alone where ``file`` is given.
        most_bytes: What the whole may have; None: without end, for what is not kept. A line may
            have 32 MB in any case.
        file: What is read instead, for example ``sys.stdin.buffer``.

    Raises:
        ConfigurationError: It cannot be read or is too large. The latter is told before the first
            line, where the size is known.
    """
    try:
        with Path(path).open("rb") if file is None else nullcontext(file) as opened:
            if most_bytes is not None and file is None:
                _check_size(path, opened, most_bytes)
            yield from _lines(path, opened, most_bytes)
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be read: {error.strerror or error}; name a file"
        ) from None


def read_text(
    path: str | Path, *, most_bytes: int = MOST_BYTES, file: BinaryIO | None = None
) -> str:
    """All of a file in UTF-8, a mark of its byte order left out.

    Args:
        path: The file; a name alone where ``file`` is given.
        most_bytes: What it may have.
        file: What is read instead.

    Raises:
        ConfigurationError: It cannot be read, is too large, or not UTF-8.
    """
    whole = b"".join(line for _, line in lines(path, most_bytes=most_bytes, file=file))
    try:
        return whole.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = whole.count(b"\n", 0, error.start) + 1
        return as_text(path, number, whole.split(b"\n", number)[number - 1])


def _lines(path: str | Path, file: BinaryIO, most: int | None) -> Iterator[tuple[int, bytes]]:
    number = size = 0
    while line := file.readline(MOST_LINE_BYTES + 1):
        number += 1
        size += len(line)
        if len(line) > MOST_LINE_BYTES:
            refuse(path, number, f"longer than {_mb(MOST_LINE_BYTES)}, the most that is read")
        if most is not None and size > most:
            refuse(path, number, f"past {_mb(most)} of the file, the most that is read")
        yield number, line


def _check_size(path: str | Path, file: BinaryIO, most: int) -> None:
    """Refuse a file that is known to be too large, at the line where it is: nothing is parsed."""
    size = os.fstat(file.fileno()).st_size
    if size <= most:
        return
    number, left = 1, most
    while left > 0 and (chunk := file.read(min(left, 1 << 20))):
        number += chunk.count(b"\n")
        left -= len(chunk)
    refuse(path, number, f"past {_mb(most)} of the file's {_mb(size)}, the most that is read")


def _mb(size: int) -> str:
    return f"{size / 1e6:,.0f} MB"


def as_text(path: str | Path, number: int, line: bytes) -> str:
    """A line as text. Its number is 1 where it begins the file.

    Raises:
        ConfigurationError: It is not UTF-8.
    """
    try:
        return line.decode("utf-8-sig" if number == 1 else "utf-8")
    except UnicodeDecodeError as error:
        mark = _MARKS.get(line[:2]) if number == 1 else None
        refuse(path, number, f"not UTF-8 ({mark or error.reason}); save it as UTF-8")


def objects(
    path: str | Path, *, most_bytes: int | None = MOST_BYTES
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Line number and JSON object of each line that is not blank.

    Raises:
        ConfigurationError: As :func:`lines`; or a line is not UTF-8, not JSON, cut off, or no
            object. The message names file and line.
    """
    for number, line in lines(path, most_bytes=most_bytes):
        text = as_text(path, number, line)
        if not text.strip():
            continue
        value = as_json(path, number, text)
        if not isinstance(value, dict):
            refuse(
                path,
                number,
                f"a JSON {_KINDS.get(type(value), 'value')}, not an object; each line must be one",
            )
        yield number, value


_KINDS = {list: "array", str: "string", int: "number", float: "number", bool: "truth value"}


def as_json(path: str | Path, number: int, text: str) -> Any:
    """The value of a JSON text that begins in line ``number`` of a file.

    Raises:
        ConfigurationError: It is not JSON.

    >>> as_json("a.json", 1, '{"role": ')
    Traceback (most recent call last):
    memtrace.errors.ConfigurationError: a.json, line 1: not JSON (Expecting value, column 10), \
and the file ends in the middle of it
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        cut = "" if text.endswith("\n") else ", and the file ends in the middle of it"
        cut = cut if error.pos >= len(text) or error.msg.startswith("Unterminated") else ""
        # Where it breaks off is on its last line, not on the one after that line's end.
        line = number + text.count("\n", 0, min(error.pos, len(text.rstrip())))
        refuse(path, line, f"not JSON ({error.msg}, column {error.colno}){cut}")
    except (ValueError, RecursionError) as error:  # a number of 5,000 digits; nested too deep
        refuse(path, number, f"not JSON that can be read ({error})")


@contextmanager
def written(path: str | Path) -> Iterator[TextIO]:
    """A file to write text to, in UTF-8: it takes its name when the block ends, else there is none.

    What was there under that name stays until then, and stays where the block raises.

    Raises:
        ConfigurationError: There is no such folder, or it cannot be written.
    """
    path = Path(path)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: nothing to put in its place
        with _openly(path, path, "w") as file:
            yield file
        return
    path = path.resolve()  # what a link leads to is replaced, not the link
    part = path.with_name(f".{path.name[:100]}.{os.getpid()}.part")
    try:
        with _openly(path, part, "x") as file:
            yield file
        part.replace(path)
    finally:
        with suppress(OSError):
            part.unlink()


def _openly(path: Path, part: Path, mode: str) -> TextIO:
    try:
        return part.open(mode, encoding="utf-8", errors="replace", newline="\n")  # type: ignore[return-value]
    except OSError as error:
        raise ConfigurationError(
            f"{path} cannot be written: {error.strerror or error}; name a file in a folder that "
            "there is"
        ) from None
