"""Whether a pass pays: what it saves in the calls to come, against what must be read again.

A provider keeps the beginning of a prompt that it has read: as long as the next prompt begins
alike, that much is read at a share of the price. A pass changes messages in the middle, and from
the first of them on all is read at full price once more.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..prices import Price
from ..values import Item


class Reread(NamedTuple):
    """How a provider reads a prompt that follows another, in tokens.

    Args:
        kept: Of the messages that both begin with: read from the cache.
        lost: Of the earlier prompt, all after those.
        again: Of this prompt, after those, what stood in the earlier one in the same or a longer
            form: it would have been in the cache.
        new: Of this prompt, what the earlier one did not hold in any form.
    """

    kept: int
    lost: int
    again: int
    new: int

    @property
    def broken(self) -> bool:
        """Whether the cache was of less use than it could be: the earlier prompt was rewritten."""
        return self.lost > 0

    @property
    def tokens(self) -> int:
        """Of this prompt."""
        return self.kept + self.again + self.new

    def spent(self, price: Price) -> float:
        """What reading it costs, in tokens at full price.

        >>> Reread(kept=1000, lost=0, again=0, new=50).spent(Price(cached_read=0.1))
        150.0
        """
        return price.cached_read * self.kept + price.cache_write * (self.again + self.new)


def reread(previous: Sequence[Item], view: Sequence[Item]) -> Reread:
    """Compare what a model is sent with what it was sent before.

    Args:
        previous: Items of the conversation as it was sent last, in order.
        view: The same as it is sent now.

    >>> from memtrace import Session
    >>> session = Session()
    >>> for word in ("one", "two", "three"):
    ...     session.history.append({"role": "user", "content": word})
    >>> before = list(session.history.items)
    >>> session.history.replace(1, {"role": "user", "content": "II"})
    >>> reread(before, list(session.history.items)).broken
    True
    """
    same = 0
    for ours, theirs in zip(previous, view, strict=False):
        if ours.id != theirs.id:
            break
        same += 1
    seen = {item.id for item in previous[same:]}
    for item in previous[same:]:
        seen.update(item.derived_from)
    rest = view[same:]
    again = sum(i.tokens for i in rest if i.id in seen or not seen.isdisjoint(i.derived_from))
    return Reread(
        kept=sum(item.tokens for item in view[:same]),
        lost=sum(item.tokens for item in previous[same:]),
        again=again,
        new=sum(item.tokens for item in rest) - again,
    )


class Worth(NamedTuple):
    """What a pass is worth.

    Args:
        saved_tokens: By which every later prompt is shorter.
        reread_tokens: What is read at full price that would have come from the cache.
        calls: In how many later calls that is expected to save.
        net_tokens: What is saved in all, less what reading again costs, in tokens at full price.
    """

    saved_tokens: int
    reread_tokens: int
    calls: float
    net_tokens: float

    @property
    def pays(self) -> bool:
        """Whether more is saved than spent."""
        return self.net_tokens > 0

    def __str__(self) -> str:
        calls = round(self.calls)
        each = f"{calls} call" if calls == 1 else f"{calls} calls"
        return (
            f"{self.saved_tokens:,} tokens saved in each of about {each}, "
            f"{self.reread_tokens:,} read again: {self.net_tokens:+,.0f} tokens at full price"
        )


def worth(
    previous: Sequence[Item],
    without: Sequence[Item],
    changed: Sequence[Item],
    calls: float,
    price: Price,
    *,
    cached: bool = True,
) -> Worth:
    """The net of sending a changed conversation rather than the one that is.

    Saved x calls x share of a cached read, and what the present call saves, against what the
    present call reads again.

    Args:
        previous: Items as they were sent last.
        without: The same as they would be sent now.
        changed: The same after the pass.
        calls: How many calls after the present one are expected to be shorter by it.
        price: Of the prompt's tokens.
        cached: False: the provider has forgotten the last prompt, so all is read anew either way.

    >>> worth([], [], [], 10, Price()).net_tokens
    0.0
    """
    plain, passed = reread(previous, without), reread(previous, changed)
    saved = plain.tokens - passed.tokens
    now = price if cached else price.cold
    net = plain.spent(now) - passed.spent(now) + saved * price.cached_read * calls
    return Worth(saved, passed.again if cached else 0, calls, net)


def calls_ahead(calls: int, tokens_per_call: float, saved_tokens: int, room_tokens: int) -> float:
    """How many more calls a pass is expected to save in.

    A session that had so many calls is expected to have as many again: seen at a moment that is
    no special one, what is past is as long as what is to come (the median of Gott's rule). But
    memory fills up again meanwhile, and then a pass comes in any case, sooner or later: compared
    with the one that waits for the budget to force it, each pass saves in half the calls that it
    takes to fill what it freed and the room there was (as in the economic order quantity).

    Args:
        calls: That the session had so far.
        tokens_per_call: What each of them added.
        saved_tokens: What the pass frees.
        room_tokens: What is left of the budget before it; 0 or less: it is full.

    >>> calls_ahead(100, 500, 20_000, 10_000), calls_ahead(5, 500, 20_000, 10_000)
    (29.0, 5.0)
    """
    if tokens_per_call <= 0:
        return float(calls)
    until_full = (saved_tokens + max(0, room_tokens)) / (2 * tokens_per_call)
    return max(0.0, min(float(calls), until_full - 1))
