"""Google ADK: agents whose memory stays under its budget.

    from memtrace import Session
    from memtrace.adapters.google_adk import managed

    session = Session("support-42", token_budget=128_000)
    app = App(name="support", root_agent=agent, plugins=[managed(session)])
    runner = Runner(app=app, session_service=...)

Each model call is sent what fits; the events in the framework's session stay as they are. Each
agent's memory is told on its ``invoke_agent`` span: the framework's own where it records one, else
one of memtrace's. Agents that one transfers to go on in the same memory; an agent that is called
as a tool, or that runs in a branch of its own, has a conversation of its own, within what the
session leaves free. Put the plugin last, so that what the others make of a request fits too.

A runner that serves many conversations is given a function that finds the session of one::

    managed(functools.cache(lambda id: Session(id, token_budget=128_000)))
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial, wraps
from inspect import isawaitable
from typing import Any, Literal

from opentelemetry.context import attach, create_key, get_value, set_value
from opentelemetry.trace import get_current_span

from .. import config
from ..actions.view import DIGEST
from ..engine import Run
from ..messages import facts, texts
from ..session import Session
from ..steps import finish, prepare
from ..telemetry import names, spans
from ..values import Item
from ._bills import read, record
from ._fitting import afit, aside, open_run, pin
from ._versions import require

require("google-adk", "google-adk", "2.13", "3")

from google.adk.plugins.base_plugin import BasePlugin  # noqa: E402 (after the one clear error)
from google.genai.types import Content, Part  # noqa: E402

__all__ = ["MemtracePlugin", "managed"]

Find = Callable[[str], "Session | Awaitable[Session]"]


def managed(session: Session | Find) -> MemtracePlugin:
    """The plugin that keeps a runner's memory in a session. See the module's example.

    Args:
        session: The session, or a function that gives the one for the id of a session of the
            framework's. It is called once an invocation, and may be a coroutine function.
    """
    return MemtracePlugin(session)


@dataclass
class _Talk:
    """A conversation, and what was sent of it last: its tokens, and to which model."""

    memory: Session
    agent: str
    sent_tokens: int | None = None
    model: str | None = None


@dataclass
class _Turn:
    """An invocation. ``memory`` is another than ``session`` within an agent's tool."""

    session: Session
    memory: Session
    task: asyncio.Task[Any]
    over: Callable[[asyncio.Task[Any]], None]
    runs: dict[tuple[str, str | None], Run] = field(default_factory=dict)
    talks: dict[tuple[str, str], _Talk] = field(default_factory=dict)

    def talk(self, ic: Any) -> _Talk:
        """The conversation that an agent has: the invocation's, or that of its own branch."""
        key = (ic.branch or "", ic.isolation_scope or "")
        if key not in self.talks:
            memory = aside(self.memory) if any(key) else self.memory
            self.talks[key] = _Talk(memory, ic.agent.name)
        return self.talks[key]

    def forget(self) -> None:
        """What was fitted aside goes."""
        self.task.remove_done_callback(self.over)
        for talk in self.talks.values():
            if talk.memory is not self.session:
                talk.memory.close()
                if talk.agent in self.session.agents:
                    self.session.agent(talk.agent).state = None


