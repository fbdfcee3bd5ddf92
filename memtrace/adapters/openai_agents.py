"""OpenAI Agents SDK: a runner whose agents' memory stays under its budget.

    from memtrace.adapters.openai_agents import managed

    runner = managed(Session("support-42", token_budget=128_000))
    result = await runner.run(agent, "question")      # as Runner.run; run_sync, run_streamed too

Each run is one ``invoke_agent`` span, each model call is sent what fits, and the conversation
goes on from run to run: the session is the SDK's session too. Hand-offs go on in the same
conversation; an agent used as a tool has one of its own, within what the session leaves free.
The SDK's own tracing stays as it is. Tools of MCP servers are not counted: listing them may ask
the server.
"""

from __future__ import annotations

import asyncio
import inspect
from dataclasses import replace
from typing import Any

from opentelemetry.context import attach, detach

from .. import config
from ..actions import create_memory_snapshot
from ..engine import Run
from ..errors import StaleSessionError, StoreError
from ..instrument import managed_agent
from ..messages.blocks import field as held
from ..messages.compact import compact_json
from ..session import Session
from ..steps import finish, prepare
from ..telemetry import spans
from ._bills import read, record
from ._fitting import afit, aside, open_run, pin
from ._versions import require

require("openai-agents", "openai-agents", "0.24")

from agents import RunHooks, Runner  # noqa: E402 (after the one clear error)
from agents.run import ModelInputData  # noqa: E402

__all__ = ["InputFilter", "Managed", "MemtraceHooks", "MemtraceSession", "managed"]

_SERVER_HELD = ("conversation_id", "previous_response_id", "auto_previous_response_id")
_FILTER = "call_model_input_filter"


def managed(session: Session) -> Managed:
    """A runner that keeps its runs' memory in a session. See the module's example."""
    return Managed(session)


class MemtraceSession:
    """The SDK's session protocol over ``session.history``: what the SDK stores is there, once.

    What is compressed for a model call is given back as it was received. With a durable session
    an item is on disk when the SDK is told so; where that fails it is logged, and the run goes
    on. ``session_settings`` are the SDK's.

        result = await Runner.run(agent, "question", session=MemtraceSession(session))
    """

    def __init__(self, session: Session, session_settings: Any = None) -> None:
        self.session_id = session.id
        self.session_settings = session_settings
        self._session = session
        self._stored = len(session.history.received)

    async def get_items(self, limit: int | None = None) -> list[Any]:
        """The latest items, oldest first; None: all, or as many as the settings say."""
        if limit is None:
            limit = getattr(self.session_settings, "limit", None)
        items = self._items()
        return items if limit is None else items[max(0, len(items) - limit) :]

    async def add_items(self, items: list[Any]) -> None:
        """Take in items, but for those that a model call brought in already."""
        await asyncio.to_thread(self._add, list(items))

    async def pop_item(self) -> Any:
        """Take out the latest item, and return it; None: there is none."""
        items = self._items()
        await asyncio.to_thread(self._cut, max(0, len(items) - 1))
        return items[-1] if items else None

    async def clear_session(self) -> None:
        """Forget every item."""
        await asyncio.to_thread(self._cut, 0)

    def _items(self) -> list[Any]:
        with self._session.lock:
            received = self._session.history.received
            self._stored = min(self._stored, len(received))
            return [item.content for item in received[: self._stored]]

    def _add(self, items: list[Any]) -> None:
        history = self._session.history
        with self._session.lock:
            self._items()  # in case that somebody made the history shorter
            waiting = [item.content for item in history.received[self._stored :]]
            for place in range(len(waiting) + 1):
                there = waiting[place : place + len(items)]
                if there == items[: len(there)]:
                    break
            history.extend(items[len(there) :])
            self._stored += place + len(items)
        self._keep()

    def _cut(self, length: int) -> None:
        with self._session.lock:
            self._session.history.sync(self._items()[:length])
            self._stored = length
        self._keep()

    def _keep(self) -> None:
        if self._session.durable:
            try:
                create_memory_snapshot(self._session, "openai-agents")
            except (StaleSessionError, StoreError):
                return  # it is logged, the run goes on, and the next snapshot takes all

    def _extended_by(self, items: list[Any]) -> bool:
        """Whether a list goes on from what is stored, so that the history may adopt it."""
        with self._session.lock:
            self._items()
            return self._session.history.common_prefix(items) >= self._stored


