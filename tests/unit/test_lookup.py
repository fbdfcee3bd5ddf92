"""Which session a call belongs to: the order of the search, and what it says of bad calls."""

from __future__ import annotations

import logging
from functools import partial
from typing import Any

import pytest
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from memtrace import ConfigurationError, Session, checkpoint, current_session, managed_agent

HELLO = {"role": "user", "content": "hello"}


def found(*_args: Any, **_kwargs: Any) -> Session | None:
    """A body that tells which session it runs in."""
    return current_session()


class Row:
    """As SQLAlchemy's session: called `session` by everybody, and no Session of ours."""

    def execute(self) -> None: ...


class Unasked:
    """As a proxy outside its request: it raises when asked for its class."""

    @property
    def __class__(self) -> Any:
        raise RuntimeError("working outside of context")

    @__class__.setter
    def __class__(self, value: Any) -> None: ...


# --- where it looks -----------------------------------------------------------------------------


def test_session_given_to_the_decorator() -> None:
    """
    `session=` wins over a session among the arguments.
    """
    given, other = Session(), Session()

    assert managed_agent(session=given)(found)(other) is given


def test_callable_is_given_the_calls_arguments() -> None:
    """
    A callable `session=` gets what the function gets, by position and by name.
    """
    session = Session()
    calls: list[Any] = []

    @managed_agent(session=lambda *args, **kwargs: calls.append((args, kwargs)) or session)
    def agent(question: str, *, depth: int) -> Session | None:
        return current_session()

    assert agent("why", depth=2) is session
    assert calls == [(("why",), {"depth": 2})]


@pytest.mark.parametrize("how", ["method", "class method above", "class method below"])
def test_callable_is_given_self_or_the_class(how: str) -> None:
    """
    For a method a callable `session=` gets the instance too, for a class method the class.
    """
    managed = managed_agent(session=lambda owner, n: owner.held if n == 1 else None)
    make = {
        "method": managed,
        "class method above": lambda fn: classmethod(managed(fn)),
        "class method below": lambda fn: managed(classmethod(fn)),
    }[how]
    agent_class = type("Agent", (), {"run": make(found), "held": Session()})

    assert agent_class().run(1) is agent_class.held  # type: ignore[attr-defined]


def test_callable_of_a_bound_method_gets_its_arguments_alone() -> None:
    """
    Where a bound method is decorated, a callable `session=` gets what a caller passes.
    """
    session = Session()
    agent = type("Agent", (), {"run": found})()

    assert managed_agent(session=lambda n: {1: session}[n])(agent.run)(1) is session


def test_messages_mean_no_session() -> None:
    """
    `messages=` only observes: the list is left alone, and the body runs in no session.
    """
    messages = [HELLO]

    assert managed_agent(messages="messages")(lambda messages: found())(messages) is None
    assert messages == [HELLO]


@pytest.mark.parametrize("call", ["position", "name", "default"])
def test_parameter_named_session(call: str) -> None:
    """
    A parameter named `session` is found by position, by name and as a default, and wins over
    other sessions among the arguments.
    """
    session, other = Session(), Session()

    @managed_agent
    def agent(other: Any, session: Session = session) -> Session | None:
        return current_session()

    calls = {
        "position": lambda: agent(other, session),
        "name": lambda: agent(session=session, other=other),
        "default": lambda: agent(other),
    }
    assert calls[call]() is session


def test_keyword_only_session() -> None:
    """
    A keyword-only parameter named `session` is found.
    """
    session = Session()

    @managed_agent
    def agent(*others: Any, session: Session) -> Session | None:
        return current_session()

    assert agent(Session(), Session(), session=session) is session


def method(self: Any, session: Session, n: int = 0) -> Session | None:
    return current_session()


@pytest.mark.parametrize(
    "make",
    [
        managed_agent,
        lambda fn: classmethod(managed_agent(fn)),
        lambda fn: managed_agent(classmethod(fn)),
    ],
    ids=["method", "class method above", "class method below"],
)
def test_parameter_of_a_method(make: Any) -> None:
    """
    A method's parameter named `session` is found behind `self` or `cls`, however it is called.
    """
    session = Session()
    agent_class: Any = type("Agent", (), {"run": make(method)})

    assert agent_class().run(session) is session
    assert agent_class().run(n=1, session=session) is session


def test_method_called_through_its_class() -> None:
    """
    A method called as a function of its class finds the parameter in its place.
    """
    session = Session()
    agent_class: Any = type("Agent", (), {"run": managed_agent(method)})

    assert agent_class.run(agent_class(), session) is session


@pytest.mark.parametrize("above", [True, False])
def test_parameter_of_a_static_method(above: bool) -> None:
    """
    A static method's parameter named `session` is found, in either order of decorators.
    """
    session = Session()

    def run(n: int, session: Session) -> Session | None:
        return current_session()

    made = staticmethod(managed_agent(run)) if above else managed_agent(staticmethod(run))
    agent_class: Any = type("Agent", (), {"run": made})

    assert agent_class().run(1, session) is agent_class.run(1, session=session) is session


