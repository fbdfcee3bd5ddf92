"""What goes around a user's code: managed_agent, checkpoint, checkpoints, propagate."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Literal, ParamSpec, TypeVar, cast, overload

import wrapt
from opentelemetry.context import attach, detach, get_current

from . import config, steps
from .baggage import Begin, carrying
from .engine import Run, Spec, begin
from .errors import ConfigurationError
from .lookup import Find, finder
from .memory import current_run
from .policy import Policy
from .reviving import begin_steps, step_digest
from .session import Session
from .telemetry import names
from .values import TokenBudget

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
F = TypeVar("F", bound="Callable[..., Any] | classmethod[Any, Any, Any] | staticmethod[Any, Any]")


if TYPE_CHECKING:
    _Wrapper = wrapt.FunctionWrapper[Any, Any]
else:
    _Wrapper = wrapt.FunctionWrapper


class _Managed(_Wrapper):
    """A decorated callable: whatever the original is asked, it answers."""

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By name, as a plain function is pickled: the name finds the decorated one.
        return self.__wrapped__.__qualname__

    def __copy__(self) -> _Managed:
        return self

    def __deepcopy__(self, memo: Any) -> _Managed:
        return self


@overload
def managed_agent(fn: F, /) -> F: ...
@overload
def managed_agent(
    *,
    session: Callable[P, Session],
    name: str | None = ...,
    policy: Policy | None = ...,
    attributes: Mapping[str, Any] | None = ...,
    span: Literal["own", "current"] = ...,
    baggage: bool = ...,
) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
@overload
def managed_agent(
    *,
    name: str | None = ...,
    session: Session | None = ...,
    messages: str | None = ...,
    token_budget: int | TokenBudget | None = ...,
    policy: Policy | None = ...,
    attributes: Mapping[str, Any] | None = ...,
    span: Literal["own", "current"] = ...,
    baggage: bool = ...,
) -> Callable[[F], F]: ...
def managed_agent(
    fn: Any = None,
    /,
    *,
    name: str | None = None,
    session: Any = None,
    messages: str | None = None,
    token_budget: int | TokenBudget | None = None,
    policy: Policy | None = None,
    attributes: Mapping[str, Any] | None = None,
    span: Literal["own", "current"] = "own",
    baggage: bool = False,
) -> Any:
    """Profile an agent's memory before and after each run, in one span.

    Works on functions, coroutine functions, generators, async generators, methods, class and
    static methods in either order of decorators, partials and callable objects. What the
    function returns or raises comes back as the same object.

    Args:
        fn: The agent's function, when used without parentheses.
        name: The agent's name; None: the function's.
        session: A :class:`Session`, or a callable that gives one from the call's arguments.
            None: the parameter named ``session``, else an argument that is a session, else the
            ambient one.
        messages: Name of the parameter that holds a message list of the caller's own. It is
            measured, and nothing of it is changed.
        token_budget: Tokens that such a list is held against; None: the policy's, else
            ``MEMTRACE_TOKEN_BUDGET``, else 200,000.
        policy: Constants of the loop; None: the session's.
        attributes: More attributes for the span.
        span: ``own``: a span of its own. ``current``: the attributes go on the span that is
            already there, such as a framework's ``invoke_agent``.
        baggage: Send the session's id and what is left of its budget along with every request
            that the body makes, in W3C baggage: for remote agents, which read it by
            :func:`from_baggage`. It is OpenTelemetry's instrumentation of the client in use that
            writes the header, to whomever the request goes.

    Raises:
        ConfigurationError: At decoration, where arguments contradict each other or name no
            parameter; at a call, where it is given two sessions.

    >>> @managed_agent(messages="messages")
    ... def agent(messages: list) -> str:
    ...     messages.append({"role": "assistant", "content": "done"})
    ...     return "done"
    >>> agent([{"role": "user", "content": "begin"}])
    'done'
    """

    def decorate(target: Any) -> Any:
        kind = _kind(target)
        label = name if name is not None else _name_of(target)
        find = finder(
            target,
            label,
            session=session,
            messages=messages,
            token_budget=token_budget,
            policy=policy,
        )
        start = {names.OPERATION_NAME: names.INVOKE_AGENT, names.AGENT_NAME: label}
        spec = Spec("agent", label, span, {**start, **(attributes or {})}, policy)
        if isinstance(session, Session) and kind is _sync:
            session.hooks.refuse_async()
        return _Managed(target, kind(spec, find, carrying(begin) if baggage else begin))

    if span not in ("own", "current"):
        raise ConfigurationError(f"span must be 'own' or 'current', got {span!r}")
    if name is not None and (not isinstance(name, str) or not name):
        raise ConfigurationError(f"an agent's name must be text, got {name!r}")
    return decorate if fn is None else decorate(fn)


# --- the four kinds of callable -------------------------------------------------------------------


def _sync(spec: Spec, find: Find, begin: Begin) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        if not config.current.enabled:
            return wrapped(*args, **kwargs)
        run = begin(spec, find(instance, args, kwargs))
        token = attach(run.context)
        try:
            try:
                result = wrapped(*args, **kwargs)
            finally:
                detach(token)
        except BaseException as error:
            run.end(error)
            raise
        run.end()
        return result

    return call


def _coroutine(body: Any, spec: Spec, find: Find, begin: Begin) -> Callable[..., Any]:
    drive = steps.coroutines(body)

    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        inner = wrapped(*args, **kwargs)
        if not config.current.enabled:
            return inner
        return drive(begin, steps.Owned((inner,)), spec, find, (instance, args, kwargs))

    return call


def _generator(spec: Spec, find: Find, begin: Begin) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        inner = wrapped(*args, **kwargs)
        if not config.current.enabled:
            return inner
        return steps.generator(lambda: begin(spec, find(instance, args, kwargs)), inner)

    return call


def _async_generator(spec: Spec, find: Find, begin: Begin) -> Callable[..., Any]:
    def call(wrapped: Any, instance: Any, args: Any, kwargs: Any) -> Any:
        inner = wrapped(*args, **kwargs)
        if not config.current.enabled:
            return inner

        async def start() -> Run:
            memory = find(instance, args, kwargs)
            if getattr(memory, "_away", None) is not None:
                await steps.back(memory)
            return begin(spec, memory, asynchronous=True)

        return steps.async_generator(start, inner)

    return call


def _kind(target: Any) -> Callable[[Spec, Find, Begin], Callable[..., Any]]:
    """Which of the four kinds a callable is.

    Raises:
        ConfigurationError: It is a class, or is not callable.
    """
    if isinstance(target, (classmethod, staticmethod)):
        target = target.__func__
    if inspect.isclass(target) or not callable(target):
        raise ConfigurationError(
            f"@managed_agent goes on a function, a method or a callable object, got {target!r}; "
            "to manage a class's agent, decorate its method"
        )
    while isinstance(target, functools.partial):
        target = target.func
    for candidate in (target, getattr(type(target), "__call__", None)):  # noqa: B004 (its code)
        if inspect.iscoroutinefunction(candidate):
            return functools.partial(_coroutine, candidate)
        if inspect.isasyncgenfunction(candidate):
            return _async_generator
        if inspect.isgeneratorfunction(candidate):
            return _generator
    return _sync


def _name_of(target: Any) -> str:
    while isinstance(target, (functools.partial, classmethod, staticmethod)):
        target = target.func if isinstance(target, functools.partial) else target.__func__
    return str(getattr(target, "__name__", None) or type(target).__name__)


# --- checkpoints ----------------------------------------------------------------------------------


class checkpoint:  # noqa: N801 (used as a keyword would be)
    """Profile memory around a task's step: ``with checkpoint(session, "name"):``, or async with.

    A snapshot is taken first. Where the session has a durable store, the block is entered when
    the snapshot is durable: what was before it survives whatever happens in it. The block's
    error passes unchanged.

    Args:
        session: The session whose memory it is.
        name: The step's name, for the span and for finding it again.
        rollback: On an error, put memory back to what it was on entering.

    Attributes:
        id: A random id of this checkpoint.
        name: Its name.

    Raises:
        ConfigurationError: ``session`` is no Session.
        StaleSessionError: On entering: the session was written elsewhere since it was opened.
        StoreError: On entering: the store cannot take the snapshot. Memory goes on in the
            process, and the next snapshot takes all.

    >>> session = Session()
    >>> with checkpoint(session, "read") as step:
    ...     step.name
    'read'
    """

    def __init__(
        self, session: Session, name: str = "checkpoint", *, rollback: bool = False
    ) -> None:
        if not isinstance(session, Session):
            raise ConfigurationError(
                f"checkpoint takes a Session, got {session!r}; "
                "for example: with checkpoint(session, 'index'):"
            )
        self.id = os.urandom(16).hex()
        self.name = str(name)
        self._session = session
        self._rollback = rollback
        self._run: Run | None = None

    def _begin(self, asynchronous: bool) -> Run | None:
        if self._run is not None:
            raise ConfigurationError(f"checkpoint {self.name!r} was entered before: make a new one")
        if not config.current.enabled:
            return None
        attributes = {names.CHECKPOINT_NAME: self.name, names.CHECKPOINT_ID: self.id}
        spec = Spec("checkpoint", self.name, "own", attributes)
        self._outer = get_current()
        self._run = begin(spec, self._session, asynchronous=asynchronous)
        return self._run

    def _enter(self) -> None:
        if self._run is not None:
            attach(self._run.context)

    def _leave(self, error: BaseException | None) -> Run | None:
        run = self._run
        if run is None:
            return None
        # Back to what was current, and not by the token: a block in a generator may be left in
        # another context than it was entered in, where the token means nothing.
        if current_run() is run:
            attach(self._outer)
        if error is not None and self._rollback and run.snapshot is not None:
            self._session.restore(run.snapshot)
            run.restored = True
        return run

    def __enter__(self) -> checkpoint:
        run = self._begin(asynchronous=False)
        if run is not None and run.refused is not None:
            run.end(run.refused)
            raise run.refused
        self._enter()
        return self

    def __exit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        run = self._leave(error)
        if run is not None:
            if isinstance(error, GeneratorExit):
                run.abandon()
            else:
                run.end(error)

    async def __aenter__(self) -> checkpoint:
        if "_away" in self._session.__dict__ and config.current.enabled:
            await steps.back(self._session)
        run = self._begin(asynchronous=True)
        if run is not None:
            await steps.prepare(run)
            if run.refused is not None:
                await steps.finish(run, run.refused)
                raise run.refused
        self._enter()
        return self

    async def __aexit__(self, _type: Any, error: BaseException | None, _traceback: Any) -> None:
        run = self._leave(error)
        if run is not None:
            if isinstance(error, GeneratorExit):
                run.abandon()
            else:
                await steps.finish(run, error)


def checkpoints(
    session: Session, steps: Iterable[T], name: str | None = None, *, resume: bool = False
) -> Iterator[T]:
    """Each value of an iterable in a checkpoint of its own.

    The loop's body is the step: it is done when the next value is asked for. A loop that is
    left early leaves its last step undone.

    Args:
        session: The session whose memory it is.
        steps: The steps' values.
        name: The steps' name, followed by their number from 0; None: ``step``. Loops of one
            session that are to be resumed need names of their own.
        resume: Leave out the steps that an earlier loop of this name completed, in this process
            or one that is gone, and carry on with memory as it was when the next one began. A
            step is known by its position and its value: from the first that differs on, all run.

    Raises:
        ConfigurationError: ``session`` is no Session; with ``resume``, a value is no data.

    >>> session = Session()
    >>> [path for path in checkpoints(session, ["a.py", "b.py"])]
    ['a.py', 'b.py']
    >>> [path for path in checkpoints(session, ["a.py", "b.py", "c.py"], resume=True)]
    ['c.py']
    """
    checkpoint(session)  # refused now, not at the first step
    return _checkpoints(session, steps, name or "step", resume)


def _checkpoints(session: Session, values: Iterable[T], name: str, resume: bool) -> Iterator[T]:
    if not config.current.enabled:
        yield from values
        return
    done = session.journal.steps_done(name) if resume else ()
    begun = False
    for number, value in enumerate(values):
        digest = step_digest(value, strict=resume)
        if not begun and number < len(done) and done[number] == digest:
            continue
        if not begun:
            begun = True
            begin_steps(session, name, number, resume)
        with checkpoint(session, f"{name} {number}"):
            yield value
        session.journal.step("done", name, digest)
    if begun:
        from .actions import create_memory_snapshot

        session.journal.step("end", name)
        if session.durable:
            create_memory_snapshot(session, f"{name} done")


def propagate(fn: Callable[P, R]) -> Callable[P, R]:
    """A function that runs in the run and span that are current now, for thread pools.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as pool:
    ...     list(pool.map(propagate(len), ["a", "bc"]))
    [1, 2]
    """
    context = get_current()

    @functools.wraps(fn)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        token = attach(context)
        try:
            return fn(*args, **kwargs)
        finally:
            detach(token)

    return cast("Callable[P, R]", carried)
