"""A conversation's id and what is left of its budget, on their way to a remote agent.

In W3C baggage (https://www.w3.org/TR/baggage/), which OpenTelemetry's propagators write into the
headers of instrumented requests and read out of them. It goes with every request that the agent's
body makes, to whomever: so it is only there where it was asked for, and what comes in is read only
where it is asked for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from opentelemetry.context import Context

from .engine import Measured, Run, Spec
from .telemetry import names, spans

Begin = Callable[..., Run]

_LONGEST_ID = 512


class Caller(NamedTuple):
    """What a remote agent was told of its caller's memory; see :func:`from_baggage`.

    Args:
        conversation_id: The calling session's id; None: nothing was said.
        remaining_tokens: Tokens that the caller's budget had left as the request was sent, ≥ 0;
            None: nothing was said.
    """

    conversation_id: str | None = None
    remaining_tokens: int | None = None


class _Remaining(str):
    """What a memory's budget has left, worked out when it is written into a request."""

    __slots__ = ("_memory",)
    _memory: Measured

    def __str__(self) -> str:
        return str(_left(self._memory))


def _left(memory: Measured) -> int:
    return max(0, memory.budget.total - sum(memory.read_tokens()))


def carrying(begin: Begin) -> Begin:
    """The same as what opens a run, with the run's context carrying its memory as baggage."""

    def begun(spec: Spec, memory: Measured | None, *, asynchronous: bool = False) -> Run:
        run = begin(spec, memory, asynchronous=asynchronous)
        if memory is not None:
            try:
                run.context = _carried(run.context, memory)
            except Exception as error:
                spans.failure("baggage", error)
        return run

    return begun


def _carried(context: Context, memory: Measured) -> Context:
    from opentelemetry.baggage import set_baggage

    if memory.id is not None:
        context = set_baggage(names.CONVERSATION_ID, memory.id, context)
    remaining = _Remaining(_left(memory))
    remaining._memory = memory
    return set_baggage(names.BUDGET_REMAINING, remaining, context)


def from_baggage(context: Context | None = None) -> Caller:
    """What a calling agent said of its memory, by ``@managed_agent(baggage=True)``.

    It came over the network: use it as a hint, and not to decide whose data may be read. What
    cannot be what it should be is None.

    Args:
        context: The request's; None: the current one, where the server's instrumentation put it.

    >>> from_baggage()
    Caller(conversation_id=None, remaining_tokens=None)
    """
    from opentelemetry.baggage import get_baggage

    conversation = str(get_baggage(names.CONVERSATION_ID, context) or "")
    tokens = str(get_baggage(names.BUDGET_REMAINING, context) or "")
    return Caller(
        conversation if 0 < len(conversation) <= _LONGEST_ID else None,
        int(tokens) if tokens.isascii() and tokens.isdigit() and len(tokens) < 16 else None,
    )