@pytest.mark.parametrize("call", [lambda s: ((1, s), {}), lambda s: ((), {"memory": s})])
def test_argument_that_is_a_session(call: Any) -> None:
    """
    A session among the arguments is found, whatever its parameter is called.
    """
    session = Session()
    args, kwargs = call(session)

    assert managed_agent(found)(*args, **kwargs) is session


@pytest.mark.parametrize("bind", [lambda s: ((s,), {}), lambda s: ((), {"session": s})])
def test_session_bound_by_a_partial(bind: Any) -> None:
    """
    A session that a partial has bound is found, also through a partial of a partial.
    """
    session = Session()
    args, kwargs = bind(session)

    def agent(session: Session, n: int = 0) -> Session | None:
        return current_session()

    assert managed_agent(partial(partial(agent, *args, **kwargs), n=1))() is session


def test_parameter_that_holds_something_else() -> None:
    """
    A parameter named `session` that holds no Session (SQLAlchemy's, say) is passed over.
    """
    ours = Session()

    @managed_agent
    def agent(session: Row, memory: Any = None) -> Session | None:
        return current_session()

    assert agent(Row(), ours) is ours
    with checkpoint(ours):
        assert agent(Row()) is ours


def test_ambient_session() -> None:
    """
    A call without a session of its own belongs to the run or checkpoint around it.
    """
    session = Session()
    with checkpoint(session):
        assert managed_agent(found)() is session

    assert managed_agent(session=session)(lambda: managed_agent(found)())() is session


def test_argument_wins_over_the_ambient_session() -> None:
    """
    A session among the arguments is nearer than the one around the call.
    """
    session = Session()
    with checkpoint(Session()):
        assert managed_agent(found)(session) is session


def test_same_session_twice_is_one() -> None:
    """
    A session that is passed twice is no contradiction.
    """
    session = Session()

    assert managed_agent(found)(session, session, memory=session) is session


# --- where there is none, or too many -----------------------------------------------------------


def test_no_session_is_a_plain_span_and_one_warning(
    spans: InMemorySpanExporter, caplog: pytest.LogCaptureFixture
) -> None:
    """
    Without any session the function runs in a plain span, and that is said once.
    """
    agent = managed_agent(found)
    assert [agent() for _ in range(3)] == [None] * 3

    assert len(spans.get_finished_spans()) == 3
    assert not any("profile" in key for key in spans.get_finished_spans()[0].attributes or {})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "parameter named session" in record.getMessage()


def test_two_sessions_are_refused_before_the_body_runs() -> None:
    """
    Two sessions are one clear error that names both, before the body has run.
    """
    agent = managed_agent(name="clerk")(lambda *args: pytest.fail("ran"))

    with pytest.raises(ConfigurationError, match="clerk was called with two sessions") as error:
        agent(Session("first"), Session("second"))
    assert "'first'" in str(error.value)
    assert "'second'" in str(error.value)
    assert "@managed_agent(session=...)" in str(error.value)


def test_bound_session_and_another_are_two() -> None:
    """
    A session bound by a partial and another one passed are two.
    """
    agent = managed_agent(name="clerk")(partial(found, Session()))

    with pytest.raises(ConfigurationError, match="two sessions"):
        agent(Session())


@pytest.mark.parametrize(
    "gives", [lambda: None, lambda: "text", lambda: 1 / 0, lambda n: Session()]
)
def test_callable_that_gives_no_session(gives: Any, caplog: pytest.LogCaptureFixture) -> None:
    """
    Where a callable `session=` fails, that is logged and the function runs in a plain span.
    """
    assert managed_agent(session=gives)(lambda: 42)() == 42

    assert "session lookup" in caplog.text


def test_argument_that_cannot_be_asked() -> None:
    """
    An argument that raises when asked for its class is passed over, and the session is found.
    """
    session = Session()

    assert managed_agent(found)(Unasked(), session, proxy=Unasked()) is session


def test_messages_that_are_no_list(caplog: pytest.LogCaptureFixture) -> None:
    """
    Where the parameter of `messages=` holds no list, the function runs and that is said once.
    """
    agent = managed_agent(messages="messages")(lambda messages: messages)

    assert [agent(given) for given in ("text", b"bytes", None, 7)] == ["text", b"bytes", None, 7]
    assert [record.levelname for record in caplog.records] == ["WARNING"]


# --- refused at decoration ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"session": Session(), "messages": "messages"}, "not both"),
        ({"session": "support-42"}, "takes a Session, or a callable"),
        ({"messages": "mesages"}, "its parameters are: question, messages"),
        ({"messages": []}, "takes the name of a parameter"),
        ({"messages": "messages", "token_budget": 0}, "above 0, got 0"),
        ({"span": "mine"}, "'own' or 'current', got 'mine'"),
        ({"name": ""}, "must be text, got ''"),
    ],
)
def test_contradictions_show_at_decoration(arguments: Any, says: str) -> None:
    """
    Arguments that cannot work are refused at decoration, with what was given and what works.
    """

    def agent(question: str, messages: Any = None) -> None: ...

    with pytest.raises(ConfigurationError) as error:
        managed_agent(**arguments)(agent)
    assert says in str(error.value)