class InputFilter:
    """Fits what each model call is sent: ``RunConfig(call_model_input_filter=InputFilter(s))``.

    A list that does not go on from what is stored (an agent used as a tool, a hand-off that
    rewrites the input, a session read with a limit) is fitted aside: what is stored stays.
    ``first`` is a filter of the caller's, which is asked before.
    """

    def __init__(self, session: Session, stored: Any = None, first: Any = None) -> None:
        self.session = session
        self.agent: Any = None
        self.model: Any = None  # the run's, in place of its agents' own
        self.sent_tokens: int | None = None
        self._stored = stored
        self._first = first
        self._aside: dict[tuple[str, str], Session] = {}

    async def __call__(self, data: Any) -> Any:
        """What the model call is sent; on a failure of memtrace's own, what the SDK would send."""
        model = data.model_data
        if self._first is not None:
            model = self._first(data)
            model = await model if inspect.isawaitable(model) else model
        if not config.current.enabled:
            return model
        try:
            items = await self._fit(data.agent, list(model.input), model.instructions)
        except Exception as error:
            spans.failure("openai-agents", error)
            return model
        return ModelInputData(input=items, instructions=model.instructions)

    async def _fit(self, agent: Any, items: list[Any], instructions: Any) -> list[Any]:
        memory = self._memory(agent, items)
        pinned = pin(memory, "openai-agents", system=instructions, tools=_schemas(agent))
        view = await afit(memory, items)
        if view is None:
            return items
        if memory is self.session:
            self.sent_tokens = view.tokens + pinned
        elif agent is not self.agent:
            self.session.agent(_name(agent)).state = view.messages
        return view.messages

    def _memory(self, agent: Any, items: list[Any]) -> Session:
        session, main = self.session, self.agent is None or self.agent is agent
        if main and (self._stored is None or self._stored._extended_by(items)):
            return session
        key = (_name(agent), compact_json(items[:1]).text)
        if key not in self._aside:
            # A conversation in the session's stead has the whole of its budget.
            self._aside[key] = (
                Session(token_budget=session.budget, policy=session.policy, counter=session.counter)
                if main
                else aside(session)
            )
        return self._aside[key]

    def close(self) -> None:
        """Forget what was fitted aside."""
        for (name, _), memory in self._aside.items():
            if name in self.session.agents:
                self.session.agent(name).state = None
            memory.close()
        self._aside.clear()


class MemtraceHooks(RunHooks):
    """Run hooks that tell a session what was billed, and a filter which agent has the word.

    ``also`` are the caller's own hooks, all of which are called as before.
    """

    def __init__(self, fit: InputFilter, also: Any = None) -> None:
        self._fit = fit
        self._also = also if also is not None else RunHooks()
        for name in dir(self._also):
            if name.startswith("on_") and name not in vars(MemtraceHooks):
                setattr(self, name, getattr(self._also, name))

    async def on_agent_start(self, context: Any, agent: Any) -> None:
        """An agent has the word now, at the start or by a hand-off."""
        self._fit.agent = agent
        await self._also.on_agent_start(context, agent)

    async def on_llm_end(self, context: Any, agent: Any, response: Any) -> None:
        """A model call was billed."""
        try:
            model = self._fit.model or agent.model
            bill = read(response.usage, model if isinstance(model, str) else held(model, "model"))
            # The SDK says 0 too where the provider does not say what was cached.
            bill = bill._replace(cached=bill.cached or None)
            record(self._fit.session, bill, self._fit.sent_tokens)
        except Exception as error:
            spans.failure("openai-agents", error)
        await self._also.on_llm_end(context, agent, response)


