"""The one place where before -> body -> after happens, for agents and checkpoints, sync and async.

A run is opened by :func:`begin`, its body is run by whoever opened it, and it is ended exactly
once by :meth:`Run.end` or :meth:`Run.abandon`. What is decided stands here;
what is awaited stands in :mod:`memtrace.instrument`.

No failure of memtrace's own leaves this module, unless it is configured to be strict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter_ns, time_ns
from typing import Any, Literal, Protocol

from opentelemetry.context import Context, attach, detach, get_current, set_value
from opentelemetry.trace import get_current_span, set_span_in_context

from . import config, loop
from .errors import StaleSessionError, StoreError
from .hooks import Hooks, schedule
from .memory import RUN, Memory
from .policy import Policy
from .record import Record, Snapshot
from .telemetry import metrics, names, spans
from .values import Event, LayerTokens, MemoryProfile, Stage, TokenBudget

_ENDED = Context()
_CLEANUPS, _CONVERSATION = names.SESSION_CLEANUPS, names.CONVERSATION_ID


class Measured(Protocol):
    """What a run measures: a session's memory, or a list that a caller owns."""

    @property
    def id(self) -> str | None: ...
    @property
    def hooks(self) -> Hooks: ...
    @property
    def policy(self) -> Policy: ...

    budget: TokenBudget
    record: Record
    run_rows: Any
    journal: Any
    durable: bool

    def open_run(self) -> tuple[int, LayerTokens, int, bool]: ...
    def close_run(self, run_id: int) -> tuple[LayerTokens, int, bool]: ...
    def read_tokens(self) -> LayerTokens: ...
    def profile(self) -> MemoryProfile: ...


@dataclass(slots=True, eq=False)
class Spec:
    """What is known of a run before it is called: made once, at decoration. Never changed.

    Not frozen: a checkpoint makes one each time, and a frozen one takes twice as long.

    Args:
        kind: ``agent`` or ``checkpoint``.
        name: Name of the agent or of the checkpoint.
        span: ``own``: a span of its own. ``current``: attributes go on the span that is there.
        attributes: What the span starts with.
        policy: The loop's constants for these runs; None: the session's.
    """

    kind: Literal["agent", "checkpoint"]
    name: str
    span: Literal["own", "current"] = "own"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    policy: Policy | None = None
    span_name: str = field(init=False)
    is_agent: bool = field(init=False)
    own: bool = field(init=False)
    usual: bool = field(init=False)
    series: tuple[tuple[str, str], ...] = field(init=False)

    def __post_init__(self) -> None:
        is_agent = self.kind == "agent"
        prefix = names.INVOKE_AGENT if is_agent else names.SPAN_CHECKPOINT
        self.span_name = f"{prefix} {self.name}"
        self.is_agent = is_agent
        self.own = self.span == "own"
        self.usual = is_agent and self.policy is None
        self.series = ((names.AGENT_NAME, self.name),) if is_agent else ()

    def series_of(self, error: BaseException) -> tuple[tuple[str, str], ...]:
        """Attributes of the metrics of runs that failed so."""
        return (*self.series, (names.ERROR_TYPE, spans.error_type(error)))


