"""What the address of a store names, looked at before anything is opened."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote

from ..errors import StoreError
from ..stores.opening import FILE_NAME

_MAGIC = b"SQLite format 3"


def is_database(file: Path) -> bool:
    """Whether a file begins as a store does.

    Raises:
        OSError: It cannot be read.
    """
    with file.open("rb") as opened:
        return opened.read(len(_MAGIC)) == _MAGIC


def refuse_others(target: str) -> None:
    """Refuse a file or folder that is no store: SQLite would make one of an empty file.

    Raises:
        StoreError: It is there, and no store.
        OSError: It cannot be looked at.
    """
    if "://" in target and not target.startswith(_SQLITE):
        return
    path = Path(target)
    if target.startswith(_SQLITE):
        path = Path(unquote(target.removeprefix(_SQLITE).partition("?")[0]))
    if path.is_dir():
        if not (path / FILE_NAME).exists():
            raise StoreError(f"the folder {path} holds no store: there is no {FILE_NAME} in it")
        path /= FILE_NAME
    if not path.is_file() or is_database(path):
        return
    if not path.stat().st_size:
        raise StoreError(f"{path} is empty, so it cannot be a store")
    with path.open("rb") as file:
        is_json = file.read(64).lstrip(b"\xef\xbb\xbf \r\n")[:1] == b"{"
    hint = f"; a recorded session is read by: memtrace diagnose {path}" if is_json else ""
    raise StoreError(f"{path} is no SQLite database, so it cannot be a store{hint}")


_SQLITE = "sqlite:///"
