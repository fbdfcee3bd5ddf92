"""The `openai` client for hand-written loops: what is sent is measured, and fits.

    from memtrace.adapters.openai import managed

    client = managed(OpenAI(), session)

    @managed_agent
    def answer(session: Session, question: str) -> str:
        messages = [{"role": "user", "content": question}]
        while True:
            reply = client.chat.completions.create(model=..., messages=messages, tools=...)
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

require("openai", "openai", "2")

C = TypeVar("C")


def managed(client: C, session: Session | None = None) -> C:
    """A client that keeps what it sends within a session's budget.

    ``chat.completions`` and ``responses``: ``create``, ``parse`` and ``stream``, also as
    ``with_raw_response`` and ``with_streaming_response``, of sync and async clients. The messages
    (``input``, where it is a list) are adopted as the session's history, ``instructions`` and
    ``tools`` count as pinned contexts, and what the provider billed is recorded. With
    ``previous_response_id`` or ``conversation`` the server holds the conversation: what is sent
    then is measured, and goes out as it is. Calls of another conversation (a summary, a title)
    go through the client that was given, or a session of their own.

    What ``with_streaming_response`` was billed is not recorded: its body is the caller's to read.
    Nor is what a stream was billed that does not say so (``stream_options``).

    Args:
        client: An ``OpenAI`` or ``AsyncOpenAI``, or one derived from it. It stays as it is.
        session: Whose memory the conversation is; None: at each call the current one's, so that
            within a ``@managed_agent`` run it need not be named.

    Returns:
        The client, wrapped: everything else of it is untouched.

    Raises:
        ConfigurationError: It is no such client, or ``session`` is no session.
    """
    return manage(client, "openai", session, _FORMS)


def _billed(answer: Any) -> Bill:
    # Of a stream of Responses the last event says it, within the response that it ends.
    holder = getattr(answer, "response", answer)
    return read(held(holder, "usage"), held(holder, "model"))


_CHAT = Form("messages", _billed)
_RESPONSES = Form("input", _billed, "instructions", ("previous_response_id", "conversation"))
_FORMS = {
    ("chat", "completions"): _CHAT,
    ("responses",): _RESPONSES,
    ("beta", "chat", "completions"): _CHAT,
    ("beta", "responses"): _RESPONSES,
}
