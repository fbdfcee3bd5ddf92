"""The public session: memory with the loop in it."""

from __future__ import annotations

from asyncio import to_thread
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar

from . import config, engine, loop
from .actions import put_back
from .decide import monitor
from .errors import ConfigurationError
from .hooks import could_only_skip, schedule
from .layers import AgentState
from .memory import Memory, current_run
from .policy import Policy
from .record import Snapshot
from .values import ActionReport, Alert, Event, Item, MemoryProfile, Point

H = TypeVar("H", bound=Callable[[Event], Any])


class Session(Memory):
    """What one agent, or several together, carry from step to step, held against a budget.

    Thread-safe, and usable from many tasks. Layers: ``active_contexts`` (working memory),
    ``archived_contexts`` (long-term memory), ``cache``, ``agents``, ``history``.

    >>> session = Session("support-42", token_budget=128_000)
    >>> session.history.append({"role": "user", "content": "hello"})
    >>> session.profile().conversation_history == session.history.tokens
    True
    """

    def agent(self, name: str) -> AgentState:
        """The state of the agent of that name, made if new.

        Raises:
            ConfigurationError: The name is no text, or is empty.
        """
        return self.agents.agent(name)

    def messages(self) -> list[Any]:
        """What a model call may be sent: the history's view, in a new list.

        Measures first, and makes room if memory is under pressure; so call it before each model
        call, and a long run stays under its budget. The messages are the caller's own objects,
        except where one was replaced by a shorter form.
        """
        if self._pressed():
            loop.relieve(self, self._run_policy(), self._tell())
        return self._view()

    async def amessages(self) -> list[Any]:
        """The same as :meth:`messages`, with the work off the event loop."""
        if self._pressed():
            pending: list[Awaitable[None]] = []
            await to_thread(loop.relieve, self, self._run_policy(), pending.extend)
            for hook in pending:
                await hook
        return self._view()

    def _pressed(self) -> bool:
        if not config.current.enabled:
            return False
        policy = self._run_policy()
        lines = self.lines if policy is self.policy else policy.lines(self.budget)
        return lines.pressed(self.measure()) and not loop.stopped(self)

    def _view(self) -> list[Any]:
        with self.lock:
            self._sent_tokens = self.history.tokens
            return self.history.messages()

    def _run_policy(self) -> Policy:
        run = current_run()
        policy: Policy | None = run.policy if run is not None and run.memory is self else None
        return policy if policy is not None else self.policy

    @staticmethod
    def _tell() -> Callable[[list[Awaitable[None]]], None]:
        run = current_run()
        return run.tell if run is not None else schedule

    def monitor(self) -> Mapping[str, Point]:
        """The five monitoring points by name, every point present.

        >>> Session().monitor()["token_budget_usage"].crossed
        False
        """
        with self.lock:
            points = monitor(self.profile(), self.record.facts(), self.policy)
        return MappingProxyType({point.name: point for point in points})

    @property
    def alerts(self) -> tuple[Alert, ...]:
        """The last alerts that fired, oldest first, at most 100."""
        with self.lock:
            return tuple(self.record.alerts)

    @property
    def reports(self) -> tuple[ActionReport, ...]:
        """What actions did lately, oldest first, at most 100."""
        with self.lock:
            return tuple(self.record.reports)

    # --- what was replaced, and what was before ---------------------------------------------

    def original(self, item_id: str) -> Any:
        """What an item was as it was received: the caller's own object, byte for byte.

        Args:
            item_id: Of an item that was replaced or dropped, or of what stands in its place.

        Returns:
            Its content; for the id of a digest, a list of the contents it stands for, in order.

        Raises:
            KeyError: There is no such item here.
        """
        with self.lock:
            item = self.record.originals.get(item_id) or self._held(item_id)
        if item is None:
            raise KeyError(f"no item {item_id!r} in session {self.id!r}")
        if not item.derived_from:
            return item.content
        contents = [self.original(source) for source in item.derived_from]
        return contents[0] if len(contents) == 1 else contents

    def _held(self, item_id: str) -> Item | None:
        return next(
            (item for layer in self.layers for item in layer.items if item.id == item_id), None
        )

    def snapshots(self) -> tuple[Snapshot, ...]:
        """The last snapshots, oldest first, at most ``Policy.keep_snapshots``."""
        with self.lock:
            return tuple(self.record.snapshots)

    @property
    def latest_snapshot(self) -> Snapshot | None:
        """The newest snapshot; None before the first."""
        with self.lock:
            return self.record.snapshots[-1] if self.record.snapshots else None

    def restore(self, snapshot: Snapshot) -> None:
        """Make memory what it was at a snapshot; what was added since goes.

        Raises:
            ConfigurationError: It is no snapshot of a session.
        """
        if not isinstance(snapshot, Snapshot):
            raise ConfigurationError(f"restore takes one of session.snapshots(), got {snapshot!r}")
        put_back(self, snapshot)

    def on(self, stage: str) -> Callable[[H], H]:
        """Register a hook for a stage: ``session.on("after_run")(fn)``, or as a decorator.

        A hook takes one :class:`Event`. It may be a coroutine function where the session is
        used from async functions.

        Raises:
            ConfigurationError: There is no such stage, the hook is not callable, or it is async
                and registered within a synchronous run, which could only skip it.
        """
        register = self.hooks.on(stage)

        def checked(hook: H) -> H:
            if self._open_runs and could_only_skip(hook):
                raise ConfigurationError(
                    f"async hook {hook!r} registered within a synchronous run, which could only "
                    "skip it; use a plain function"
                )
            return register(hook)

        return checked

    def record_usage(self, input_tokens: int, *, counted_tokens: int | None = None) -> None:
        """Take in what a provider billed for a model call, and calibrate estimates with it.

        With an exact counter nothing changes. With an estimate, the count of each item is
        scaled by billed / counted, smoothed over calls.

        Args:
            input_tokens: Prompt tokens billed, ≥ 0, cached ones included.
            counted_tokens: What memtrace counted for the same prompt; None: the last
                :meth:`messages`.

        Raises:
            ConfigurationError: A number is negative or no number.
        """
        for name, value in (("input_tokens", input_tokens), ("counted_tokens", counted_tokens)):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 0
            ):
                raise ConfigurationError(f"{name} must be a whole number ≥ 0, got {value!r}")
        counted = self._sent_tokens if counted_tokens is None else counted_tokens
        self._calibrate(counted, input_tokens)

    def close(self) -> None:
        """Stop reporting this session; what it did stays counted."""
        self._dismiss()

    def __repr__(self) -> str:
        held = sum(self.read_tokens())
        return (
            f"<Session {self.id!r}: {held} of {self.token_budget} tokens "
            f"({held / self.token_budget:.0%})>"
        )


def profile_memory_usage(session: Session) -> MemoryProfile:
    """What a session's memory holds now, in tokens by layer, against its budget.

    >>> profile_memory_usage(Session(token_budget=1000))["utilization_rate"]
    0.0
    """
    return session.profile()


def current_session() -> Session | None:
    """The session of the run or checkpoint whose body this is; None outside any."""
    run: engine.Run | None = current_run()
    while run is not None:
        if isinstance(run.memory, Session):
            return run.memory
        run = run.parent
    return None
