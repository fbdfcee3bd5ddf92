"""Where the demo's agents work: each step is one tool call, told in the session's history."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

from ..session import Session
from ..values import MemoryProfile
from .tools import Tools

CACHE_TTL_S = 300.0
"""Seconds a search's result is good for: the files of an installed package seldom change."""

_FILES = "files"
_OUTLINE = ("class ", "def ", "async def ", "    def ", "    async def ", "@")


@dataclass(frozen=True, slots=True)
class Step:
    """One tool call.

    Args:
        number: From 1.
        agent: Who made it.
        tool: ``list``, ``read``, ``search`` or ``run``.
        argument: What the tool was given, in one short text.
        cached: Whether the cache answered it.
        call_tokens: Tokens of memory when the model was called that asked for it.
        profile: Memory after it.
    """

    number: int
    agent: str
    tool: str
    argument: str
    cached: bool
    call_tokens: int
    profile: MemoryProfile


class Call(NamedTuple):
    """A tool call that is asked for.

    Args:
        tool: As in :class:`Step`.
        arguments: What the tool is given.
        argument: The same in one short text.
        use: Uses the tool, or finds what it gave before; gives its result.
    """

    tool: str
    arguments: dict[str, str]
    argument: str
    use: Callable[[], str]

    def message(self, number: int) -> dict[str, Any]:
        """The call as a model would make it."""
        function = {"name": self.tool, "arguments": json.dumps(self.arguments)}
        return {"id": f"call_{number}", "type": "function", "function": function}


@dataclass(slots=True)
class Workbench:
    """Tools, and the memory that using them fills.

    Args:
        session: Whose memory it is.
        tools: What can be done.
        steps: What was done.
    """

    session: Session
    tools: Tools
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        # Everybody asks for it, and it costs a walk over the disk: the loop keeps it at hand.
        self.session.cache.loader(_FILES, ttl_s=CACHE_TTL_S)(lambda: self.tools("list", {}))

    def say(self, agent: str, text: str) -> None:
        """What an agent says to the others."""
        self.session.history.append({"role": "assistant", "name": agent, "content": text})

    def list(self, agent: str) -> str:
        """Files of the package; a loader keeps them in the cache."""

        def use() -> str:
            found = self.session.cache.get(_FILES)
            return self.tools("list", {}) if found is None else str(found)

        return self._step(agent, Call("list", {}, "*.py", use))

    def read(self, agent: str, path: str) -> str:
        """A file, kept in working memory; the history is told its outline only."""
        return self.read_all(agent, [path])[0]

    def read_all(self, agent: str, paths: Sequence[str]) -> Sequence[str]:
        """Files, asked for together: no model is called between one and the next."""
        opened: dict[str, str] = {}

        def use(path: str) -> str:
            opened[path] = self._open(path)
            return outline(opened[path])

        calls = [Call("read", {"path": path}, path, partial(use, path)) for path in paths]
        self._together(agent, calls)
        return [opened[path] for path in paths]

    def _open(self, path: str) -> str:
        contexts = self.session.active_contexts
        held = contexts.get(path)
        if held is not None:
            contexts.touch(path)
            return str(held.content)
        text = self.tools("read", {"path": path})
        contexts.add(text, key=path, kind="module")
        return text

    def search(self, agent: str, pattern: str, **limit: str) -> str:
        """Matching lines, from the cache where they were looked for before."""
        arguments = {"pattern": pattern, **limit}
        key = ("search", *arguments.values())

        def use() -> str:
            found = self.session.cache.get(key)
            if found is None:
                found = self.tools("search", arguments)
                self.session.cache.put(key, found, ttl_s=CACHE_TTL_S)
            return str(found)

        return self._step(agent, Call("search", arguments, pattern, use))

    def run(self, agent: str, code: str, purpose: str) -> str:
        """Last line that a program prints.

        Raises:
            ChildProcessError: It ended with another exit status than 0.
        """
        arguments = {"code": code}
        use = partial(self.tools, "run", arguments)
        output = self._step(agent, Call("run", arguments, purpose, use))
        last = output.splitlines()[-1]
        if not output.startswith("exit 0\n"):
            raise ChildProcessError(last)
        return last

    def _step(self, agent: str, call: Call) -> str:
        return self._together(agent, [call])[0]

    def _together(self, agent: str, calls: Sequence[Call]) -> Sequence[str]:
        """One model call that asks for so many tool calls, and their results."""
        session = self.session
        session.messages()  # a model would be sent these, and would decide on the calls
        held = session.profile().total_tokens
        first = len(self.steps) + 1
        asked = [call.message(number) for number, call in enumerate(calls, first)]
        session.history.append(
            {"role": "assistant", "name": agent, "content": None, "tool_calls": asked}
        )
        return [self._answer(agent, call, number, held) for number, call in enumerate(calls, first)]

    def _answer(self, agent: str, call: Call, number: int, held: int) -> str:
        hits = self.session.cache.stats.hits
        output = call.use()
        self.session.history.append(
            {"role": "tool", "tool_call_id": f"call_{number}", "name": call.tool, "content": output}
        )
        cached = self.session.cache.stats.hits > hits
        profile = self.session.profile()
        self.steps.append(Step(number, agent, call.tool, call.argument, cached, held, profile))
        return output


def outline(text: str) -> str:
    """Where a module's classes and functions begin.

    >>> outline("import os\\n\\ndef f():\\n    return 1\\n")
    '4 lines\\n3: def f():'
    """
    lines = text.splitlines()
    numbered = enumerate(lines, 1)
    starts = [f"{number}: {line}" for number, line in numbered if line.startswith(_OUTLINE)]
    return "\n".join([f"{len(lines)} lines", *starts])
