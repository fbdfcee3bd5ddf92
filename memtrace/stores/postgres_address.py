"""Where a PostgreSQL store is. Its password is never told, whatever fails."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict, make_conninfo

from ..errors import ConfigurationError, StoreDamagedError, StoreError

SCHEMA = "memtrace"
"""The schema that holds a store's tables where the address names none."""

_SCHEMA = re.compile(r"[a-z_][a-z0-9_]{0,62}")

_DEFAULTS = {
    "application_name": "memtrace",
    "connect_timeout": "10",
    # Milliseconds until a server that no longer answers counts as gone.
    "tcp_user_timeout": "30000",
}


class Address:
    """Where a store is.

    Args:
        url: ``postgresql://user:password@host:port/database``, with libpq's options after a
            question mark, and ``schema=name``.

    Attributes:
        schema: The schema that holds its tables.
        name: The same without password and options.

    Raises:
        ConfigurationError: It cannot be read.
    """

    __slots__ = ("_conninfo", "name", "schema")

    def __init__(self, url: str) -> None:
        bare, self.schema = _without_schema(url)
        told = _read(bare)
        self._conninfo = make_conninfo("", **{**_DEFAULTS, **told})
        self.name = _name(told, self.schema)

    def __repr__(self) -> str:
        return f"<Address {self.name!r}>"

    def connect(self) -> psycopg.Connection[Any]:
        """A new connection, on which each statement is a transaction of its own.

        Raises:
            StoreError: There is none to be had, and why.
        """
        try:
            connection = psycopg.connect(self._conninfo, autocommit=True, prepare_threshold=1)
        except psycopg.Error as error:
            raise StoreError(f"cannot connect to {self.name}: {_reason(error)}") from None
        try:
            connection.execute(_SETTINGS)
        except BaseException as error:
            connection.close()
            if isinstance(error, psycopg.Error):
                raise self.typed(error) from None
            raise
        return connection

    def typed(self, error: psycopg.Error) -> StoreError:
        """An error of PostgreSQL's as it is raised."""
        kind = StoreDamagedError if isinstance(error, DAMAGED) else StoreError
        return kind(f"the store {self.name} failed: {_reason(error)}")


DAMAGED = (psycopg.errors.DataCorrupted, psycopg.errors.IndexCorrupted)
"""What PostgreSQL raises where a page is not what it wrote."""

_SETTINGS = """
    SELECT set_config('lock_timeout', '30s', false),
        set_config('jit', 'off', false),
        -- Each statement has its index. Plans are kept, and one that was made while a table was
        -- small would go on reading all of it.
        set_config('enable_seqscan', 'off', false),
        set_config('plan_cache_mode', 'force_generic_plan', false),
        -- What is acknowledged is on the disk, whatever the server's default is.
        set_config('synchronous_commit', CASE current_setting('synchronous_commit')
            WHEN 'off' THEN 'on' ELSE current_setting('synchronous_commit') END, false)
"""


def _read(url: str) -> dict[str, str]:
    """An address's parts, by libpq's names."""
    try:
        told = {key: str(value) for key, value in conninfo_to_dict(url).items()}
    except (psycopg.Error, ValueError):
        told = {}
    # A password that is not encoded makes libpq take parts of it for a port or a database.
    if (
        not told
        or "\0" in url
        or not _PORTS.fullmatch(told.get("port", ""))
        or set("@/:") & set(told.get("dbname", ""))
    ):
        # Not told why, nor raised from it: libpq quotes what it could not read.
        raise ConfigurationError(
            "the address of a PostgreSQL store cannot be read; it looks like "
            "postgresql://user:password@host:5432/database, with what is no letter or digit "
            "in user and password percent-encoded"
        )
    return told


_PORTS = re.compile(r"[0-9,]*")


def _without_schema(url: str) -> tuple[str, str]:
    """An address as libpq knows it, and the schema that it names beside."""
    head, _, query = url.partition("?")
    options = query.split("&") if query else []
    schemas = [option[7:] for option in options if option.startswith("schema=")]
    schema = schemas[-1] if schemas else SCHEMA
    if not _SCHEMA.fullmatch(schema):
        raise ConfigurationError(
            f"a schema's name has small letters, digits and _, at most 63; got {schema!r}"
        )
    rest = "&".join(option for option in options if not option.startswith("schema="))
    return (f"{head}?{rest}" if rest else head), schema


def _name(told: dict[str, str], schema: str) -> str:
    user = f"{told['user']}@" if told.get("user") else ""
    host = told.get("host") or told.get("hostaddr") or "localhost"
    port = f":{told['port']}" if told.get("port") else ""
    database = told.get("dbname") or told.get("user") or ""
    where = "" if schema == SCHEMA else f"?schema={schema}"
    return f"postgresql://{user}{host}{port}/{database}{where}"


def _reason(error: psycopg.Error) -> str:
    """What PostgreSQL said, in one line."""
    diagnosis = error.diag.message_primary
    text = diagnosis or str(error) or type(error).__name__
    return " ".join(text.split())
