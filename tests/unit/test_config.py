"""Settings: the environment's, and those made in code."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest

import memtrace
from memtrace import ConfigurationError, Session, managed_agent
from memtrace.config import Config, from_environment


def test_environment_is_read() -> None:
    """
    The three variables set what they say.
    """
    environ = {
        "MEMTRACE_DISABLED": "true",
        "MEMTRACE_TOKEN_BUDGET": "128_000",
        "MEMTRACE_ENCODING": "cl100k_base",
    }

    assert from_environment(environ) == Config(
        enabled=False, token_budget=128_000, encoding="cl100k_base"
    )
    assert from_environment({}) == Config()


@pytest.mark.parametrize(
    ("text", "enabled"),
    [("1", False), ("TRUE", False), ("yes", False), ("on", False), ("0", True), ("off", True)],
)
def test_switch_takes_the_usual_words(text: str, enabled: bool) -> None:
    """
    MEMTRACE_DISABLED takes the usual words for yes and no, in any case.
    """
    assert from_environment({"MEMTRACE_DISABLED": text}).enabled is enabled


@pytest.mark.parametrize(
    ("variable", "text"),
    [
        ("MEMTRACE_DISABLED", "perhaps"),
        ("MEMTRACE_TOKEN_BUDGET", "-1"),
        ("MEMTRACE_TOKEN_BUDGET", "0"),
        ("MEMTRACE_TOKEN_BUDGET", "lots"),
        ("MEMTRACE_TOKEN_BUDGET", "1e5"),
    ],
)
def test_bad_variable_is_logged_and_left(
    variable: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    """
    A variable that cannot be used is named in one error and left at its default; nothing raises.
    """
    assert from_environment({variable: text}) == Config()

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert variable in record.getMessage()
    assert repr(text) in record.getMessage()


def test_disabled_by_the_environment() -> None:
    """
    With MEMTRACE_DISABLED a process runs decorated functions bare and imports no SDK.
    """
    script = (
        "import sys, memtrace\n"
        "agent = memtrace.managed_agent(lambda: memtrace.current_session())\n"
        "with memtrace.checkpoint(memtrace.Session()):\n"
        "    assert agent() is None\n"
        "assert not any(name.startswith('opentelemetry.sdk') for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"MEMTRACE_DISABLED": "true"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_configure_changes_what_is_named() -> None:
    """
    Settings that are not named stay, and what was before is given back.
    """
    first = memtrace.configure(token_budget=1_000)
    second = memtrace.configure(strict=True)

    assert (first.token_budget, second.token_budget) == (None, 1_000)
    assert memtrace.configure() == Config(
        strict=True,
        token_budget=1_000,
        tracer_provider=first.tracer_provider,
        meter_provider=first.meter_provider,
    )


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"token_budgets": 1}, "no setting named token_budgets; the settings are capture_content"),
        ({"token_budget": 0}, "above 0, got 0"),
        ({"token_budget": True}, "got True"),
        ({"hooks": [print]}, r"hooks=\[\('after_run', print\)\]"),
        ({"hooks": [("after_run", 7)]}, "pairs"),
        ({"hooks": [("after_lunch", print)]}, "after_lunch"),
    ],
)
def test_setting_that_cannot_work(settings: dict[str, Any], says: str) -> None:
    """
    A setting that is unknown or cannot work is refused, and nothing is changed.
    """
    before = memtrace.configure()

    with pytest.raises(ConfigurationError, match=says):
        memtrace.configure(strict=True, **settings)
    assert memtrace.configure() == before


def test_budget_of_an_observed_list() -> None:
    """
    An observed list is held against the decorator's budget, else the policy's, else the
    configured one.
    """
    seen: list[int] = []
    memtrace.configure(
        token_budget=3_000, hooks=[("after_run", lambda e: seen.append(e.profile.token_budget))]
    )

    def agent(messages: Any) -> None: ...

    policy = memtrace.Policy(token_budget=2_000)
    managed_agent(messages="messages", token_budget=1_000, policy=policy)(agent)([])
    managed_agent(messages="messages", policy=policy)(agent)([])
    managed_agent(messages="messages")(agent)([])
    assert seen == [1_000, 2_000, 3_000]


def test_switched_off_and_on_again(spans: Any) -> None:
    """
    Switching off takes effect at the next call, and so does switching on.
    """
    agent = managed_agent(session=Session())(lambda: 42)

    for enabled in (False, True):
        memtrace.configure(enabled=enabled)
        assert agent() == 42
        assert len(spans.get_finished_spans()) == enabled


def test_strict_raises_our_own_failures() -> None:
    """
    With strict=True a failure of memtrace's own is raised instead of logged.
    """
    memtrace.configure(strict=True)

    with pytest.raises(ZeroDivisionError):
        managed_agent(session=lambda: 1 / 0)(lambda: 42)()
