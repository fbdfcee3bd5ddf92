"""The error tree. Everything memtrace raises on purpose is a :class:`MemtraceError`.

::

    MemtraceError
    ├── ConfigurationError  (also a ValueError)    a call or a setting that cannot work
    ├── VocabularyError     (also a RuntimeError)  a token vocabulary is missing or damaged
    ├── StaleSessionError   (also a RuntimeError)  somebody else wrote this session meanwhile
    └── StoreError          (also a RuntimeError)  a store cannot be opened, read or written
        ├── StoreDamagedError    what it holds is not what was written
        └── StoreVersionError    it was written by a newer memtrace

A message says what was given, what was measured, and what would work.
"""

from __future__ import annotations


class MemtraceError(Exception):
    """Root of every error that memtrace raises on purpose.

    >>> issubclass(ConfigurationError, MemtraceError)
    True
    """


class ConfigurationError(MemtraceError, ValueError):
    """A call, a policy or a setting that cannot work as given; the message names what would."""


class VocabularyError(MemtraceError, RuntimeError):
    """An encoding's vocabulary is not installed, or its sha256 is not the published one."""


class StaleSessionError(MemtraceError, RuntimeError):
    """A session was written by another process since it was opened here; reload it to go on."""


class StoreError(MemtraceError, RuntimeError):
    """A store cannot be opened, read or written now; memory goes on in the process."""


class StoreDamagedError(StoreError):
    """What a store holds is not what was written, and nothing whole is left to fall back to."""


class StoreVersionError(StoreError):
    """A store was written by a newer memtrace, whose form this one does not know."""
