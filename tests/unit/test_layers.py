"""The five layers, each on its own: what goes in, comes out and is counted, on a clock of ours."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

import pytest

from memtrace import ConfigurationError, Layer
from memtrace.layers import Agents, Cache, Contexts, History, Tally, Wiring


class Desk:
    """What a session would lend: a clock that is set by hand, and a token for each character."""

    def __init__(self) -> None:
        self.time = 1_000.0
        self.who: tuple[int | None, str | None] = (None, None)
        self.counted: list[Any] = []
        self.tally = Tally()
        ids = itertools.count(1)
        self.wiring = Wiring(
            threading.RLock(),
            self.count,
            lambda: self.time,
            lambda: self.who,
            lambda prefix: f"{prefix}{next(ids)}",
        )

    def count(self, content: Any) -> int:
        self.counted.append(content)
        return len(content["content"] if isinstance(content, dict) else str(content))

    def contexts(self) -> Contexts:
        return Contexts(Layer.WORKING_MEMORY, self.wiring, self.tally)

    def cache(self, limit_tokens: int = 100) -> Cache:
        return Cache(self.wiring, self.tally, limit_tokens)

    def agents(self) -> Agents:
        return Agents(self.wiring, self.tally)

    def history(self, *texts: str) -> History:
        history = History(self.wiring, self.tally)
        history.extend(user(text) for text in texts)
        return history


@pytest.fixture
def desk() -> Desk:
    return Desk()


def user(text: str) -> dict[str, str]:
    return {"role": "user", "content": text}


def said(history: History) -> list[str]:
    return [message["content"] for message in history]


# --- contexts -----------------------------------------------------------------------------------


def test_context_is_kept_as_it_is(desk: Desk) -> None:
    """
    A content is the caller's own object, counted once, under its key and its id.
    """
    contexts, content = desk.contexts(), ["a", "list"]
    item = contexts.add(content, key="list", kind="result", priority=2)

    assert item.content is content
    assert contexts.get("list") is contexts.get(item.id) is item
    assert (item.kind, item.priority, item.layer) == ("result", 2, "working_memory")
    assert (item.created_at, item.last_used_at, item.expires_at) == (1_000.0, 1_000.0, None)
    assert desk.counted == [content]


def test_context_under_a_known_key_replaces(desk: Desk) -> None:
    """
    Adding under a key that is held replaces what was there, and the totals follow.
    """
    contexts = desk.contexts()
    old = contexts.add("12345", key="file")
    new = contexts.add("123", key="file")

    assert contexts.items == (new,)
    assert (contexts.tokens, len(contexts)) == (3, 1)
    assert contexts.get(old.id) is None
    assert desk.tally.added == 8


def test_contexts_keep_their_order(desk: Desk) -> None:
    """
    Items are listed in the order in which they came; what is replaced goes to the end.
    """
    contexts = desk.contexts()
    for key in ("a", "b", "c", "a"):
        contexts.add(key, key=key)

    assert [item.key for item in contexts] == ["b", "c", "a"]


@pytest.mark.parametrize(("kind", "pinned"), [("system", True), ("tools", True), ("result", False)])
def test_system_and_tools_are_pinned(kind: str, pinned: bool, desk: Desk) -> None:
    """
    The system prompt and tool schemas are pinned, whatever the caller says; others are not.
    """
    assert desk.contexts().add("text", kind=kind).pinned is pinned
    assert desk.contexts().add("text", kind=kind, pinned=True).pinned


def test_touch_marks_as_used_by_the_run(desk: Desk) -> None:
    """
    Touching sets the time of last use and the run that used it, and counts nothing again.
    """
    contexts = desk.contexts()
    contexts.add("12345", key="file")
    desk.time, desk.who = 1_060.0, (7, "planner")
    touched = contexts.touch("file")

    assert (touched.last_used_at, touched.created_at, touched.run_id) == (1_060.0, 1_000.0, 7)
    assert contexts.get("file") is touched
    assert (contexts.tokens, len(desk.counted)) == (5, 1)


def test_owner_is_the_run_and_its_agent(desk: Desk) -> None:
    """
    An item belongs to the run that added it and to its agent, unless another agent is named.
    """
    contexts = desk.contexts()
    desk.who = (3, "planner")

    assert (contexts.add("a").run_id, contexts.add("b").agent) == (3, "planner")
    assert contexts.add("c", agent="writer").agent == "writer"


def test_expiry_is_kept_with_the_item(desk: Desk) -> None:
    """
    `ttl_s` says when a context expires, on the session's clock.
    """
    assert desk.contexts().add("text", ttl_s=60).expires_at == 1_060.0


@pytest.mark.parametrize("act", ["remove", "touch"])
def test_unknown_context(act: str, desk: Desk) -> None:
    """
    Removing or touching what is not held is a KeyError that names layer and key; get gives None.
    """
    contexts = desk.contexts()

    with pytest.raises(KeyError, match="no item 'file' in working_memory"):
        getattr(contexts, act)("file")
    assert contexts.get("file") is None
    assert "file" not in contexts


def test_removed_context_is_given_back(desk: Desk) -> None:
    """
    Removing gives the item back and takes its tokens out; clearing takes out all.
    """
    contexts = desk.contexts()
    item = contexts.add("12345", key="file")
    contexts.add("123")

    assert contexts.remove("file") is item
    assert (contexts.tokens, len(contexts)) == (3, 1)
    contexts.clear()
    assert (contexts.tokens, contexts.items, list(contexts)) == (0, (), [])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [({"ttl_s": 0}, "above 0, got 0"), ({"ttl_s": float("nan")}, "nan"), ({"key": 7}, "key='7'")],
)
def test_context_that_cannot_be(arguments: dict[str, Any], says: str, desk: Desk) -> None:
    """
    A time to live that is not above 0 and a key that is no text are refused.
    """
    contexts = desk.contexts()

    with pytest.raises(ConfigurationError, match=says):
        contexts.add("text", **arguments)
    assert (len(contexts), contexts.tokens) == (0, 0)


# --- cache --------------------------------------------------------------------------------------


def test_cache_hits_and_misses_are_counted(desk: Desk) -> None:
    """
    A lookup gives the very object or the default, and counts as a hit or a miss.
    """
    cache, value = desk.cache(), ["value"]
    cache.put("key", value)

    assert cache.get("key") is value
    assert cache.get("other", "none") == "none"
    assert cache.stats[:2] == (1, 1)
    assert cache.stats.hit_rate == 0.5
    assert Desk().cache().stats.hit_rate is None


def test_cache_expires_on_its_clock(desk: Desk) -> None:
    """
    A value is served until its time to live is over, and leaves the totals when it is.
    """
    cache = desk.cache()
    cache.put("short", "12345", ttl_s=10)
    cache.put("long", "123", ttl_s=20)

    desk.time += 9.99
    assert (cache.get("short"), cache.tokens) == ("12345", 8)
    desk.time += 0.01
    assert (cache.get("short"), cache.tokens, list(cache)) == (None, 3, ["long"])
    desk.time += 10
    assert (cache.tokens, len(cache), cache.items) == (0, 0, ())
    assert cache.stats.expirations == 2


def test_cache_evicts_the_least_recently_used(desk: Desk) -> None:
    """
    What does not fit evicts by tokens whoever was not used for longest, as many as it takes.
    """
    cache = desk.cache(limit_tokens=10)
    for key in "abc":
        cache.put(key, "123")
    cache.get("a")
    cache.put("d", "1234567")

    assert sorted(cache) == ["a", "d"]
    assert (cache.tokens, cache.stats.evictions) == (10, 2)


@pytest.mark.parametrize(
    "look", [lambda c: c.items, lambda c: c.tokens, len, list, repr, lambda c: "a" in c]
)
def test_looking_at_the_cache_uses_nothing(look: Callable[[Cache], Any], desk: Desk) -> None:
    """
    Looking at a cache changes neither who is evicted next nor the hit rate.
    """
    cache = desk.cache(limit_tokens=9)
    cache.put("brief", "1", ttl_s=1)
    for key in "ab":
        cache.put(key, "123")
    cache.get("a")
    desk.time += 2
    look(cache)
    cache.put("c", "12345")

    assert sorted(cache) == ["a", "c"]
    assert cache.stats[:2] == (1, 0)


def test_value_larger_than_the_cache_is_not_kept(desk: Desk) -> None:
    """
    A value larger than the whole cache is not kept, and neither is the older one of its key.
    """
    cache = desk.cache(limit_tokens=4)
    cache.put("key", "old")

    assert cache.put("key", "12345") is None
    assert (cache.get("key"), cache.tokens, cache.stats.rejected) == (None, 0, 1)


def test_life_too_short_to_be_measured(desk: Desk) -> None:
    """
    A time to live below the clock's resolution is over at once: nothing is held or counted.
    """
    desk.time = 1.7e9
    cache = desk.cache()
    cache.put("key", "12345", ttl_s=1e-9)

    assert (cache.get("key"), cache.tokens, len(cache), cache.items) == (None, 0, 0, ())
    cache.put("key", "123")
    assert (cache.tokens, len(cache)) == (3, 1)


def test_cache_replaces_and_removes(desk: Desk) -> None:
    """
    A key holds one value; removing what is not held is no error.
    """
    cache = desk.cache()
    cache.put(("a", 1), "12345")
    cache.put(("a", 1), "123")
    assert (cache.tokens, len(cache), cache.items[0].key) == (3, 1, "('a', 1)")

    cache.remove(("a", 1))
    cache.remove("unknown")
    cache.put("b", "1")
    cache.clear()
    assert (cache.tokens, len(cache)) == (0, 0)


def test_cache_recount_counts_again(desk: Desk) -> None:
    """
    A recount counts values that changed in place, and evicts what no longer fits.
    """
    cache = desk.cache(limit_tokens=20)
    value = {"content": "123"}
    cache.put("grown", value)
    cache.put("same", "12345")
    value["content"] = "1234567"
    cache._recount()

    assert (cache.tokens, sorted(item.tokens for item in cache.items)) == (12, [5, 7])
    value["content"] = "1" * 21
    cache._recount()
    assert (cache.tokens, list(cache)) == (5, ["same"])


@pytest.mark.parametrize("ttl_s", [0, -1, float("nan")])
def test_cache_refuses_a_life_that_is_none(ttl_s: float, desk: Desk) -> None:
    """
    A time to live that is not above 0 is refused.
    """
    with pytest.raises(ConfigurationError, match="ttl_s must be a number of seconds above 0"):
        desk.cache().put("key", "value", ttl_s=ttl_s)


# --- agent states -------------------------------------------------------------------------------


def test_agent_is_made_once(desk: Desk) -> None:
    """
    The same name is the same state; agents are listed in the order they came.
    """
    agents = desk.agents()
    planner = agents.agent("planner")
    agents.agent("writer")

    assert agents.agent("planner") is agents["planner"] is planner
    assert [agent.name for agent in agents] == ["planner", "writer"]
    assert "planner" in agents
    assert "reader" not in agents


def test_state_changed_in_place_is_measured_again(desk: Desk) -> None:
    """
    A state that changed in place counts as it is now; one that did not is not counted again.
    """
    agents = desk.agents()
    state = agents.agent("planner").state = {"content": "1"}
    assert agents.tokens == 1
    state["content"] = "12345"
    assert agents.tokens == 5
    counted = len(desk.counted)

    assert (agents.tokens, agents.items[0].tokens, len(desk.counted)) == (5, 5, counted)
    assert agents.items[0].content is state


@pytest.mark.parametrize("size", [10, 10_000])
def test_state_changed_back_and_forth(size: int, desk: Desk) -> None:
    """
    Small and large states are told apart by content, not by size or identity.
    """
    agents = desk.agents()
    agent = agents.agent("planner")
    agent.state = "a" * size
    assert agents.tokens == size
    agent.state = ["b"] * size
    assert agents.tokens == len(str(["b"] * size))
    agent.state = "c" * size

    assert (agents.tokens, desk.tally.tokens) == (size, size)


def test_agent_forgotten(desk: Desk) -> None:
    """
    A removed agent's state leaves the totals; an unknown name is a KeyError that says who is.
    """
    agents = desk.agents()
    agents.agent("planner").state = "12345"
    assert agents.tokens == 5
    assert agents.remove("planner").state == "12345"

    assert (agents.tokens, len(agents)) == (0, 0)
    with pytest.raises(KeyError, match="no agent 'planner'; the agents are: none yet"):
        agents["planner"]


@pytest.mark.parametrize("name", ["", None, 7])
def test_agents_name_is_text(name: Any, desk: Desk) -> None:
    """
    An agent without a name is refused.
    """
    with pytest.raises(ConfigurationError, match="an agent's name must be text"):
        desk.agents().agent(name)


# --- history ------------------------------------------------------------------------------------


def test_history_gives_back_the_callers_objects(desk: Desk) -> None:
    """
    Messages come out as the very objects that went in, and are counted once each.
    """
    messages = [user("one"), user("two")]
    history = desk.history()
    history.append(messages[0])
    history.extend(messages[1:])

    assert [a is b for a, b in zip(history, messages, strict=True)] == [True, True]
    assert history[0] is messages[0]
    assert history[-1] is history.messages()[1] is messages[1]
    assert (history.tokens, len(history), len(desk.counted)) == (6, 2, 2)
    assert [item.kind for item in history.items] == ["user", "user"]


def test_view_is_a_new_list(desk: Desk) -> None:
    """
    Changing the list that was given out changes nothing in the history.
    """
    history = desk.history("one")
    history.messages().clear()

    assert said(history) == ["one"]


def test_message_replaced(desk: Desk) -> None:
    """
    Replacing puts a message in another's place, and the totals follow.
    """
    history = desk.history("one", "two", "three")
    history.replace(-1, user("3"))
    history.replace(0, user("first"))

    assert said(history) == ["first", "two", "3"]
    assert (history.tokens, len(history)) == (9, 3)


def test_message_popped(desk: Desk) -> None:
    """
    Popping takes out the last message or the one at an index, and gives it back.
    """
    history = desk.history("one", "two", "three")

    assert (history.pop()["content"], history.pop(0)["content"]) == ("three", "one")
    assert (said(history), history.tokens, len(history)) == (["two"], 3, 1)
    history.clear()
    assert (said(history), history.tokens, len(history)) == ([], 0, 0)


@pytest.mark.parametrize(
    "act", [lambda h: h.pop(5), lambda h: h[5], lambda h: h.replace(5, user("5"))]
)
def test_message_that_is_not_there(act: Callable[[History], Any], desk: Desk) -> None:
    """
    An index outside the history is an IndexError that says how many there are.
    """
    history = desk.history("one")

    with pytest.raises(IndexError, match="no message 5 in a history of 1"):
        act(history)
    assert (said(history), history.tokens) == (["one"], 3)


def test_none_is_no_message(desk: Desk) -> None:
    """
    None is refused, and what came with it is not half taken in.
    """
    history = desk.history()

    with pytest.raises(ConfigurationError, match="got None"):
        history.extend([user("one"), None])
    assert (len(history), history.tokens) == (0, 0)


def test_sync_counts_only_what_is_new(desk: Desk) -> None:
    """
    A list that is sent again whole is adopted: equal messages stay, and only the rest is counted.
    """
    history = desk.history("one", "two")
    kept = history.items
    desk.counted.clear()
    history.sync([user("one"), user("two"), user("three")])

    assert history.items[:2] == kept
    assert desk.counted == [user("three")]
    assert (said(history), history.tokens) == (["one", "two", "three"], 11)


def test_sync_drops_what_diverges(desk: Desk) -> None:
    """
    After the first difference the old rest goes and the list's own comes in.
    """
    history = desk.history("one", "two", "three")
    history.sync([user("one"), user("2")])
    assert (said(history), history.tokens) == (["one", "2"], 4)

    history.sync([])
    assert (said(history), history.tokens, len(history)) == ([], 0, 0)


def test_sync_follows_a_replaced_message(desk: Desk) -> None:
    """
    What the caller replaced is what the next list is compared with.
    """
    history = desk.history("one", "two")
    history.replace(1, user("2"))
    item = history.items[1]
    history.sync([user("one"), user("2"), user("three")])

    assert history.items[1] is item
    assert said(history) == ["one", "2", "three"]


def test_sync_survives_messages_that_cannot_be_compared(desk: Desk) -> None:
    """
    Messages whose comparison raises, or has no truth, are the same only if they are one object.
    """

    class Touchy:
        def __eq__(self, other: object) -> bool:
            raise ValueError("the truth value of an array is ambiguous")

        __hash__ = None  # type: ignore[assignment]

    one, other = Touchy(), Touchy()
    history = desk.history()
    history.sync([one])
    item = history.items[0]
    history.sync([one])
    assert history.items[0] is item

    history.sync([other])
    assert history.items[0] is not item
