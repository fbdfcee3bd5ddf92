"""Calls, their results and what thought of them are found, and move together."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from memtrace.actions.pairs import Unit, faults, units
from memtrace.messages import facts

Message = dict[str, Any]


def user(text: str = "go on") -> Message:
    return {"role": "user", "content": text}


def says(text: str = "done") -> Message:
    return {"role": "assistant", "content": text}


def asks(*ids: str) -> Message:
    calls = [{"id": i, "function": {"name": "read", "arguments": "{}"}} for i in ids]
    return {"role": "assistant", "content": None, "tool_calls": calls}


def answers(identity: str, text: str = "a.py") -> Message:
    return {"role": "tool", "tool_call_id": identity, "content": text}


def item_call(identity: str) -> Message:
    return {"type": "function_call", "call_id": identity, "name": "read", "arguments": "{}"}


def item_output(identity: str) -> Message:
    return {"type": "function_call_output", "call_id": identity, "output": "a.py"}


def reasoning() -> Message:
    return {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}


def block_calls(*ids: str, thinking: bool = False) -> Message:
    blocks: list[Message] = [
        {"type": "tool_use", "id": i, "name": "read", "input": {}} for i in ids
    ]
    if thinking:
        blocks.insert(0, {"type": "thinking", "thinking": "hm", "signature": "sig"})
    return {"role": "assistant", "content": blocks}


def block_results(*ids: str, text: str | None = None) -> Message:
    blocks: list[Message] = [
        {"type": "tool_result", "tool_use_id": i, "content": "a.py"} for i in ids
    ]
    if text is not None:
        blocks.append({"type": "text", "text": text})
    return {"role": "user", "content": blocks}


def read(*messages: Message) -> list[Unit]:
    return units([facts(message) for message in messages])


def places(*messages: Message) -> list[list[int]]:
    return [unit.places for unit in read(*messages)]


def wrong(*messages: Message) -> list[str]:
    return faults([facts(message) for message in messages])


# --- OpenAI chat ----------------------------------------------------------------------------------


def test_a_plain_message_is_a_unit_of_its_own() -> None:
    """
    What neither calls nor answers belongs to nothing else.
    """
    assert places(user(), says(), user()) == [[0], [1], [2]]
    assert not any(unit.has_calls or unit.answered for unit in read(user(), says()))


def test_a_call_and_its_result_are_one_unit() -> None:
    """
    A chat call and the tool message that answers it are kept or dropped together.
    """
    found = read(user(), asks("c1"), answers("c1"), says())

    assert [unit.places for unit in found] == [[0], [1, 2], [3]]
    assert found[1].answered


def test_parallel_calls_are_one_unit_with_all_their_results() -> None:
    """
    One message that asks for three things is answered by the three messages after it.
    """
    conversation = asks("c1", "c2", "c3"), answers("c2"), answers("c1"), answers("c3")

    assert places(*conversation) == [[0, 1, 2, 3]]
    assert read(*conversation)[0].answered


def test_a_call_that_is_not_answered_is_an_open_unit() -> None:
    """
    A unit knows which of its calls nothing answers yet, in the order they were made.
    """
    (unit,) = read(asks("c1", "c2", "c3"), answers("c2"))

    assert unit.open_calls == ["c1", "c3"]
    assert not unit.answered


def test_a_result_that_nothing_asked_for_stands_alone() -> None:
    """
    An orphaned result joins no unit, so that it can go by itself.
    """
    assert places(asks("c1"), answers("c1"), answers("c9")) == [[0, 1], [2]]


def test_a_reused_id_pairs_with_the_call_before_it() -> None:
    """
    Where an id comes again, each result belongs to the call made right before it.
    """
    conversation = asks("c1"), answers("c1"), user(), asks("c1"), answers("c1")

    assert places(*conversation) == [[0, 1], [2], [3, 4]]


def test_a_reused_id_never_answers_an_older_open_call() -> None:
    """
    A call that was left unanswered stays so when its id is used again and answered.
    """
    first, _, second = read(asks("c1"), user(), asks("c1"), answers("c1"))

    assert (first.places, first.open_calls) == ([0], ["c1"])
    assert (second.places, second.answered) == ([2, 3], True)


def test_results_in_between_other_messages_find_their_calls() -> None:
    """
    A late result joins its own call, and what was said meanwhile stays apart.
    """
    conversation = asks("c1"), says("waiting"), answers("c1"), says()

    assert places(*conversation) == [[0, 2], [1], [3]]


# --- OpenAI Responses -----------------------------------------------------------------------------


def test_reasoning_goes_with_the_call_it_led_to() -> None:
    """
    A Responses reasoning item, the call after it and the output are one unit.
    """
    assert places(user(), reasoning(), item_call("c1"), item_output("c1")) == [[0], [1, 2, 3]]


def test_reasoning_goes_with_the_answer_it_led_to() -> None:
    """
    Reasoning before a plain assistant message moves with that message.
    """
    assert places(user(), reasoning(), says()) == [[0], [1, 2]]


def test_reasoning_that_led_to_nothing_stands_alone() -> None:
    """
    Reasoning followed by a user's turn, or by nothing, is a unit without calls.
    """
    assert places(reasoning(), user()) == [[0], [1]]
    assert places(user(), reasoning()) == [[0], [1]]


def test_parallel_calls_as_items_of_their_own_are_one_unit() -> None:
    """
    Calls of one turn that are sent item by item move together, with their outputs.
    """
    conversation = (
        reasoning(),
        item_call("c1"),
        item_call("c2"),
        item_output("c1"),
        item_output("c2"),
        says(),
    )

    assert places(*conversation) == [[0, 1, 2, 3, 4], [5]]


def test_calls_of_a_next_turn_are_a_unit_of_their_own() -> None:
    """
    A call made after the results of the one before is another unit.
    """
    conversation = item_call("c1"), item_output("c1"), item_call("c2"), item_output("c2")

    assert places(*conversation) == [[0, 1], [2, 3]]


def test_reasoning_between_parallel_calls_stays_between_them() -> None:
    """
    Reasoning that stands between two calls of one turn belongs to the same unit.
    """
    conversation = item_call("c1"), reasoning(), item_call("c2"), item_output("c1")

    assert places(*conversation) == [[0, 1, 2, 3]]
    assert read(*conversation)[0].open_calls == ["c2"]


# --- Anthropic ------------------------------------------------------------------------------------


def test_blocks_of_one_message_are_one_unit_with_the_message_that_answers() -> None:
    """
    Two tool uses in one message and the message with both results are one unit.
    """
    conversation = user(), block_calls("t1", "t2", thinking=True), block_results("t1", "t2")

    assert places(*conversation) == [[0], [1, 2]]
    assert read(*conversation)[1].answered


def test_a_message_with_results_and_words_moves_with_the_calls() -> None:
    """
    A user's message that answers a call and says something more is part of the call's unit.
    """
    conversation = block_calls("t1"), block_results("t1", text="and be quick"), says()

    assert places(*conversation) == [[0, 1], [2]]


def test_one_message_that_answers_two_units_makes_them_one() -> None:
    """
    Calls of two messages that one message answers are kept or dropped together.
    """
    conversation = block_calls("t1"), says(), block_calls("t2"), block_results("t1", "t2")

    assert places(*conversation) == [[0, 2, 3], [1]]
    assert read(*conversation)[0].answered


def test_thinking_without_a_call_moves_with_what_follows_it() -> None:
    """
    A signed message that calls nothing is kept with the assistant's message after it.
    """
    thought = {"role": "assistant", "content": [{"type": "thinking", "signature": "s"}]}

    assert places(user(), thought, block_calls("t1"), block_results("t1")) == [[0], [1, 2, 3]]


# --- what a provider would refuse -----------------------------------------------------------------


def test_a_valid_conversation_has_no_faults() -> None:
    """
    Answered calls, parallel ones, and calls still open at the end are all as they should be.
    """
    assert wrong(user(), asks("c1", "c2"), answers("c2"), answers("c1"), says(), user()) == []
    assert wrong(user(), reasoning(), item_call("c1"), item_call("c2")) == []
    assert wrong(user(), block_calls("t1"), block_results("t1", text="next")) == []


def test_an_orphaned_result_is_a_fault() -> None:
    """
    A result that nothing asked for is named with its position and its id.
    """
    assert wrong(user(), answers("c9")) == ["message 1 answers 'c9', which nothing asked"]


def test_a_result_answered_twice_is_a_fault() -> None:
    """
    A second result for the same call answers nothing.
    """
    assert wrong(asks("c1"), answers("c1"), answers("c1")) == [
        "message 2 answers 'c1', which nothing asked"
    ]


def test_a_user_turn_before_the_result_is_a_fault() -> None:
    """
    A user's turn between a call and its result is named, with the call that waits.
    """
    assert wrong(asks("c1"), user()) == ["message 1 comes before 'c1' is answered"]


# --- for any conversation -------------------------------------------------------------------------

IDS = st.sampled_from(["c1", "c2", "c3"])
ANY = st.one_of(
    st.builds(user),
    st.builds(says),
    st.builds(reasoning),
    st.builds(asks, IDS),
    st.builds(asks, IDS, IDS),
    st.builds(answers, IDS),
    st.builds(item_call, IDS),
    st.builds(item_output, IDS),
    st.builds(block_calls, IDS, IDS, thinking=st.booleans()),
    st.builds(block_results, IDS, text=st.none() | st.just("more")),
    st.builds(block_results, IDS, IDS),
)
CONVERSATIONS = st.lists(ANY, max_size=30)


@st.composite
def turns(draw: st.DrawFn) -> list[Message]:
    """One turn of a conversation that a provider takes, in one of three forms."""
    ids = draw(st.lists(IDS, min_size=1, max_size=3, unique=True))
    shuffled = draw(st.permutations(ids))
    form = draw(st.sampled_from(["said", "chat", "items", "blocks"]))
    thought = [reasoning()] if draw(st.booleans()) else []
    if form == "said":
        return [user(), *thought, says()]
    if form == "chat":
        return [asks(*ids), *(answers(i) for i in shuffled)]
    if form == "items":
        return [*thought, *(item_call(i) for i in ids), *(item_output(i) for i in shuffled)]
    return [block_calls(*ids, thinking=bool(thought)), block_results(*shuffled)]


VALID = st.lists(turns(), max_size=10).map(lambda held: [m for turn in held for m in turn])


@given(CONVERSATIONS)
def test_every_message_is_in_one_unit(conversation: list[Message]) -> None:
    """
    Units part a conversation: every position is in one, ascending, ordered by their firsts.
    """
    found = places(*conversation)

    assert sorted(place for unit in found for place in unit) == list(range(len(conversation)))
    assert all(unit == sorted(unit) for unit in found)
    assert [unit[0] for unit in found] == sorted(unit[0] for unit in found)


@given(VALID, st.data())
def test_dropping_whole_answered_units_keeps_a_valid_conversation_valid(
    conversation: list[Message], data: st.DataObject
) -> None:
    """
    Whatever units of a conversation without open calls are dropped, it has no faults.
    """
    read_facts = [facts(message) for message in conversation]
    assert faults(read_facts) == []
    closed = units(read_facts)
    assert not any(unit.open_calls for unit in closed)
    chosen = [unit for unit in closed if data.draw(st.booleans())]
    gone = {place for unit in chosen for place in unit.places}

    assert faults([fact for place, fact in enumerate(read_facts) if place not in gone]) == []


@given(CONVERSATIONS)
def test_a_unit_is_answered_only_if_as_many_results_as_calls_are_in_it(
    conversation: list[Message],
) -> None:
    """
    The calls of a unit are answered by its own results, each by one, the open ones by none.
    """
    read_facts = [facts(message) for message in conversation]
    for unit in units(read_facts):
        made = [call.id for place in unit.places for call in read_facts[place].calls]
        given_back = [i for place in unit.places for i in read_facts[place].results]

        assert len(unit.open_calls) <= len(made)
        for identity in set(made):
            open_now = unit.open_calls.count(identity)
            assert made.count(identity) - open_now <= given_back.count(identity)