def _guarded(callback: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
    """A callback whose own failures the framework never sees."""

    @wraps(callback)
    async def guarded(self: MemtracePlugin, **told: Any) -> None:
        if config.current.enabled:
            try:
                await callback(self, **told)
            except Exception as error:
                spans.failure("google-adk", error)

    return guarded


class MemtracePlugin(BasePlugin):
    """Memory under its budget: around each agent, and before each model call.

    Attributes:
        session: Holds the memory, or finds what does.
    """

    def __init__(self, session: Session | Find, name: str = "memtrace") -> None:
        super().__init__(name)
        self.session = session
        self._turns: dict[str, _Turn] = {}
        self._key = create_key("memtrace-google-adk")

    # --- an invocation -------------------------------------------------------------------------

    @_guarded
    async def before_run_callback(self, *, invocation_context: Any) -> None:
        """An invocation begins: find its session."""
        await self._turn(invocation_context)

    @_guarded
    async def after_run_callback(self, *, invocation_context: Any) -> None:
        """An invocation is over, to its end or closed by its reader."""
        await self._over(invocation_context, None)

    @_guarded
    async def on_run_error_callback(self, *, invocation_context: Any, error: Exception) -> None:
        """An invocation failed."""
        await self._over(invocation_context, error)

    async def _turn(self, ic: Any) -> _Turn:
        turn = self._turns.get(ic.invocation_id)
        if turn is None:
            outer = get_value(self._key)
            if isinstance(outer, _Turn):
                session, memory = outer.session, aside(outer.memory)
            else:
                session = memory = await self._found(ic.session.id)
            task = asyncio.current_task()
            assert task is not None
            turn = _Turn(session, memory, task, partial(self._dropped, ic.invocation_id))
            task.add_done_callback(turn.over)
            self._turns[ic.invocation_id] = turn
        return turn

    async def _found(self, identity: str) -> Session:
        if isinstance(self.session, Session):
            return self.session
        found = self.session(identity)
        return await found if isawaitable(found) else found

    async def _over(self, ic: Any, error: BaseException | None) -> None:
        if (turn := self._turns.pop(ic.invocation_id, None)) is not None:
            for run in reversed(turn.runs.values()):
                await finish(run, error)
            turn.forget()

    def _dropped(self, identity: str, task: asyncio.Task[Any]) -> None:
        """An invocation was cancelled, and the framework told nobody."""
        if (turn := self._turns.pop(identity, None)) is not None:
            for run in reversed(turn.runs.values()):
                run.end(asyncio.CancelledError() if task.cancelled() else task.exception())
            turn.forget()

    # --- its agents ----------------------------------------------------------------------------

    @_guarded
    async def before_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        """An agent begins: measure memory, on the span that the framework just made."""
        ic = callback_context.get_invocation_context()
        turn, who = await self._turn(ic), (agent.name, ic.branch)
        await self._ended(ic, *who)
        told = getattr(get_current_span(), "attributes", None) or {}
        about = {names.OPERATION_NAME: names.INVOKE_AGENT, names.AGENT_NAME: agent.name}
        made = get_current_span().is_recording() and about.items() <= dict(told).items()
        span: Literal["own", "current"] = "current" if made else "own"
        run = open_run(turn.session, agent.name, asynchronous=True, span=span)
        turn.runs[who] = run
        # The framework steps an agent in a context of the agent's own, and leaves in it what is
        # attached here: what the agent does is within the run, and nothing else is.
        attach(set_value(self._key, turn, run.context))
        await prepare(run)

    @_guarded
    async def after_agent_callback(self, *, agent: Any, callback_context: Any) -> None:
        """An agent is done, or was cancelled."""
        ic, error = callback_context.get_invocation_context(), sys.exc_info()[1]
        cancelled = error if isinstance(error, asyncio.CancelledError) else None
        await self._ended(ic, agent.name, ic.branch, cancelled)

    @_guarded
    async def on_agent_error_callback(
        self, *, agent: Any, callback_context: Any, error: Exception
    ) -> None:
        """An agent failed."""
        ic = callback_context.get_invocation_context()
        await self._ended(ic, agent.name, ic.branch, error)

    @_guarded
    async def on_event_callback(self, *, invocation_context: Any, event: Any) -> None:
        """An agent said its last word, or handed off: nothing else may tell of its end."""
        if event.is_final_response() or event.actions.transfer_to_agent:
            await self._ended(invocation_context, event.author, event.branch)

    async def _ended(
        self, ic: Any, agent: str, branch: str | None, error: BaseException | None = None
    ) -> None:
        turn = self._turns.get(ic.invocation_id)
        if turn is not None and (run := turn.runs.pop((agent, branch), None)) is not None:
            # A reader who stops early has the agent cancelled, and that is no error.
            asked = getattr(turn.task, "cancelling", bool)  # from Python 3.11 on, as the framework
            early = isinstance(error, asyncio.CancelledError) and not asked()
            await finish(run, None if early else error)

    # --- its model calls -----------------------------------------------------------------------

    @_guarded
    async def before_model_callback(self, *, callback_context: Any, llm_request: Any) -> None:
        """Fit what is sent; on a failure of memtrace's own it is sent as it is."""
        if llm_request.previous_interaction_id or not llm_request.contents:
            return  # the provider holds the conversation
        ic = callback_context.get_invocation_context()
        turn = await self._turn(ic)
        talk, about = turn.talk(ic), llm_request.config
        talk.sent_tokens = None
        system, tools = _plain(about.system_instruction), _plain(about.tools)
        pinned = pin(talk.memory, "google-adk", system=system, tools=tools)
        contents = list(llm_request.contents)
        view = await afit(talk.memory, contents)
        if view is None:
            return
        ours = {id(content) for content in contents}
        llm_request.contents = [
            content if id(content) in ours else _framework(item)
            for content, item in zip(view.messages, view.items, strict=True)
        ]
        talk.sent_tokens, talk.model = view.tokens + pinned, llm_request.model
        if talk.memory is not turn.session:
            said = [text for content in llm_request.contents for text in _said(content)]
            turn.session.agent(talk.agent).state = said

    @_guarded
    async def after_model_callback(self, *, callback_context: Any, llm_response: Any) -> None:
        """A model call was billed."""
        usage = llm_response.usage_metadata
        if usage is None or llm_response.partial or not usage.prompt_token_count:
            return
        ic = callback_context.get_invocation_context()
        talk = (await self._turn(ic)).talk(ic)
        if talk.sent_tokens is not None:
            bill = read(usage, llm_response.model_version or talk.model)
            record(talk.memory, bill, talk.sent_tokens)


def _plain(value: Any) -> Any:
    """A system prompt, or tools, as data."""
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    dump = getattr(value, "model_dump", None)
    return value if dump is None else dump(mode="json", exclude_none=True)


def _framework(item: Item) -> Any:
    """What stands for messages, as a content of the framework's own."""
    content = item.content
    if item.kind == DIGEST:
        role = "model" if facts(content).role == "assistant" else "user"
        return Content(role=role, parts=[Part(text="\n".join(_said(content)))])
    if isinstance(content, Content):
        return content
    return Content.model_validate_json(json.dumps(content))  # what a store gave back


def _said(content: Any) -> list[str]:
    return [text for text in texts(content) if isinstance(text, str) and text]
