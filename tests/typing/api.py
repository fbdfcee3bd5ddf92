"""What type checkers say of the public API. Checked by mypy and pyright, both strict; never run.

A decorated callable keeps its type: parameters, result, and kind.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator, Iterator
from functools import partial
from typing import Any

from typing_extensions import assert_type

import memtrace
from memtrace import (
    ActionReport,
    ArchiveReport,
    BudgetChange,
    Caller,
    Event,
    Finding,
    Forecast,
    Item,
    LayerUsage,
    MemoryProfile,
    Policy,
    Price,
    RetentionPlan,
    RetentionReport,
    RetentionRules,
    Session,
    TokenBudget,
    archive,
    checkpoint,
    checkpoints,
    current_session,
    delete_sessions,
    diagnose,
    export_runs,
    from_baggage,
    managed_agent,
    measure_tokens,
    propagate,
    retention,
)

SESSION = Session("support-42", token_budget=128_000)

# --- functions, bare ----------------------------------------------------------------------------


@managed_agent
def function(session: Session, question: str, *, depth: int = 0) -> str:
    return question


@managed_agent
async def coroutine(session: Session, question: str, *, depth: int = 0) -> str:
    return question


@managed_agent
def generator(session: Session, question: str) -> Generator[int, str, bool]:
    yield 1
    return True


@managed_agent
def iterator(session: Session) -> Iterator[int]:
    yield 1


@managed_agent
async def async_generator(session: Session, question: str) -> AsyncGenerator[int, str]:
    yield 1


@managed_agent
async def async_iterator(session: Session) -> AsyncIterator[int]:
    yield 1


assert_type(function(SESSION, "why", depth=1), str)
assert_type(generator(SESSION, "why"), Generator[int, str, bool])
assert_type(iterator(SESSION), Iterator[int])
assert_type(async_generator(SESSION, "why"), AsyncGenerator[int, str])
assert_type(async_iterator(SESSION), AsyncIterator[int])

function(SESSION)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
function(SESSION, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def iterated() -> None:
    async for n in async_generator(SESSION, "why"):
        assert_type(n, int)


# --- functions, with arguments ------------------------------------------------------------------


@managed_agent(name="clerk", session=SESSION, policy=Policy(), attributes={"team": "a"})
def with_session(question: str) -> str:
    return question


@managed_agent(messages="messages", token_budget=8_000, span="current")
async def with_messages(messages: list[dict[str, Any]], *, model: str = "") -> int:
    return len(messages)


@managed_agent(messages="messages", token_budget=TokenBudget(8_000))
def with_budget(messages: list[dict[str, Any]]) -> Iterator[str]:
    yield ""


@managed_agent()
async def with_nothing(session: Session) -> AsyncIterator[int]:
    yield 1


@managed_agent(session=SESSION, baggage=True)
def with_baggage(question: str) -> str:
    return question


assert_type(with_session("why"), str)
assert_type(with_baggage("why"), str)
assert_type(with_budget([]), Iterator[str])
assert_type(with_nothing(SESSION), AsyncIterator[int])
with_session(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- a session that is looked up: the callable takes what the function takes ----------------------


def session_of(user: str, *, limit: int = 1) -> Session:
    return Session(user)


@managed_agent(session=session_of)
def looked_up(user: str, *, limit: int = 1) -> str:
    return user


@managed_agent(session=session_of, name="clerk")
async def looked_up_async(user: str, *, limit: int = 1) -> int:
    return limit


@managed_agent(session=session_of, baggage=True)
async def looked_up_with_baggage(user: str, *, limit: int = 1) -> int:
    return limit


assert_type(looked_up("a", limit=2), str)
looked_up(7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@managed_agent(session=session_of)  # type: ignore[arg-type]
def takes_something_else(  # pyright: ignore[reportArgumentType,reportUntypedFunctionDecorator]
    user: int,
) -> str:
    return str(user)


# --- methods ------------------------------------------------------------------------------------


def session_of_agent(agent: Agent, /, question: str) -> Session:
    return agent.session


class Agent:
    session: Session = SESSION

    @managed_agent
    def method(self, session: Session, question: str) -> str:
        return question

    @managed_agent(name="clerk")
    async def async_method(self, session: Session, question: str) -> str:
        return question

    @managed_agent
    def generator_method(self, session: Session) -> Iterator[int]:
        yield 1

    @managed_agent(session=session_of_agent)
    def looked_up(self, question: str) -> str:
        return question

    @classmethod
    @managed_agent
    def class_above(cls, session: Session) -> str:
        return cls.__name__

    @managed_agent
    @classmethod
    def class_below(cls, session: Session) -> str:
        return cls.__name__

    @managed_agent(name="clerk")
    @classmethod
    async def class_below_async(cls, session: Session) -> str:
        return cls.__name__

    @staticmethod
    @managed_agent
    def static_above(session: Session) -> int:
        return 1

    @managed_agent
    @staticmethod
    def static_below(session: Session) -> int:
        return 1

    @managed_agent(name="clerk")
    @staticmethod
    async def static_below_async(session: Session) -> int:
        return 1

    def __call__(self, question: str) -> str:
        return question


AGENT = Agent()
assert_type(AGENT.method(SESSION, "why"), str)
assert_type(Agent.method(AGENT, SESSION, "why"), str)
assert_type(AGENT.generator_method(SESSION), Iterator[int])
assert_type(AGENT.looked_up("why"), str)
assert_type(Agent.class_above(SESSION), str)
assert_type(AGENT.class_above(SESSION), str)
assert_type(Agent.class_below(SESSION), str)
assert_type(AGENT.class_below(SESSION), str)
assert_type(Agent.static_above(SESSION), int)
assert_type(Agent.static_below(SESSION), int)
assert_type(AGENT.static_below(SESSION), int)
AGENT.method(SESSION, 7)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def coroutines_are_awaited() -> None:
    assert_type(await coroutine(SESSION, "why", depth=1), str)
    assert_type(await with_messages([], model="m"), int)
    assert_type(await looked_up_async("a"), int)
    assert_type(await looked_up_with_baggage("a"), int)
    assert_type(await AGENT.async_method(SESSION, "why"), str)
    assert_type(await Agent.class_below_async(SESSION), str)
    assert_type(await Agent.static_below_async(SESSION), int)


# --- what is not made with def --------------------------------------------------------------------


def add(a: int, b: str) -> float:
    return float(a)


managed_partial = managed_agent(partial(add, 1))
managed_object = managed_agent(AGENT)
managed_method = managed_agent(AGENT.__call__)
assert_type(managed_partial("b"), float)
assert_type(managed_object, Agent)
assert_type(managed_object("why"), str)
assert_type(managed_method("why"), str)

as_callable: Callable[[Session, str], str] = function
as_async: Callable[[Session, str], Coroutine[Any, Any, str]] = coroutine

# --- what cannot work ---------------------------------------------------------------------------

managed_agent(7)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue,reportArgumentType]
managed_agent(span="mine")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue,reportArgumentType]
managed_agent(nmae="clerk")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]

# --- checkpoints --------------------------------------------------------------------------------

with checkpoint(SESSION, "index") as step:
    assert_type(step, checkpoint)
    assert_type((step.id, step.name), tuple[str, str])


async def enters() -> None:
    async with checkpoint(SESSION) as step:
        assert_type(step, checkpoint)


def after_a_block_that_may_raise() -> int:
    with checkpoint(SESSION):
        return 1  # the block swallows nothing, so nothing is missing after it


for path in checkpoints(SESSION, ["a.py"], name="index"):
    assert_type(path, str)
assert_type(checkpoints(SESSION, range(3)), Iterator[int])
checkpoint("support-42")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# --- the rest -----------------------------------------------------------------------------------

assert_type(propagate(add)(1, "b"), float)
propagate(add)("b")  # type: ignore[call-arg,arg-type]  # pyright: ignore[reportCallIssue]
assert_type(current_session(), Session | None)
assert_type(measure_tokens(SESSION.history), int)
assert_type(SESSION.active_contexts.add("text", key="a.py", ttl_s=60), Item)
assert_type(SESSION.active_contexts.get("a.py"), Item | None)
assert_type(SESSION.history.tokens, int)
assert_type([agent.name for agent in SESSION.agents], list[str])
assert_type(SESSION.agent("planner").name, str)

profile = SESSION.profile()
assert_type(profile, MemoryProfile)
assert_type(profile["total_tokens"], int | float)
assert_type(profile.utilization_rate, float)
assert_type(profile.cache_hit_rate, float | None)
assert_type(profile.layers["cache"], LayerUsage)
profile.cache = 0  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


@SESSION.on("after_run")
def hook(event: Event) -> None:
    assert_type(event.profile, MemoryProfile | None)


@SESSION.on("before_run")
async def async_hook(event: Event) -> None: ...


assert_type(hook(Event("after_run")), None)
memtrace.configure(strict=True, hooks=[("after_run", hook)])


def _summarize(messages: list[Any], previous: str) -> str:
    return previous + str(len(messages))


async def _asummarize(messages: list[Any], previous: str) -> str:
    return previous + str(len(messages))


def recall(session: Session) -> None:
    assert_type(session.recall("what"), list[Item])
    assert_type(session.context_for("what", 100), list[Any])
    assert_type(from_baggage(), Caller)
    Policy(summarizer=_summarize)
    Policy(summarizer=_asummarize)


# --- policies and prices --------------------------------------------------------------------------


def policies(session: Session) -> None:
    assert_type(Policy.from_file("policy.toml"), Policy)
    assert_type(Price(cached_read=0.1).cold, Price)
    Policy(prices=Price(0.1, 1.25, 300), judge=False)
    Policy(prices={"claude": Price(), "mine": (0.5, 1.0, 60)})
    Policy(prices=0.1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Policy(judge="no")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    session.record_usage(10, model="gpt-5", cached_tokens=8)
    session.record_usage("10")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# --- what becomes of memory -----------------------------------------------------------------------


def ahead(session: Session) -> None:
    assert_type(session.profile().forecast, Forecast | None)
    assert_type(diagnose(session), list[Finding])
    assert_type(diagnose("memory.db", id="support-42"), list[Finding])
    assert_type(session.rebalance(), TokenBudget)
    assert_type(session.rebalance({"cache": 10}), TokenBudget)
    assert_type(session.budget_log, tuple[BudgetChange, ...])


def kept() -> None:
    session = Session("support-42", tags=["user:ann"])
    assert_type(session.tags, tuple[str, ...])
    assert_type(archive(session), ActionReport)
    assert_type(archive("memory.db", idle_s=0, to="s3://bucket"), ArchiveReport)
    plan = retention("memory.db", RetentionRules(session_days=90), tag="user:ann")
    assert_type(plan, RetentionPlan)
    assert_type(plan.apply(vacuum=False), RetentionReport)
    assert_type(delete_sessions("memory.db", "support-42"), RetentionReport)
    assert_type(export_runs("memory.db", "runs.csv", tag="user:ann"), int)
    Session(tags=[1])  # type: ignore[list-item]  # pyright: ignore[reportArgumentType]
