"""What every adapter must do, whatever the framework: a driver is given, and these must pass.

A test file of a framework subclasses :class:`Contract`, and says how its agent is run.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from stub import Script, Server, part, task

from memtrace import Session
from memtrace.testing import capture

CALLS, BUDGET = 200, 32_000
SHORT_CALLS, SHORT_BUDGET = 80, 16_000
"""What further ways into one adapter run, unless ``MEMTRACE_TORTURE`` is set."""

SHARE = 0.45
"""Of the tokens sent without memtrace, what may be sent with it."""


def read(part_number: int) -> str:
    """The tool: what stands in a part."""
    return part(part_number)


class Contract(ABC):
    """One framework's adapter. The agent has one tool, ``read(part: int) -> str``: :func:`read`.

    Attributes:
        further: Whether this is a further way into an adapter that has the whole test already.
    """

    further: ClassVar[bool] = False

    @abstractmethod
    def run(self, url: str, question: str, session: Session | None) -> str:
        """Run the framework's agent to its end against a server, and give its last text.

        Args:
            url: The stub server's, without ``/v1``.
            question: The first user message.
            session: What the adapter is given; None: the framework alone, without memtrace.
        """

    def test_two_hundred_calls_stay_under_the_budget(
        self, record_property: Callable[[str, object], None]
    ) -> None:
        """
        200 tool calls of 1,000 tokens: never over 32k, pairs valid at every call, the right
        answer, and at most .45 of the tokens that are sent without memtrace.
        """
        short = self.further and not os.environ.get("MEMTRACE_TORTURE")
        calls, budget = (SHORT_CALLS, SHORT_BUDGET) if short else (CALLS, BUDGET)
        with Server(Script(calls)) as bare:
            assert "heron-4711" in self.run(bare.url, task(), None)
        session = Session("contract", token_budget=budget)
        with Server(Script(calls)) as server:
            answer = self.run(server.url, task(), session)

        assert server.rejected == []
        assert "heron-4711" in answer
        assert len(server.tokens) == len(bare.tokens) == calls + 1
        assert max(server.tokens) <= budget
        share = sum(server.tokens) / sum(bare.tokens)
        record_property(
            "figures",
            f"{calls} calls within {budget:,} tokens: at most {max(server.tokens):,}, in all "
            f"{share:.3f} of what is sent without memtrace",
        )
        assert share <= SHARE

    def test_parallel_calls_stay_paired(self) -> None:
        """
        Calls that are asked for together are kept or put away together.
        """
        session = Session("parallel", token_budget=16_000)
        with Server(Script(60, parallel=3)) as server:
            answer = self.run(server.url, task(), session)

        assert server.rejected == []
        assert "heron-4711" in answer
        assert max(server.tokens) <= 16_000

    def test_what_is_not_compressed_is_unchanged(self) -> None:
        """
        Under its budget a run sends what it would send without memtrace, message for message.
        """
        with Server(Script(3)) as bare:
            self.run(bare.url, task(), None)
        with Server(Script(3)) as server:
            self.run(server.url, task(), Session("small", token_budget=200_000))

        assert server.sent == bare.sent

    def test_usage_is_recorded(self) -> None:
        """
        What the provider billed goes to the session, with what of it came from the prompt cache
        and the model's name, and memory is profiled around the run.
        """
        with capture() as captured, Server(Script(2)) as server:
            session = Session("traced", token_budget=BUDGET)
            self.run(server.url, task(), session)

        # A hook that sees no answer learns what the last one was billed at the next call.
        told = [(call.billed, call.cached) for call in session.record.billed]
        said = list(zip(server.tokens, server.cached, strict=True))
        assert (told, session.record.model) == (said[: max(2, len(told))], server.model)
        assert session.history.tokens > 0
        assert captured.spans
