"""Searching by meaning, where the user gives a function that embeds texts.

The function is given a list of texts and gives a vector for each: a sequence of numbers, all of
one length. It may be async. Vectors are kept in the process, and every text is compared: with
numpy where that is installed, at some microseconds a text without it.
"""

from __future__ import annotations

import asyncio
import logging
from array import array
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from functools import cache
from importlib import import_module
from inspect import isawaitable
from math import isfinite, sqrt
from operator import mul
from typing import Any

from .. import config
from ..errors import MemtraceError
from ..telemetry import metrics, names
from .passages import Text

Embed = Callable[[list[str]], Any]
Vector = Sequence[float]

logger = logging.getLogger("memtrace")

LOOP: ContextVar[asyncio.AbstractEventLoop | None] = ContextVar("memtrace_loop", default=None)
"""The event loop that an async function is to run on: that of whoever awaits the search."""

_AT_ONCE = 256
"""Texts embedded by one call: providers take from 96 to 2,048."""


class EmbeddingError(MemtraceError):
    """An embedding function gave what is no list of vectors."""


class Meaning:
    """Vectors of one session's texts, and which of them are alike to a query's.

    Args:
        embed: Gives vectors for texts; None: there is none, and nothing is alike to anything.
    """

    def __init__(self, embed: Embed | None) -> None:
        self._embed = embed
        self._vectors: dict[Text, Vector] = {}
        self._length = 0
        self._matrix: tuple[list[Text], Any] | None = None
        self._told = False

    @property
    def used(self) -> bool:
        """Whether there is a function."""
        return self._embed is not None

    def search(
        self, query: str, texts: Iterable[Text], read: Callable[[Text], str], limit: int
    ) -> list[Text]:
        """The texts most alike to a query, the best first; none where the function fails.

        Args:
            query: Any text.
            texts: Those there are now.
            read: Gives what one says.
            limit: How many, at most.
        """
        if self._embed is None or not query.strip():
            return []
        try:
            self._follow(list(texts), read)
            (asked,) = self._embedded([query])
            return self._nearest(asked, limit)
        except Exception as error:  # whatever a provider's client raises
            self._failed(error)
            return []

    def _follow(self, texts: list[Text], read: Callable[[Text], str]) -> None:
        kept = {text: self._vectors[text] for text in texts if text in self._vectors}
        missing = [text for text in texts if text not in kept]
        if len(kept) != len(self._vectors) or missing:
            self._matrix = None
        self._vectors = kept
        for start in range(0, len(missing), _AT_ONCE):
            batch = missing[start : start + _AT_ONCE]
            vectors = self._embedded([read(text) for text in batch])
            kept.update(zip(batch, vectors, strict=True))

    def _embedded(self, texts: list[str]) -> list[Vector]:
        """Vectors of length 1 for texts.

        Raises:
            EmbeddingError: They are not that many, or not all of one length.
        """
        assert self._embed is not None
        given = self._embed(texts)
        given = list(_awaited(given) if isawaitable(given) else given)
        if len(given) != len(texts):
            raise EmbeddingError(f"it gave {len(given)} vectors for {len(texts)} texts")
        vectors: list[Vector] = [_unit(vector) for vector in given]
        length = self._length or len(vectors[0])
        if not length or any(len(vector) != length for vector in vectors):
            lengths = sorted({len(vector) for vector in vectors} | {length})
            raise EmbeddingError(f"its vectors have different lengths: {lengths}")
        self._length = length
        return vectors

    def _nearest(self, asked: Vector, limit: int) -> list[Text]:
        numpy = _numpy()
        if numpy is None:
            scores = [sum(map(mul, asked, vector)) for vector in self._vectors.values()]
            texts = list(self._vectors)
        else:
            if self._matrix is None:
                rows = numpy.array([numpy.frombuffer(v, "d") for v in self._vectors.values()])
                self._matrix = list(self._vectors), rows
            texts, rows = self._matrix
            scores = (rows @ numpy.frombuffer(asked, "d")).tolist() if texts else []
        order = sorted(range(len(texts)), key=lambda index: -scores[index])
        return [texts[index] for index in order[:limit]]

    def _failed(self, error: Exception) -> None:
        if config.current.strict:
            raise error
        metrics.count(names.METRIC_FAILURES, 1, ((names.COMPONENT, "embed"),))
        if not self._told:
            self._told = True
            logger.warning(
                "memtrace recalls by words alone where the embedding function fails: %s: %s",
                type(error).__name__,
                error,
            )


def _unit(vector: Any) -> array[float]:
    """A vector of the same direction and length 1; one of zeros stays."""
    numbers = array("d", map(float, vector))
    length = sqrt(sum(map(mul, numbers, numbers)))
    if not isfinite(length):
        raise EmbeddingError("a vector of it holds what is no finite number")
    return array("d", (number / length for number in numbers)) if length else numbers


def _awaited(given: Awaitable[Any]) -> Any:
    """What an async function gives: on its caller's loop, else on one of its own."""

    async def wait() -> Any:
        return await given

    loop = LOOP.get()
    if loop is not None:
        return asyncio.run_coroutine_threadsafe(wait(), loop).result()
    with ThreadPoolExecutor(1) as thread:  # a loop may be running in this one
        return thread.submit(asyncio.run, wait()).result()


@cache
def _numpy() -> Any:
    try:
        return import_module("numpy")
    except ImportError:
        return None