class Run:
    """One run that is open: an agent's invocation, or a checkpoint's block.

    Opening and ending one is the price of every managed call, so what is not asked for is not
    made: profiles are five whole numbers until a hook wants a :class:`MemoryProfile`.

    A synchronous run does the loop's work as it begins and ends. An asynchronous one says by
    ``work_waits`` that there is some: :meth:`prepare` before the body, :meth:`tidy` between
    :meth:`leave` and :meth:`conclude`, both off the event loop.

    Attributes:
        context: The OpenTelemetry context in which the body runs.
        run_id: Its number in the session.
        agent: Name of the agent, or of the nearest one outside a checkpoint.
        memory: What it measures; None where there is nothing to measure.
        parent: The run around it, if any.
        pending: What async hooks still have to do; the async shell awaits it.
        work_waits: Whether the loop has work to do now.
        restored: Whether memory was put back to a checkpoint's snapshot.
        snapshot: A checkpoint's own.
        ticket: Tells when that is durable.
        refused: Why it could not be kept, so that the body must not run.
    """

    # Defaults stand in the class: what a run does not need, it does not set.
    parent: Run | None = None
    agent: str | None = None
    run_id: int | None = None
    pending: list[Awaitable[None]] | None = None
    work_waits: bool = False
    restored: bool = False
    snapshot: Snapshot | None = None
    ticket: Any = None
    refused: Exception | None = None
    _before: LayerTokens | None = None
    _after: LayerTokens | None = None
    _left: LayerTokens | None = None  # as the body left it, before it was tidied
    _total_before: int = 0
    _total_after: int = 0
    _ended: bool = False
    _restless: bool = False
    _collected: bool = False
    _pressed: bool = False

    def __init__(self, spec: Spec, memory: Measured | None, asynchronous: bool) -> None:
        self._started_ns = started_ns = time_ns()
        self._spec = spec
        self.memory = memory
        self._asynchronous = asynchronous
        outer = get_current()
        parent: Any = outer.get(RUN)
        if parent is not None:
            self.parent = parent
            self.agent = parent.agent
        if spec.is_agent:
            self.agent = spec.name
        if spec.own:
            source = spans.source()
            if source.early:
                who = spans.identity(spec.attributes, None if memory is None else memory.id)
                span = source.start(spec.span_name, outer, attributes=who, start_time=started_ns)
            else:
                span = source.start(spec.span_name, outer, start_time=started_ns)
            self._span = span
            self.context: Context = set_value(RUN, self, set_span_in_context(span, outer))
        else:
            self._span = get_current_span(outer)
            self.context = set_value(RUN, self, outer)
        if memory is not None:
            try:
                self.run_id, self._before, self._total_before, pressed = memory.open_run()
                if pressed or not spec.usual or memory.hooks.registered or config.current.hooks:
                    self._start(memory, pressed)
            except BaseException as error:
                if config.current.strict or not isinstance(error, Exception):
                    # The caller's own, such as an interrupt in a hook: the body will not run.
                    self._body_ns = perf_counter_ns()
                    self.end(error)
                    raise
                spans.failure("before_run", error)
        self._body_ns = perf_counter_ns()

    def _start(self, memory: Measured, pressed: bool) -> None:
        """What a run that is not the usual one does before its body."""
        spec = self._spec
        if memory.hooks.registered or config.current.hooks:
            self._emit("before_run" if spec.is_agent else "checkpoint")
        if spec.policy is not None and self._before is not None:
            pressed = spec.policy.lines(memory.budget).pressed(self._before)
        self._pressed = pressed
        self.work_waits = pressed or not spec.is_agent
        if self.work_waits and not self._asynchronous:
            self.prepare()

    # --- the loop's work --------------------------------------------------------------------

    def prepare(self) -> None:
        """Before the body: make room, and at a checkpoint take the snapshot."""
        self._work(loop.relieve if self._spec.is_agent else self._enter_checkpoint)
        self._body_ns = perf_counter_ns()

    def tidy(self) -> None:
        """After the body: consolidate, see to the cache, make room if the run left too much."""
        self._left = self._after
        self._work(loop.tidy)
        if isinstance(self.memory, Memory):
            self._after = self.memory.measure()
            self._total_after = sum(self._after)

    def _enter_checkpoint(self, memory: Memory, policy: Policy, tell: Any) -> None:
        try:
            self.snapshot, self.ticket = loop.enter_checkpoint(
                memory, policy, self._spec.name, tell, waits=not self._asynchronous
            )
        except (StaleSessionError, StoreError) as error:
            self.refused = error

    @property
    def brief(self) -> bool:
        """Whether :meth:`prepare` is so short that it need not leave the event loop."""
        memory = self.memory
        return isinstance(memory, Memory) and not self._pressed and loop.keeps_briefly(memory)

    @property
    def policy(self) -> Policy | None:
        """The loop's constants for this run; None: the session's."""
        return self._spec.policy

    def _work(self, work: Callable[[Memory, Policy, Any], Any]) -> None:
        self.work_waits = False
        memory = self.memory
        if not isinstance(memory, Memory):
            return
        token = attach(self.context)
        try:
            work(memory, self._spec.policy or memory.policy, self.tell)
        except Exception as error:
            spans.failure("loop", error)
        finally:
            detach(token)

    def tell(self, pending: list[Awaitable[None]]) -> None:
        """Hooks to await: kept for the async shell, else left to the running loop."""
        if self._asynchronous:
            self.pending = [*(self.pending or ()), *pending]
        else:
            schedule(pending)

    # --- ways to end ------------------------------------------------------------------------

    def end(self, error: BaseException | None = None) -> None:
        """The body returned, or raised ``error``, which is reported and stays the caller's."""
        if self.leave(error):
            try:
                if self.work_waits:
                    self.tidy()
            finally:
                self.conclude(error)

    def leave(self, error: BaseException | None = None) -> bool:
        """The body is over: measure what it left. Tells whether this is the first end."""
        if self._ended:
            return False
        self._ended = True
        self._body_ns = perf_counter_ns() - self._body_ns
        memory = self.memory
        if memory is not None and self.run_id is not None:
            try:
                self._after, self._total_after, restless = memory.close_run(self.run_id)
                # Lines are the session's own: under another policy everything is looked at.
                self._restless = restless or self._spec.policy is not None
                if self._restless and error is None and self._spec.is_agent:
                    self.work_waits = isinstance(memory, Memory) and loop.untidy(
                        memory, self._after, self._spec.policy or memory.policy
                    )
            except Exception as failed:
                spans.failure("after_run", failed)
        return True

    def abandon(self) -> None:
        """The body was a generator that nobody will step again: it was collected as garbage.

        This may run in the middle of anything, so it takes no lock but the span's own.
        """
        if self._ended:
            return
        self._ended = self._collected = True
        self._body_ns = perf_counter_ns() - self._body_ns
        if self.memory is not None:
            self._after = self.memory.read_tokens()
            self._total_after = sum(self._after)
        self.conclude()

    def conclude(self, error: BaseException | None = None) -> None:
        """All work is done: thresholds, hooks, metrics, and the span ends."""
        memory = self.memory
        if memory is not None and (
            self._restless or memory.hooks.registered or config.current.hooks
        ):
            try:
                self._tell_end(memory, error)
            except BaseException:
                self._report(error)
                raise
        self._report(error)

    def _report(self, error: BaseException | None) -> None:
        """Say on the span and to the metrics what memory held, and end the span."""
        span, spec, memory, after = self._span, self._spec, self.memory, self._after
        ended_ns = time_ns()
        try:
            recording = span.is_recording()
            if recording:
                attributes = self._described()
                if not spec.own and _CONVERSATION in (getattr(span, "attributes", None) or ()):
                    # Whose span it is knows its conversation by this id on its other spans too.
                    attributes.pop(_CONVERSATION, None)
                span.set_attributes(attributes)
                if error is not None and spec.own:
                    spans.record_error(span, error)
            metrics.record_run(
                ended_ns - self._started_ns if spec.is_agent else None,
                after[0] if after is not None else 0,
                self._total_after,
                memory.budget if memory is not None and after is not None else None,
                spec.series if error is None else spec.series_of(error),
                span if recording else None,
            )
            if after is not None and memory is not None and memory.run_rows is not None:
                # What is at hand: a row of the run log is made of it when it is read or written.
                record, failed = memory.record, None if error is None else spans.error_type(error)
                memory.run_rows.append(
                    (
                        self.run_id,
                        spec,
                        self._started_ns,
                        ended_ns,
                        failed,
                        memory.budget,
                        self._before,
                        after,
                        record.take_reports() if record.unlogged else (),
                    )
                )
                if memory.durable and not self._collected:
                    memory.journal.log(ended_ns / 1e9)
        except Exception as failed:
            spans.failure("report", failed)
        finally:
            # The context holds this run: left in place it would make every run cyclic garbage,
            # which costs as much again as the rest of the run.
            self.context = _ENDED
            if spec.own:
                try:
                    span.end(ended_ns)
                except Exception as failed:  # a span processor of the application's
                    spans.failure("span processor", failed)

    def _described(self) -> dict[str, Any]:
        """What the run says on its span."""
        spec, memory, before, after = self._spec, self.memory, self._before, self._after
        body_s = self._body_ns / 1e9
        if memory is None:
            return {**spec.attributes, names.BODY_DURATION: body_s}
        if before is None or after is None:
            who = spans.identity(spec.attributes, memory.id)
            attributes = {**who, names.BODY_DURATION: body_s}
        else:
            attributes = spans.run_attributes(
                spec.attributes,
                memory.id,
                before,
                self._total_before,
                after,
                self._total_after,
                memory.budget.total,
                body_s,
            )
        if spec.is_agent:
            attributes[_CLEANUPS] = memory.record.cleanups
        elif self.restored:
            attributes[names.CHECKPOINT_RESTORED] = True
        return attributes

    # --- hooks and alerts -------------------------------------------------------------------

    def _watch_thresholds(self, memory: Measured) -> None:
        token = attach(self.context)
        try:
            if isinstance(memory, Memory):
                policy = self._spec.policy or memory.policy
                loop.watch_thresholds(memory, policy, self.tell)
                self._look_ahead(memory, policy)
            elif self._before is not None:
                loop.watch_list(memory.profile(), self._before, memory.policy)
        finally:
            detach(token)

    def _look_ahead(self, memory: Memory, policy: Policy) -> None:
        """What only a run that leaves memory near a threshold, or a session's first, is asked."""
        if self.run_id == 1 and memory.hooks.of("threshold"):
            from .decide.forecast import heavy_start

            alert = heavy_start(self._total_before, memory.budget.total, policy)
            if alert is not None:
                # Not an alert of the loop's, which has nothing to do about it: a hook may.
                session: Any = memory
                event = Event(
                    "threshold", session, memory.profile(), alert=alert, agent=self._spec.name
                )
                if pending := memory.hooks.emit(event):
                    self.tell(pending)
        left = self._left or self._after
        if policy.rebalance and policy.acts and left is not None:
            lines = policy.lines(memory.budget)
            if left[0] > lines.restless_working or sum(left) > lines.restless:
                from . import budgeting

                budgeting.rebalanced(memory, peak=left)
        if self._span.is_recording() and 2 * self._total_after > memory.budget.total:
            self._span.set_attributes(spans.forecast_attributes(memory.profile().forecast))

    def _tell_end(self, memory: Measured, error: BaseException | None) -> None:
        """Fire what alerts are due, and tell the hooks that the run is over."""
        if self._collected or self._after is None:
            return
        try:
            if self._restless:
                self._watch_thresholds(memory)
            if memory.hooks.registered or config.current.hooks:
                self._emit_end(error)
        except Exception as failed:
            spans.failure("after_run", failed)

    def _emit_end(self, error: BaseException | None) -> None:
        if error is not None:
            self._emit("error", error)
            if self.pending:
                # An error is not kept waiting: its async hooks finish on the loop.
                pending, self.pending = self.pending, None
                schedule(pending)
        elif self._spec.is_agent:
            self._emit("after_run")

    def _emit(self, stage: Stage, error: BaseException | None = None) -> None:
        memory = self.memory
        assert memory is not None
        session: Any = memory if memory.id is not None else None
        event = Event(
            stage,
            session=session,
            profile=memory.profile(),
            agent=self._spec.name,
            error=error,
        )
        token = attach(self.context)
        try:
            pending = memory.hooks.emit(event)
        finally:
            detach(token)
        if pending:
            self.tell(pending)


class BareRun(Run):
    """What a body runs in when memtrace itself failed to open a run: nothing."""

    __slots__ = ()

    def __init__(self) -> None:
        self.context = get_current()
        self.memory = None
        self._ended = True


def begin(spec: Spec, memory: Measured | None, *, asynchronous: bool = False) -> Run:
    """Open a run: its span starts, and memory is profiled.

    Raises:
        ConfigurationError: A synchronous run would have to skip an async hook.
    """
    if (
        not asynchronous
        and memory is not None
        and (memory.hooks.registered or config.current.hooks)
    ):
        memory.hooks.refuse_async()
    try:
        return Run(spec, memory, asynchronous)
    except Exception as error:
        spans.failure("run", error)
        return BareRun()
