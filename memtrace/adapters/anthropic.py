"""The `anthropic` client for hand-written loops: what is sent is measured, and fits.

    from memtrace.adapters.anthropic import managed

    client = managed(Anthropic(), session)

    @managed_agent
    def answer(session: Session, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        while True:
            reply = client.messages.create(model=..., max_tokens=..., messages=messages, tools=...)
            ...                                    # append the reply and the tools' results

The loop goes on owning its list, and appends to it; what goes out is the session's view of it.
"""

from __future__ import annotations

from typing import Any, TypeVar

from ..messages.blocks import field as held
from ..session import Session
from ._bills import Bill, read
from ._calls import Form
from ._clients import manage
from ._versions import require

require("anthropic", "anthropic", "0.60")

C = TypeVar("C")


def managed(client: C, session: Session | None = None) -> C:
    """A client that keeps what it sends within a session's budget.

    ``messages`` and ``beta.messages``: ``create`` (streamed or not), ``parse`` and ``stream``,
    also as ``with_raw_response`` and ``with_streaming_response``, of sync and async clients. The
    messages are adopted as the session's history, ``system`` and ``tools`` count as pinned
    contexts, and what the provider billed is recorded, cached tokens included. Calls of another
    conversation (a summary, a title) go through the client that was given, or a session of their
    own. ``beta.messages.tool_runner`` is a loop of the client's own, and is not managed.

    What ``with_streaming_response`` was billed is not recorded: its body is the caller's to read.

    Args:
        client: An ``Anthropic`` or ``AsyncAnthropic``, or one for Bedrock or Vertex. It stays as
            it is.
        session: Whose memory the conversation is; None: at each call the current one's, so that
            within a ``@managed_agent`` run it need not be named.

    Returns:
        The client, wrapped: everything else of it is untouched.

    Raises:
        ConfigurationError: It is no such client, or ``session`` is no session.
    """
    return manage(client, "anthropic", session, _FORMS)


def _billed(answer: Any) -> Bill:
    # Of a stream the first event says it, within the message that it starts.
    holder = getattr(answer, "message", answer)
    return read(held(holder, "usage"), held(holder, "model"))


_MESSAGES = Form("messages", _billed, "system")
_FORMS = {("messages",): _MESSAGES, ("beta", "messages"): _MESSAGES}