class Managed:
    """Runs agents as the SDK's ``Runner`` does, with the same arguments, in a session.

    Where the provider holds the conversation (``conversation_id``, ``previous_response_id``)
    there is nothing to fit: such a run is measured. ``stored`` is the SDK's session over the
    session, for runs that are given none.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.stored = MemtraceSession(session)

    async def run(self, starting_agent: Any, input: Any, **options: Any) -> Any:  # noqa: A002
        """As ``Runner.run``."""
        fit, options = self._options(options)

        async def whole() -> Any:
            try:
                return await Runner.run(starting_agent, input, **options)
            finally:
                fit.close()

        return await managed_agent(session=self.session, name=_name(starting_agent))(whole)()

    def run_sync(self, starting_agent: Any, input: Any, **options: Any) -> Any:  # noqa: A002
        """As ``Runner.run_sync``."""
        fit, options = self._options(options)

        def whole() -> Any:
            try:
                return Runner.run_sync(starting_agent, input, **options)
            finally:
                fit.close()

        return managed_agent(session=self.session, name=_name(starting_agent))(whole)()

    def run_streamed(self, starting_agent: Any, input: Any, **options: Any) -> Any:  # noqa: A002
        """As ``Runner.run_streamed``; the span ends with the run, streamed out or cancelled."""
        fit, options = self._options(options)
        if not config.current.enabled:
            return Runner.run_streamed(starting_agent, input, **options)
        run = open_run(self.session, _name(starting_agent), asynchronous=True)
        token = attach(run.context)
        try:
            result = Runner.run_streamed(starting_agent, input, **options)
        except BaseException as error:
            run.end(error)
            raise
        finally:
            detach(token)
        task = result.run_loop_task
        result.run_loop_task = asyncio.create_task(_followed(run, result, task, fit))
        # One that is cancelled before its first step never gets to pass it on.
        result.run_loop_task.add_done_callback(lambda _done: task.cancel())
        return result

    def _options(self, options: dict[str, Any]) -> tuple[InputFilter, dict[str, Any]]:
        """A run's filter, and the caller's options with memtrace's beside them."""
        held_there = any(options.get(name) for name in _SERVER_HELD)
        stored = options.get("session")
        if stored is None and not held_there:
            stored = self.stored
        settings: Any = options.get("run_config") or {}
        first = settings.get(_FILTER) if type(settings) is dict else getattr(settings, _FILTER)
        fit = InputFilter(self.session, stored if stored is self.stored else None, first)
        fit.model = held(settings, "model")
        options = {**options, "hooks": MemtraceHooks(fit, options.get("hooks"))}
        if not held_there:
            options["session"] = stored
            # A dict stays one: of a RunConfig that is given the SDK does not close the clients.
            options["run_config"] = (
                {**settings, _FILTER: fit}
                if type(settings) is dict
                else replace(settings, **{_FILTER: fit})
            )
        return fit, options


async def _followed(run: Run, result: Any, task: asyncio.Task[Any], fit: InputFilter) -> None:
    """End a run when the SDK's task for it ends."""
    try:
        await prepare(run)
        await task
    except BaseException as error:
        run.end(error)
        raise
    finally:
        fit.close()
    # Too many turns, or a guardrail that says no, is no error of the task: the SDK finds it as
    # the result is read.
    getattr(result, "_check_errors", lambda: None)()
    await finish(run, getattr(result, "_stored_exception", None))


def _name(agent: Any) -> str:
    return str(getattr(agent, "name", "") or "agent")


_TOLD = {
    "name": ("tool_name", "name"),
    "description": ("tool_description", "description", "handoff_description"),
    "parameters": ("params_json_schema", "input_json_schema"),
}


def _schemas(agent: Any) -> list[dict[str, Any]]:
    """What a model is told of an agent's tools and hand-offs."""
    return [
        {
            key: value
            for key, fields in _TOLD.items()
            if (value := next((v for f in fields if (v := getattr(tool, f, None))), None))
        }
        for tool in (*(agent.tools or ()), *(agent.handoffs or ()))
    ]
