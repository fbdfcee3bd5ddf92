"""The public session: memory with the loop in it."""

from __future__ import annotations

from asyncio import get_running_loop, to_thread
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from . import config, engine, loop
from .decide import monitor
from .errors import ConfigurationError, StoreDamagedError
from .hooks import could_only_skip, schedule
from .journal import LET_GO, checked_tags, item_of
from .layers import AgentState
from .memory import Memory, current_run
from .policy import Policy
from .record import Snapshot
from .reviving import branched, go_back, list_snapshots, revive, stored_budget
from .runlog import RunLog
from .tokens import Counter
from .values import (
    LAYER_NAMES,
    ActionReport,
    Alert,
    Event,
    Item,
    Layer,
    LoggedRun,
    MemoryProfile,
    Point,
    TokenBudget,
)

if TYPE_CHECKING:
    from .findings import BudgetChange
    from .recalling import Recaller
    from .stores import Ticket, Verification

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

    _recaller: Recaller | None = None

    def __init__(
        self,
        id: str | None = None,  # noqa: A002 (the name callers rely on)
        *,
        token_budget: int | TokenBudget | None = None,
        policy: Policy | None = None,
        counter: Counter | None = None,
        store: Any = None,
        tags: Iterable[str] | None = None,
    ) -> None:
        super().__init__(id, token_budget=token_budget, policy=policy, counter=counter, store=store)
        self._tags = self.journal.tags = None if tags is None else checked_tags(tags)

    __init__.__doc__ = Memory.__init__.__doc__

    @property
    def tags(self) -> tuple[str, ...]:
        """The user's tags, sorted: what export and deletion by tag go by.

        >>> Session(tags=["user:ann"]).tags
        ('user:ann',)

        Raises:
            StoreError: The store cannot be read.
        """
        if self._tags is None:
            found = self.journal.store.upkeep.find(self.id) if self.durable else None
            self._tags = () if found is None else found.tags
        return self._tags

    @classmethod
    def open(
        cls,
        id: str,  # noqa: A002 (the name callers rely on)
        *,
        store: Any,
        token_budget: int | TokenBudget | None = None,
        policy: Policy | None = None,
        counter: Counter | None = None,
        tags: Iterable[str] | None = None,
    ) -> Session:
        """The session of that id from its store, as its last snapshot has it; made if new.

        Tokens are not counted again. Where the newest snapshot is damaged, the one before it is
        used, and a warning says what is missing.

        Args:
            id: Any text.
            store: A path, an address such as ``sqlite:///memory.db``, a folder that ends in a
                slash (made with mode 0700), or a store.
            token_budget: As in :class:`Session`; None: the one it was stored with.
            policy: The loop's constants; they are not stored.
            counter: Counts tokens of text; None: the default encoding.
            tags: Texts to export and delete it by, such as ``user:ann``, stored with the next
                snapshot in place of those it has; None: it keeps those.

        Raises:
            ConfigurationError: A value cannot work.
            StoreError: The store cannot be opened or read: no such folder, no right to write, no
                store of memtrace's. A newer memtrace's raises :class:`StoreVersionError`, one of
                which nothing is whole :class:`StoreDamagedError`.

        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> session = Session.open("support-42", store=f"{folder}/memory.db")
        >>> session.history.append({"role": "user", "content": "hello"})
        >>> session.close()
        >>> Session.open("support-42", store=f"{folder}/memory.db").history[0]["content"]
        'hello'
        """
        from .stores import open_store

        opened = open_store(store)
        stored = stored_budget(opened, id)
        if token_budget is None and (policy is None or policy.token_budget is None):
            token_budget = stored
        session = cls(
            id, token_budget=token_budget, policy=policy, counter=counter, store=opened, tags=tags
        )
        if revive(session):
            list_snapshots(session)
            if stored is not None and stored != session.budget:
                from .findings import BudgetChange

                change = BudgetChange(session.now(), stored, session.budget, "opened with it")
                session.record.budget_log.append(change)
        if session.durable:
            from .archiving import after_open
            from .retaining import follow_reviews

            after_open(session)
            follow_reviews(opened, session.policy.retention_review_s)
        return session

    def _kept(self) -> None:
        from .archiving import watch

        watch(self)

    @classmethod
    async def aopen(cls, id: str, **options: Any) -> Session:  # noqa: A002 (as in `open`)
        """The same as :meth:`open`, with the work off the event loop."""
        return await to_thread(partial(cls.open, id, **options))

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
        if "_away" in self.__dict__:
            await to_thread(self.measure)  # it was put away: its store is read
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

    def rebalance(self, usage: Mapping[str, Any] | None = None) -> TokenBudget:
        """Move the budget's allocations toward what is used, and hold memory against them.

        ``Policy(rebalance=True)`` does it after runs that leave memory near a threshold.

        Args:
            usage: Tokens by layer, as :meth:`TokenBudget.rebalance` takes it; None: the most that
                each layer held over the last 20 runs, and only where a layer gains 2% by it.

        Returns:
            The budget that holds now.

        Raises:
            ConfigurationError: No layer is named, or a figure is negative.

        >>> session = Session(token_budget=10_000)
        >>> session.rebalance({"working_memory": 6_000}).limit("working_memory")
        7000
        >>> session.budget_log[-1].reason
        'by hand, toward what is used'
        """
        from .budgeting import rebalanced

        rebalanced(self, usage)
        return self.budget

    @property
    def budget_log(self) -> tuple[BudgetChange, ...]:
        """The last changes of the budget, oldest first, at most 100: old, new, reason, when."""
        with self.lock:
            return tuple(self.record.budget_log)

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
        """What an item was as it was received, byte for byte.

        Args:
            item_id: Of an item that was replaced or dropped, or of what stands in its place, or
                of a passage of it that was recalled: the whole of it.

        Returns:
            Its content; for the id of a digest, a list of the contents it stands for, in order.

        Raises:
            KeyError: There is no such item here.
            StoreError: The store cannot give it back as it was.
        """
        contents: list[Any] = []
        waiting, seen = [item_id], set[str]()
        several = False
        while waiting:
            wanted = waiting.pop()
            if wanted in seen:  # what stands for others is a tree, unless a store is damaged
                raise StoreDamagedError(f"item {item_id!r} stands for {wanted!r} more than once")
            seen.add(wanted)
            item = self._find(wanted)
            several = several or len(item.derived_from) > 1
            waiting += reversed(item.derived_from)
            if not item.derived_from:
                contents.append(item.content)
        return contents if several else contents[0]

    def _find(self, item_id: str) -> Item:
        """An item as it was received or made: held here, or in the store."""
        with self.lock:
            item = self.record.originals.get(item_id) or self._held(item_id)
        if item is None and (row := self.journal.stored(item_id)) is not None:
            item = None if row.item is None else item_of(row.item, Layer.CONVERSATION_HISTORY)
        if item is None and item_id.endswith("]"):  # a passage, such as m7[120:480]
            return self._find(item_id.rpartition("[")[0])
        if item is None or item.key == LET_GO:
            why = "" if item is None else ": it was let go by retention"
            raise KeyError(f"no item {item_id!r} in session {self.id!r}{why}")
        return item

    def _held(self, item_id: str) -> Item | None:
        held = (item for layer in self.layers for item in layer.items)
        return next((item for item in (*held, *self.history._received) if item.id == item_id), None)

    # --- recall -------------------------------------------------------------------------------

    def recall(self, query: str, k: int = 10) -> list[Item]:
        """The items that have most to do with a query, of all that this session ever held.

        Messages dropped or replaced, contexts consolidated, expired or spilled: all are found,
        in the form in which they came; not what was removed or cut off by hand, nor what was
        undone by :meth:`restore`. The first call indexes what there is, later ones what is new.

        Args:
            query: Any text. Words are compared in their stems, scripts without spaces by pairs
                of characters; with :attr:`Policy.embed` meaning counts too.
            k: How many items, at most.

        Returns:
            The best first, each item once; fewer than ``k`` where no more have to do with it. Of
            a long item the passage that was found: its ``derived_from`` names the item, its
            ``span`` where in the item's text it stands.

        Raises:
            ConfigurationError: The query is no text, or ``k`` no whole number ≥ 0.
            StoreError: The store cannot be read or written.

        >>> session = Session()
        >>> session.history.append({"role": "user", "content": "We chose PostgreSQL in May."})
        >>> session.history.append({"role": "user", "content": "Lunch was late today."})
        >>> [item.content["content"] for item in session.recall("what was chosen?", k=1)]
        ['We chose PostgreSQL in May.']
        """
        from .recalling import recalled

        return recalled(self, self._recalls(), query, k)

    async def arecall(self, query: str, k: int = 10) -> list[Item]:
        """The same as :meth:`recall`, with the work off the event loop."""
        return await self._aside(self.recall, query, k)

    def context_for(self, query: str, max_tokens: int) -> list[Any]:
        """Messages to send a model about a query: recent ones and recalled ones, in order.

        The system prompt is kept, and the latest user turn where it is the query. Calls and
        their results are never parted. Of a long message the passages that matter are shown,
        marked as such; recalled contexts stand before the conversation, as a user's words.

        Args:
            query: As in :meth:`recall`.
            max_tokens: What all messages together may count.

        Raises:
            ConfigurationError: The query is no text, or ``max_tokens`` is no whole number, or
                less than the system prompt has.
            StoreError: The store cannot be read or written.

        >>> session = Session()
        >>> session.history.append({"role": "user", "content": "The door's code is 4711."})
        >>> for day in range(100):
        ...     session.history.append({"role": "user", "content": f"Nothing new on day {day}."})
        >>> messages = session.context_for("what was the code again?", max_tokens=60)
        >>> messages[0]["content"], len(messages) < 10
        ("The door's code is 4711.", True)
        """
        from .recalling import gathered

        return gathered(self, self._recalls(), query, max_tokens)

    async def acontext_for(self, query: str, max_tokens: int) -> list[Any]:
        """The same as :meth:`context_for`, with the work off the event loop."""
        return await self._aside(self.context_for, query, max_tokens)

    async def _aside(self, call: Callable[..., list[Any]], *arguments: Any) -> list[Any]:
        """Have a search done by a thread; an async embedding function runs on this loop."""
        from .recalling import LOOP

        token = LOOP.set(get_running_loop())
        try:
            return await to_thread(call, *arguments)
        finally:
            LOOP.reset(token)

    def _recalls(self) -> Recaller:
        from .recalling import Recaller

        with self.lock:
            if self._recaller is None:
                self._recaller = Recaller(self)
            return self._recaller

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
            StoreError: It is a stored one, and the store cannot give it back.
        """
        if not isinstance(snapshot, Snapshot):
            raise ConfigurationError(f"restore takes one of session.snapshots(), got {snapshot!r}")
        go_back(self, snapshot)

    def branch(self, id: str | None = None) -> Session:  # noqa: A002 (as in Session)
        """A session of its own that begins with memory as it is here now.

        What either does from then on, the other does not see. Of one with a durable store the
        branch is in the same store, with the originals.

        Args:
            id: The branch's; None: a new random one.

        Raises:
            StaleSessionError: This session was written elsewhere since it was opened here.
            StoreError: The store cannot take it, or holds a session of that id.

        >>> session = Session()
        >>> session.history.append({"role": "user", "content": "hello"})
        >>> other = session.branch()
        >>> other.history.append({"role": "user", "content": "again"})
        >>> len(session.history), len(other.history)
        (1, 2)
        """
        made = branched(self, id)
        if made._tags is None and not made.durable:
            made._tags = self._tags
        return made

    def run_log(self) -> RunLog:
        """What each run found, left and did, oldest first.

        Of a session without a durable store the last 1,000 runs of this process.

        >>> session = Session()
        >>> from memtrace import managed_agent
        >>> @managed_agent
        ... def agent(session):
        ...     session.history.append({"role": "user", "content": "hello"})
        >>> agent(session)
        >>> [(run.name, run.after[-1] > 0) for run in session.run_log()]
        [('agent', True)]

        Raises:
            StoreError: The store cannot be read.
        """
        stored: list[LoggedRun] = []
        if self.durable:
            self._logged().result()
            stored = self.journal.store.runs(self.id)
        return RunLog([*stored, *self.journal.waiting_runs()])

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

    def record_usage(
        self,
        input_tokens: int,
        *,
        counted_tokens: int | None = None,
        cached_tokens: int | None = None,
        model: str | None = None,
    ) -> None:
        """Take in what a provider billed for a model call, and calibrate estimates with it.

        With an exact counter no count changes. With an estimate, the count of each item is
        scaled by billed / counted, smoothed over calls. The last 50 calls are remembered for
        :func:`memtrace.diagnose`.

        Args:
            input_tokens: Prompt tokens billed, ≥ 0, cached ones included.
            counted_tokens: What memtrace counted for the same prompt; None: the last
                :meth:`messages`.
            cached_tokens: Those of them that were read from its prompt cache; None: unknown.
            model: Name of the model, or its provider's: by it :attr:`Policy.prices` are found.
                None: as it was said last.

        Raises:
            ConfigurationError: A number is negative or no number, or the name no text.
        """
        for name, value in (
            ("input_tokens", input_tokens),
            ("counted_tokens", counted_tokens),
            ("cached_tokens", cached_tokens),
        ):
            if value is not None and (
                isinstance(value, bool) or not isinstance(value, int) or value < 0
            ):
                raise ConfigurationError(f"{name} must be a whole number ≥ 0, got {value!r}")
        if model is not None and not isinstance(model, str):
            raise ConfigurationError(f"model must be a text, got {model!r}")
        from .findings import Billed

        counted = self._sent_tokens if counted_tokens is None else counted_tokens
        with self.lock:
            self.record.billed.append(Billed(counted, input_tokens, cached_tokens))
            self.record.calls_billed += 1
            self.record.model = model or self.record.model
        self._calibrate(counted, input_tokens)

    def close(self) -> None:
        """End the session here: what it did stays counted.

        One with a durable store is consolidated, and a last snapshot is taken of it; it goes on
        with :meth:`open`. The second time nothing happens.

        Raises:
            StaleSessionError: The session was written elsewhere since it was opened here.
            StoreError: The store cannot take the snapshot.
        """
        from .actions import consolidate_memory, create_memory_snapshot

        if self.durable and not self._closed:
            consolidate_memory(self)
            create_memory_snapshot(self, "close")
            self._logged().result()
        self._closed = True
        self._dismiss()

    def _logged(self) -> Ticket:
        """Have the run log's rows that wait written."""
        with self.lock:
            return self.journal.write(None)

    async def aclose(self) -> None:
        """The same as :meth:`close`, with the work off the event loop."""
        await to_thread(self.close)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def plot(self, axes: Any = None) -> Any:
        """Memory over the runs, by layer and stacked, against the budget. Needs matplotlib.

        Args:
            axes: What to draw on; None: a figure of its own.

        Returns:
            The ``matplotlib.axes.Axes``; its ``figure`` can be saved.

        Raises:
            ConfigurationError: matplotlib is not installed.
            StoreError: The run log cannot be read.
        """
        from .plots import memory

        runs = enumerate(self.run_log())
        past = [stack for n, run in runs for stack in ((n + 0.5, run.before), (n + 1, run.after))]
        last = past[-1][0] if past else 0
        stacks = [*past, (last + 1, self.measure())]
        return memory(stacks, LAYER_NAMES, self.token_budget, self.id, axes)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        from .tables import table

        points = [
            (name.replace("_", " "), point.value, point.threshold, "crossed" * point.crossed)
            for name, point in self.monitor().items()
        ]
        head = ["point", "now", "alert", ""]
        return table(f"Session {self.id}", head, points) + self.profile()._repr_html_()

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


def verify(store: Any) -> Verification:
    """Read all that a store holds, and tell what of it is not what was written.

    Every row is compared with its hash, every snapshot with its root, every reference with what
    it refers to, and the database's own pages are checked. Nothing is changed.

    Args:
        store: A path, an address, or a store, as :meth:`Session.open` takes.

    Raises:
        StoreError: It is not there, or cannot be opened.

    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/memory.db"
    >>> Session.open("support-42", store=path).close()
    >>> verify(path).ok, verify(path).sessions
    (True, 1)
    """
    from .stores import open_store

    return open_store(store, make=False).check()
