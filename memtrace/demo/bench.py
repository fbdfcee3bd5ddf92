"""Where the demo's agents work: each step is one tool call, told in the session's history."""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from ..session import Session
from ..values import MemoryProfile
from .tools import Tools

CACHE_TTL_S = 300.0
"""Seconds a search's result is good for: the files of an installed package seldom change."""

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
        profile: Memory after it.
    """

    number: int
    agent: str
    tool: str
    argument: str
    cached: bool
    profile: MemoryProfile


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

    def say(self, agent: str, text: str) -> None:
        """What an agent says to the others."""
        self.session.history.append({"role": "assistant", "name": agent, "content": text})

    def list(self, agent: str) -> str:
        """Files of the package."""
        return self._step(agent, "list", {}, "*.py")

    def read(self, agent: str, path: str) -> str:
        """A file, kept in working memory; the history is told its outline only."""
        held = self.session.active_contexts.get(path)
        if held is not None:
            self.session.active_contexts.touch(path)
            text = str(held.content)
        else:
            text = self.tools("read", {"path": path})
            self.session.active_contexts.add(text, key=path, kind="module")
        self._step(agent, "read", {"path": path}, path, output=outline(text))
        return text

    def search(self, agent: str, pattern: str, **limit: str) -> str:
        """Matching lines, from the cache where they were looked for before."""
        arguments = {"pattern": pattern, **limit}
        key = ("search", *arguments.values())
        found = self.session.cache.get(key)
        if found is not None:
            return self._step(agent, "search", arguments, pattern, str(found), True)
        found = self.tools("search", arguments)
        self.session.cache.put(key, found, ttl_s=CACHE_TTL_S)
        return self._step(agent, "search", arguments, pattern, found)

    def run(self, agent: str, code: str, purpose: str) -> str:
        """Output of a program."""
        return self._step(agent, "run", {"code": code}, purpose)

    def _step(
        self,
        agent: str,
        tool: str,
        arguments: dict[str, str],
        argument: str,
        output: str | None = None,
        cached: bool = False,
    ) -> str:
        number = len(self.steps) + 1
        call_id = f"call_{number}"
        function = {"name": tool, "arguments": json.dumps(arguments)}
        call = {"id": call_id, "type": "function", "function": function}
        session = self.session
        session.messages()  # a model would be sent these, and would decide on the call
        session.history.append(
            {"role": "assistant", "name": agent, "content": None, "tool_calls": [call]}
        )
        if output is None:
            output = self.tools(tool, arguments)
        session.history.append(
            {"role": "tool", "tool_call_id": call_id, "name": tool, "content": output}
        )
        self.steps.append(Step(number, agent, tool, argument, cached, session.profile()))
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
