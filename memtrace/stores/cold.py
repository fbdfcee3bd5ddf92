"""Cold storage: objects in a folder of any object store that `obstore` knows, named by a URL.

``s3://bucket/prefix``, ``gs://…``, ``az://…``, ``file:///folder``, ``memory:///`` (this process's
alone). Credentials and regions come from where the services' own tools look for them, such as
``AWS_ACCESS_KEY_ID``, ``AWS_REGION`` and ``AWS_ENDPOINT_URL``.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from ..errors import ConfigurationError, MemtraceError, StoreError

T = TypeVar("T")

_TIMES: dict[str, Any] = {
    "connect_timeout": timedelta(seconds=5),
    "timeout": timedelta(seconds=60),
}
_RETRIES: dict[str, Any] = {"max_retries": 3, "retry_timeout": timedelta(seconds=30)}
"""A store that is not there is told of within half a minute; obstore's own takes three."""


def put(folder: str, name: str, payload: bytes) -> None:
    """Write an object; it is durable when this returns.

    Raises:
        StoreError: It cannot be written; the message names the URL.
    """
    store, prefix = _at(folder, make=True)
    _do(folder, lambda: store.put(prefix + name, payload))
    if urlsplit(folder).scheme == "file":
        _sync(Path(_path(folder)), name)


def get(folder: str, name: str) -> bytes:
    """Read an object.

    Raises:
        StoreError: It is not there, or cannot be read; the message names the URL.
    """
    store, prefix = _at(folder)
    return _do(folder, lambda: bytes(store.get(prefix + name).bytes()))


def delete_all(folder: str) -> None:
    """Delete each object of a folder. It may be done again.

    Raises:
        StoreError: One cannot be deleted; the message names the URL.
    """
    if _gone(folder):
        return

    def work() -> None:
        store, prefix = _at(folder)
        paths = [str(found["path"]) for page in store.list(prefix or None) for found in page]
        if paths:
            store.delete(paths)

    try:
        _do(folder, work)
    except StoreError:
        if not _gone(folder):  # else somebody else was quicker
            raise
    if urlsplit(folder).scheme == "file":
        with suppress(OSError):
            Path(_path(folder)).rmdir()


def _gone(folder: str) -> bool:
    return urlsplit(folder).scheme == "file" and not os.path.isdir(_path(folder))  # noqa: PTH112


def told(folder: str) -> str:
    """A folder as messages name it: without what may be a secret."""
    parts = urlsplit(folder)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def check(url: str) -> str:
    """A URL that cold storage can be at, without the slash at its end.

    Raises:
        ConfigurationError: It is none.
        StoreError: `obstore` is not installed.
    """
    if not isinstance(url, str) or "://" not in url:
        raise ConfigurationError(
            "cold storage takes a URL such as 's3://bucket/prefix' or 'file:///folder', "
            f"got {url!r}"
        )
    if urlsplit(url).scheme == "file" and not _path(url).startswith("/"):
        raise ConfigurationError(f"a folder's URL has three slashes: file:///folder; got {url!r}")
    if urlsplit(url).scheme != "file":
        _at(url)
    return url.rstrip("/")


# --- obstore --------------------------------------------------------------------------------------


def _at(folder: str, *, make: bool = False) -> tuple[Any, str]:
    """The store of a folder, and what its objects' names begin with."""
    obstore = _obstore()
    scheme = urlsplit(folder).scheme
    if scheme == "memory":
        return _memory(), urlsplit(folder).netloc + urlsplit(folder).path.rstrip("/") + "/"
    if scheme == "file":
        path = _path(folder)
        return _do(folder, lambda: obstore.store.LocalStore(path, mkdir=make)), ""
    try:
        # Said here, because times of our own have obstore pass over what the environment says.
        options = {**_TIMES, "allow_http": _plain_http()}
        found = obstore.store.from_url(folder, client_options=options, retry_config=_RETRIES)
        return found, ""
    except Exception as error:
        raise ConfigurationError(f"no cold storage at {told(folder)}: {_short(error)}") from error


def _plain_http() -> bool:
    """Whether the environment names a server that is spoken to without TLS, such as one's own."""
    allowed = os.environ.get("AWS_ALLOW_HTTP", "").lower() in ("1", "true", "yes")
    named = (os.environ.get(name, "") for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT"))
    return allowed or any(endpoint.startswith("http://") for endpoint in named)


def _do(folder: str, work: Callable[[], T]) -> T:
    try:
        return work()
    except MemtraceError:
        raise
    except Exception as error:
        raise StoreError(f"cold storage at {told(folder)} failed: {_short(error)}") from error


def _short(error: Exception) -> str:
    """What an error of obstore's says, without its own debugging notes."""
    text = str(error).split("\n\nDebug source")[0]
    return f"{type(error).__name__}: {' '.join(text.split())[:300]}"


def _obstore() -> Any:
    try:
        import obstore
        import obstore.store
    except ImportError as error:
        raise StoreError("cold storage needs obstore: pip install 'memtrace-otel[s3]'") from error
    return obstore


_making = threading.Lock()


@cache
def _made() -> list[Any]:
    return []


def _memory() -> Any:
    with _making:
        if not _made():
            _made().append(_obstore().store.MemoryStore())
        return _made()[0]


def _path(folder: str) -> str:
    return unquote(urlsplit(folder).path)


def _sync(folder: Path, name: str) -> None:
    """Have a file survive a power cut, and its folder know of it."""
    for path in (folder / name, folder, folder.parent):
        handle = os.open(path, os.O_RDONLY)
        try:
            with suppress(OSError):  # some systems have no folders that could be synced
                os.fsync(handle)
        finally:
            os.close(handle)


def _after_fork() -> None:
    global _making
    _making = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
