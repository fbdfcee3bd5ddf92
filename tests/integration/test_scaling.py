"""Several worker processes on one PostgreSQL, as docs/scaling.md shows them."""

from __future__ import annotations

import gc
import re
from pathlib import Path
from typing import Any

import psycopg
import pytest
import yaml

from examples.scaling.__main__ import main
from examples.scaling.crew import Said
from examples.scaling.proof import Proof, prove
from examples.scaling.turns import Turn, Turns
from examples.scaling.worker import answer, serve
from memtrace import Session, StaleSessionError, verify
from memtrace.stores import open_store
from memtrace.telemetry import names

_DOCUMENT = Path(__file__).parents[2] / "docs" / "scaling.md"


def block(language: str, says: str) -> str:
    """The document's block in a language that says something."""
    blocks = re.findall(rf"```{language}\n(.*?)```", _DOCUMENT.read_text("utf-8"), re.DOTALL)
    (found,) = (text for text in blocks if says in text)
    return str(found)


def test_workers_that_are_killed_lose_nothing(
    postgres: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """
    Four workers serve every session, four are killed: all that was acknowledged is there, once
    and in order.
    """
    url = postgres.url()

    status = main([url, "--sessions", "30", "--questions", "4", "--kills", "4"])

    assert capsys.readouterr().out.endswith("0 lost, 0 interleaved, 0 stale\n")
    assert status == 0
    assert verify(url).ok


def test_a_worker_that_was_overtaken_is_refused(postgres: Any) -> None:
    """
    One whose session another one served meanwhile stores nothing, and is told so.
    """
    url = postgres.url()
    slow = Session.open("a", store=url)
    assert serve(url, Turn("a", 1), "fast.1") == "answered"
    answer(slow, 1, "slow.1")
    with pytest.raises(StaleSessionError):
        slow.close()

    assert serve(url, Turn("a", 1), "slow.2") == "known"
    assert prove(url, [Said("answered", "a", 1, "fast.1"), Said("refused", "a", 1, "slow.1")]).holds


def test_a_session_is_one_workers_at_a_time(postgres: Any) -> None:
    """
    What one has nobody else takes, until it is answered or given back; and one can be snatched.
    """
    url = postgres.url()
    open_store(url)
    with Turns(url, "w1") as first, Turns(url, "w2") as second:
        first.make(2, 2)
        turns = [first.take(), second.take()]
        assert sorted(turn.session for turn in turns if turn) == ["session 1", "session 2"]
        assert first.take() is second.take() is None
        assert second.snatch() == turns[0]
        assert turns[0] is not None
        first.answered(turns[0])
        assert second.take() == Turn(turns[0].session, 2)
        second.give_back()
        assert {first.take(), first.take()} == {Turn(turns[0].session, 2), turns[1]}
        assert first.left() == 3


def test_the_proof_sees_what_is_wrong(postgres: Any) -> None:
    """
    An answer that is not there, one that was refused and is, two for one question, and messages
    out of order are each counted.
    """
    url = postgres.url()
    for number in (1, 2):
        serve(url, Turn("a", number), f"w1.{number}")
    with Session.open("b", store=url) as session:
        answer(session, 2, "w1.3")
        session.history.append({"role": "user", "content": "1. again"})
    said = [
        Said("answered", "a", 1, "w1.1"),
        Said("answered", "a", 1, "w2.1"),
        Said("answered", "gone", 1, "w2.2"),
        Said("refused", "a", 2, "w1.2"),
    ]

    # In b: question and answer 2 where 1 belongs, another 1 where 2 does, and no answer to it.
    assert prove(url, said) == Proof(2, 3, lost=2, interleaved=4, stale=2, shared=1.0)


def test_sessions_opened_one_after_another_share_connections(postgres: Any) -> None:
    """
    Whoever opens a session for each request by its store's address connects once.
    """
    url = postgres.url().replace("&schema=", "&application_name=kept&schema=")
    with postgres.connect() as connection:
        seen = "SELECT array_agg(pid) FROM pg_stat_activity WHERE application_name = 'kept'"
        serve(url, Turn("a", 1), "w.1")
        gc.collect()
        (before,) = connection.execute(seen).fetchone()
        for number in (2, 3):
            serve(url, Turn("a", number), f"w.{number}")
            gc.collect()
        (after,) = connection.execute(seen).fetchone()

    assert set(before) <= set(after)


# --- the document ---------------------------------------------------------------------------------


def test_the_documents_partitions_hold_a_store(postgres: Any) -> None:
    """
    A store that is in use is parted by the block as it stands; its sessions go on, whole.
    """
    url = postgres.url()
    address, _, schema = url.rpartition("&schema=")
    said = []
    for number in (1, 2, 3):
        if number == 2:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute(block("sql", "PARTITION").replace("memtrace.", f"{schema}."))
        for name in "abcdefgh":
            assert serve(url, Turn(name, number), f"w.{number}") == "answered"
            said.append(Said("answered", name, number, f"w.{number}"))

    assert prove(url, said) == Proof(8, 24, lost=0, interleaved=0, stale=0, shared=1.0)
    assert verify(url).ok
    with psycopg.connect(address) as connection:
        filled = "SELECT count(DISTINCT tableoid) FROM {s}.log".replace("{s}", schema)
        assert connection.execute(filled.encode()).fetchone() > (1,)


def test_the_documents_stores_are_found_by_a_sessions_id() -> None:
    """
    The block runs as it stands, and sessions are spread over all its stores.
    """
    found: dict[str, Any] = {}
    exec(block("python", "store_of"), found)

    assert {found["store_of"](f"session {n}") for n in range(500)} == set(found["STORES"])


def test_the_documents_collector_keeps_what_memtrace_tells() -> None:
    """
    Each part that its pipelines name is there, and each name that it looks for is memtrace's.
    """
    text = block("yaml", "tail_sampling")
    told = yaml.safe_load(text)
    told_names = set(re.findall(r'"(memtrace[^"]*)"', text))

    for pipeline in told["service"]["pipelines"].values():
        for kind, parts in pipeline.items():
            assert set(parts) <= set(told[kind])
    policies = told["processors"]["tail_sampling"]["policies"]
    assert all(policy["type"] in policy for policy in policies)
    assert told_names == {names.AFTER_UTILIZATION, names.EVENT_THRESHOLD_CROSSED}
