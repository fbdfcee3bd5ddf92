"""Agents' states: values that may change in place, measured again when they have."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..errors import ConfigurationError
from ..values import Item, Layer
from .base import BaseLayer, Change, Wiring
from .tally import Tally

_SHORT = 512
"""Bytes up to which a fingerprint is the encoding itself; past it, its length and hash."""


class AgentState:
    """One agent's state: any JSON-like value, which may be changed in place.

    Attributes:
        name: The agent's name.
        state: Its state; None at first.
    """

    __slots__ = ("_mark", "_noted", "_tokens", "name", "state")

    def __init__(self, name: str, state: Any = None) -> None:
        self.name = name
        self.state = state
        self._mark: object = None
        self._noted: object = None  # the mark when the state was last noted for the store
        self._tokens = 0

    def __repr__(self) -> str:
        return f"AgentState({self.name!r}, {self._tokens} tokens)"


class Agents(BaseLayer):
    """Agents by name, in the order they came. Iterating yields :class:`AgentState`.

    A state is counted again only when its content has changed, which is told by encoding and
    hashing it: linear in its size, about 1 µs a kilobyte.

    >>> from memtrace import Session
    >>> session = Session()
    >>> session.agent("planner").state = {"step": 1}
    >>> [agent.name for agent in session.agents], session.agents["planner"].state["step"]
    (['planner'], 1)
    """

    layer = Layer.AGENT_STATES

    def __init__(self, wiring: Wiring, tally: Tally) -> None:
        super().__init__(wiring, tally)
        self._agents: dict[str, AgentState] = {}
        self._mark: object = None  # of all states together
        self._encode: Callable[[Any], bytes] | None = None

    @property
    def items(self) -> tuple[Item, ...]:
        with self._lock:
            self._measure()
            now = self._wiring.now()
            return tuple(
                Item(
                    id=f"a:{agent.name}",
                    layer=self.layer,
                    kind="state",
                    content=agent.state,
                    tokens=agent._tokens,
                    created_at=now,
                    last_used_at=now,
                    agent=agent.name,
                    key=agent.name,
                )
                for agent in self._agents.values()
            )

    @property
    def tokens(self) -> int:
        """Tokens of all states as they are now."""
        with self._lock:
            self._measure()
            return self._tally.tokens

    def __iter__(self) -> Iterator[AgentState]:
        with self._lock:
            return iter(tuple(self._agents.values()))

    def __getitem__(self, name: str) -> AgentState:
        try:
            return self._agents[name]
        except KeyError:
            known = ", ".join(self._agents) or "none yet"
            raise KeyError(f"no agent {name!r}; the agents are: {known}") from None

    def __contains__(self, name: object) -> bool:
        return name in self._agents

    def agent(self, name: str) -> AgentState:
        """The agent of that name, made if new.

        Raises:
            ConfigurationError: The name is no text, or is empty.
        """
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"an agent's name must be text, got {name!r}")
        with self._lock:
            agent = self._agents.get(name)
            if agent is None:
                if self._encode is None:
                    # Imported here: it would add a twentieth to what `import memtrace` costs.
                    from msgspec.msgpack import Encoder

                    self._encode = Encoder().encode
                agent = self._agents[name] = AgentState(name)
                self._tally.items += 1
                self._mark = None
                self._measure()
            return agent

    def remove(self, name: str) -> AgentState:
        """Forget an agent, and return it.

        Raises:
            KeyError: There is none of that name.
        """
        with self._lock:
            agent = self[name]
            del self._agents[name]
            self._mark = None
            self._tally.leave(agent._tokens)
            self._note("leave", self._index, 0, name)
            return agent

    # --- within the package, under the lock -------------------------------------------------

    def _measure(self) -> None:
        """Bring the tally up to date with the states' contents.

        They are encoded all in one step; one by one only where that gives something new.
        """
        if not self._agents:
            return
        states = []
        for agent in self._agents.values():
            states.append(agent.state)  # noqa: PERF401 (dearer before Python 3.12)
        try:
            mark: Any = self._encode(states)  # type: ignore[misc]  # there since the first agent
            if len(mark) > _SHORT:
                mark = len(mark), hash(mark)
        except Exception:
            mark = None
        if mark is None or mark != self._mark:
            # A copy, because measuring a state may run its own code, which may make agents.
            for agent in tuple(self._agents.values()):
                self._measure_one(agent)
            self._mark = mark

    def _measure_one(self, agent: AgentState) -> None:
        try:
            mark: Any = self._encode(agent.state)  # type: ignore[misc]
            if len(mark) > _SHORT:
                mark = len(mark), hash(mark)
        except Exception:
            # Not JSON-like (a set of objects, 2**64, itself inside itself): nothing to
            # remember it by, so it is counted each time.
            mark = None
        if mark is None or mark != agent._mark:
            tokens = self._wiring.count(agent.state)
            self._tally.tokens += tokens - agent._tokens
            self._tally.added += max(0, tokens - agent._tokens)
            agent._tokens = tokens
            agent._mark = mark

    def _changes(self) -> Iterator[Change]:
        # States change in place, so they are told at each snapshot: all of them at the next.
        self._forget_noted()
        return iter(())

    def _forget_noted(self) -> None:
        """Have every state told at the next snapshot."""
        for agent in self._agents.values():
            agent._noted = None

    def _changed(self) -> list[AgentState]:
        """Agents whose states changed since this was last asked."""
        self._measure()
        changed = [
            agent
            for agent in self._agents.values()
            if agent._mark is None or agent._mark != agent._noted
        ]
        for agent in changed:
            agent._noted = agent._mark
        return changed

    def _apply(self, op: str, place: int, key: Any, item: Item | None, extra: Any) -> None:
        if op == "state":
            self.agent(key).state = extra
        elif op == "leave":
            if key in self._agents:  # one that came and went between two snapshots never was
                self.remove(key)
        else:
            raise ValueError(f"no change {op!r} of agents")

    def _dump(self, copied: Callable[[Any], Any]) -> Any:
        return tuple((agent.name, copied(agent.state)) for agent in self._agents.values())

    def _load(self, state: Any, copied: Callable[[Any], Any]) -> None:
        kept = {name for name, _ in state}
        for name in [name for name in self._agents if name not in kept]:
            self.remove(name)
        for name, value in state:
            # The AgentState itself stays: whoever holds it sees the state come back.
            self.agent(name).state = copied(value)
        self._agents = {name: self._agents[name] for name, _ in state}
        self._measure()

    def _recount(self) -> None:
        self._mark = None
        for agent in self._agents.values():
            agent._mark = None
            agent._tokens = 0
        self._tally.tokens = 0
        added = self._tally.added
        self._measure()
        self._tally.added = added
        self._tally.items = len(self._agents)
