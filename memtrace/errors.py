"""The error tree. Everything memtrace raises on purpose is a :class:`MemtraceError`.

::

    MemtraceError
    ├── ConfigurationError  (also a ValueError)    a call or a setting that cannot work
    ├── VocabularyError     (also a RuntimeError)  a token vocabulary is missing or damaged
    └── StaleSessionError   (also a RuntimeError)  somebody else wrote this session meanwhile

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
