"""What a prompt's tokens cost, as shares of a token read at full price. Replaceable.

Shares, not money: they differ little within a provider's models, and change seldom. What a model
writes costs the same whether memory is made smaller or not, so it is not part of this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple


class Price(NamedTuple):
    """What a provider asks for the tokens of a prompt, relative to one that it reads anew.

    Args:
        cached_read: Share of the full price, 0–1, of a token read from the prompt cache.
        cache_write: The same, ≥ 0, of a token that is read anew and enters the cache: 1 where
            that costs nothing extra.
        kept_s: Seconds after a call until its prompt is certainly cached no more.
    """

    cached_read: float = 0.10
    cache_write: float = 1.0
    kept_s: float = 3600.0

    @property
    def cold(self) -> Price:
        """The same where nothing is cached any more.

        >>> Price().cold.cached_read
        1.0
        """
        return self._replace(cached_read=self.cache_write)


PRICES: Mapping[str, Price] = MappingProxyType(
    {
        "anthropic": Price(0.10, 1.25, 300),
        "claude": Price(0.10, 1.25, 300),
        "openai": Price(0.10),
        "gpt-4.1": Price(0.25),
        "gpt-4o": Price(0.50),
        "o1": Price(0.50),
        "o3": Price(0.25),
        "o3-mini": Price(0.50),
        "o4-mini": Price(0.25),
        "gpt-5": Price(0.10),
        "gemini": Price(0.10),
        "gemini-1.5": Price(0.25),
        "gemini-2.0": Price(0.25),
        "deepseek": Price(0.10, 1.0, 86_400),
    }
)
"""Prices by what a model's or a provider's name contains; any other is read as ``Price()``.

Sources, read in November 2026: the providers' pages on prompt caching and their price lists.
Anthropic: a read .1 of the input's price, a write 1.25, kept for five minutes. OpenAI: cached
input .5 of the price for gpt-4o and o1, .25 for gpt-4.1, o3 and o4-mini, .1 from gpt-5 on, writes
at the price itself, kept for an hour at most. Google: implicit caching takes 90% off from
Gemini 2.5 on, 75% before. DeepSeek: a hit .1, kept for hours to days."""


Figures = tuple[float, float, float]


def price_of(name: str | None, prices: Mapping[str, Figures] | Figures | None = None) -> Price:
    """The price that holds for a model.

    Args:
        name: The model's or the provider's, as in ``openai/gpt-4o-mini``; None: unknown.
        prices: One price for all; or by what a name contains, as whole words begin, the last and
            longest that fits; None: :data:`PRICES`.

    >>> price_of("anthropic/claude-sonnet-4-5").cache_write, price_of("gpt-4o-mini").cached_read
    (1.25, 0.5)
    >>> price_of("my-model", {"my": Price(cached_read=0.3)}).cached_read
    0.3
    """
    if isinstance(prices, tuple):
        return Price(*prices)
    found: Figures = Price()
    best = (-1, 0)
    table: Mapping[str, Figures] = PRICES if prices is None else prices
    for part, price in table.items():
        begins = r"(?<![a-z0-9])" + re.escape(part.lower())
        for match in re.finditer(begins, (name or "").lower()):
            if (match.start(), len(part)) > best:
                best, found = (match.start(), len(part)), price
    return Price(*found)
