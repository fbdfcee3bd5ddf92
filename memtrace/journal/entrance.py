"""What a session with a durable store lets in: data, and without secrets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigurationError, StoreError
from ..redaction import redacted


class Entrance:
    """Where contents enter a session that is kept in a store.

    Args:
        session: Its id.
        redactor: Takes secrets out of a text; None: they are stored.
    """

    def __init__(self, session: str, redactor: Callable[[str], str] | None) -> None:
        self._session = session
        self._redactor = redactor

    def admit(self, content: Any, strict: bool = True) -> Any:
        """What is kept of a content: itself, or a copy without secrets.

        Raises:
            ConfigurationError: ``strict``, and no store could take it.
        """
        content = self._redacted(content)
        if strict:
            from ..stores import encode

            try:
                encode(content)
            except StoreError as error:
                raise ConfigurationError(
                    f"{type(content).__qualname__} {error}; session {self._session!r} is kept in a "
                    "store, so it takes text, numbers, lists and mappings"
                ) from error
        return content

    def stored(self, content: Any) -> Any:
        """The form in which the store would give a content back."""
        try:
            return copied(self._redacted(content))
        except StoreError:
            return content

    def _redacted(self, content: Any) -> Any:
        return content if self._redactor is None else redacted(content, self._redactor)


def copied(value: Any) -> Any:
    """A value as plain data that later changes do not reach.

    Raises:
        StoreError: It is no data.
    """
    from ..stores.rows import decode, encode

    return decode(encode(value)[0])
