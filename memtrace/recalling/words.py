"""What of a text is searched for: its words, and pairs of characters where words have no spaces.

Stores are given words, not text, so that every store finds the same. Stemming is the store's.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from ..stopwords import GRAMMAR, STOPWORDS
from .irregular import BASE

LONGEST = 64
"""Characters up to which a word is one; past it, it is payload: base64, a hash, a data URL."""

MOST = 64
"""Words that a query may search for. Source: past it a query of 10,000 words would visit every
row there is for each of them, and its longest 64 tell as well what it is about."""

# Scripts that put no spaces between words: Thai, Lao, Tibetan, Burmese, Khmer, kana, bopomofo and
# the Han characters. Hangul has spaces, but its particles are written onto the words.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u3100-\u312f\u31a0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\ua9e0-\ua9ff\uac00-\ud7af\uf900-\ufaff\U00020000-\U0003ffff"
)
# Marks that belong to the letter before them, which Python's \w leaves out.
_MARKS = "\u0300-\u036f\u0591-\u05c7\u0610-\u061a\u064b-\u065f\u0670\u0900-\u0963\u0970-\u0dff"
_RUN = re.compile(rf"[{_UNSPACED}]+|(?:[^\W_{_UNSPACED}]|[{_MARKS}])+")
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]")
_ASCII_RUN = re.compile(r"[0-9a-z]+")
_NAME = re.compile(r"[0-9A-Za-z]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def words(text: str) -> list[str]:
    """The words of a text, in lower case and regular forms; of names like `getUserId` parts too.

    >>> words("Größe: 3,5 getUserId 設定を"), words("'\\0\\ud800 bought (")
    (['größe', '3', '5', 'getuserid', '設定', '定を', 'get', 'user', 'id'], ['buy'])
    """
    if text.isascii():
        runs = _ASCII_RUN.findall(text.lower())
    else:
        text = unicodedata.normalize("NFKC", text)
        runs = []
        for run in _RUN.findall(text.lower()):
            if _UNSPACED_RUN.match(run):
                runs += _pairs(run)
            else:
                runs.append(run)
    found = [BASE.get(run, run) for run in runs if len(run) <= LONGEST]
    if _HUMP.search(text):
        for name in _NAME.findall(text):
            if len(name) <= LONGEST and _HUMP.search(name):
                found += map(str.lower, _HUMP.split(name))
    return found


def _pairs(run: str) -> list[str]:
    if len(run) == 1:
        return [run]
    return [run[start : start + 2] for start in range(len(run) - 1)]


def sought(query: str) -> list[str]:
    """The words that a query searches for, each once; of nothing but stopwords, all of them.

    >>> sought("What did we say about the budget?"), sought("to be or not to be"), sought("?!")
    (['say', 'budget'], ['to', 'be', 'or', 'not'], [])
    """
    found = list(dict.fromkeys(words(query)))
    telling = [word for word in found if not _idle(word)] or found
    if len(telling) > MOST:
        longest = set(sorted(telling, key=len, reverse=True)[:MOST])
        telling = [word for word in telling if word in longest][:MOST]
    return telling


def _idle(word: str) -> bool:
    """Whether a word tells nothing of what is sought."""
    return word in STOPWORDS or (len(word) <= 2 and all(letter in GRAMMAR for letter in word))


def joined(found: Iterable[str]) -> str:
    """Words as a store takes them: with a space between them."""
    return " ".join(found)
