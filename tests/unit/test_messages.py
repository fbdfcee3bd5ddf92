"""Messages of every provider's form are read, and rewritten, by what they mean."""

from __future__ import annotations

import copy
import dataclasses
import enum
from types import SimpleNamespace
from typing import Any

import pytest

from memtrace.messages import Binary, Call, facts, is_message, rewrite, rewrite_arguments, texts

CHAT_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "read", "arguments": '{"p": "é"}'}}
    ],
}
CHAT_RESULT: dict[str, Any] = {"role": "tool", "tool_call_id": "c1", "content": "42 lines"}
ITEM_CALL: dict[str, Any] = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "c1",
    "name": "read",
    "arguments": '{"p": "é"}',
}
ITEM_RESULT: dict[str, Any] = {
    "type": "function_call_output",
    "call_id": "c1",
    "output": "42 lines",
}
BLOCK_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": [
        {"type": "thinking", "thinking": "Look first.", "signature": "sig" * 99},
        {"type": "text", "text": "I read it.", "cache_control": {"type": "ephemeral"}},
        {"type": "tool_use", "id": "c1", "name": "read", "input": {"p": "é"}},
    ],
}
BLOCK_RESULT: dict[str, Any] = {
    "role": "user",
    "content": [
        {"type": "tool_result", "tool_use_id": "c1", "content": [{"type": "text", "text": "42"}]}
    ],
}
GOOGLE_CALL: dict[str, Any] = {
    "role": "model",
    "parts": [{"function_call": {"name": "read", "args": {"p": "é"}}}],
}
GOOGLE_RESULT: dict[str, Any] = {
    "role": "user",
    "parts": [{"function_response": {"name": "read", "response": {"result": "42"}}}],
}
BEDROCK_CALL: dict[str, Any] = {
    "role": "assistant",
    "content": [{"toolUse": {"toolUseId": "c1", "name": "read", "input": {"p": "é"}}}],
}
BEDROCK_RESULT: dict[str, Any] = {
    "role": "user",
    "content": [{"toolResult": {"toolUseId": "c1", "content": [{"text": "42"}]}}],
}
REASONING: dict[str, Any] = {
    "type": "reasoning",
    "summary": [{"type": "summary_text", "text": "Thought."}],
    "encrypted_content": "x" * 999,
}


@dataclasses.dataclass(frozen=True)
class ToolMessage:
    """As frameworks have them: a type in place of a role."""

    content: Any
    tool_call_id: str
    type: str = "tool"


class ModelMessage(SimpleNamespace):
    """As pydantic models are: changed through `model_copy`."""

    def model_copy(self, update: dict[str, Any]) -> ModelMessage:
        return ModelMessage(**{**vars(self), **update})


class RoleWord(str, enum.Enum):
    ASSISTANT = "assistant"


FORMS = [
    CHAT_CALL,
    CHAT_RESULT,
    ITEM_CALL,
    ITEM_RESULT,
    BLOCK_CALL,
    BLOCK_RESULT,
    GOOGLE_CALL,
    GOOGLE_RESULT,
    BEDROCK_CALL,
    BEDROCK_RESULT,
    REASONING,
    ToolMessage("42", "c1"),
    ModelMessage(type="ai", content="", tool_calls=[{"name": "read", "args": {}, "id": "c1"}]),
]


@pytest.mark.parametrize("message", FORMS, ids=lambda m: str(m)[:40])
def test_every_form_is_a_message(message: Any) -> None:
    """
    Each provider's messages and items, and frameworks' objects, are known as messages.
    """
    assert is_message(message)


@pytest.mark.parametrize(
    "value", [None, "text", 5, [], {}, {"role": "user"}, {"type": "text", "text": "x"}, object()]
)
def test_other_values_are_no_messages(value: object) -> None:
    """
    Text, plain data and single content blocks are no messages.
    """
    assert not is_message(value)


@pytest.mark.parametrize("message", [CHAT_CALL, ITEM_CALL, BLOCK_CALL, BEDROCK_CALL])
def test_calls_are_read_from_every_form(message: Any) -> None:
    """
    A tool call is an assistant's, with the id that its answer names, its name and arguments.
    """
    read = facts(message)
    assert (read.role, read.kind, read.results) == ("assistant", "assistant", ())
    [call] = read.calls
    assert (call.id, call.name) == ("c1", "read")
    assert call.arguments_text.replace(" ", "") == '{"p":"é"}'


@pytest.mark.parametrize(
    "message", [CHAT_RESULT, ITEM_RESULT, BLOCK_RESULT, BEDROCK_RESULT, ToolMessage("42", "c1")]
)
def test_results_are_read_from_every_form(message: Any) -> None:
    """
    A tool result is of kind tool, even where the form sends it as the user's, and names its call.
    """
    read = facts(message)
    assert (read.kind, read.calls, read.results) == ("tool", (), ("c1",))


def test_calls_without_ids_pair_by_name() -> None:
    """
    Google's and the legacy function calls carry no ids: call and result pair by their name.
    """
    assert facts(GOOGLE_CALL).calls == (Call("read", "read", '{"p":"é"}'),)
    assert facts(GOOGLE_RESULT).results == ("read",)
    assert facts({"role": "function", "name": "read", "content": "42"}).results == ("read",)
    legacy = {"role": "assistant", "content": None, "function_call": {"name": "read"}}
    assert facts(legacy).calls == (Call("read", "read", ""),)


def test_text_beside_a_result_makes_it_the_users() -> None:
    """
    An Anthropic user's message is of kind tool only if it holds nothing but tool results.
    """
    spoken = {**BLOCK_RESULT, "content": [*BLOCK_RESULT["content"], {"type": "text", "text": "?"}]}
    assert facts(spoken).kind == "user"
    assert facts(spoken).results == ("c1",)


def test_thinking_is_signed() -> None:
    """
    Thinking, redacted thinking and reasoning items mark a message as one to be kept whole.
    """
    redacted = {"role": "assistant", "content": [{"type": "redacted_thinking", "data": "x"}]}
    assert facts(BLOCK_CALL).signed
    assert facts(REASONING).signed
    assert facts(redacted).signed
    assert not facts(CHAT_CALL).signed


def test_roles_have_one_spelling() -> None:
    """
    Developer is system, human user, ai and model assistant; an enum's member is its value.
    """
    assert facts({"role": "developer", "content": "x"}).role == "system"
    assert facts(SimpleNamespace(type="human", content="x")).role == "user"
    assert facts(SimpleNamespace(type="ai", content="x")).role == "assistant"
    assert facts({"role": "model", "parts": [{"text": "x"}]}).role == "assistant"
    assert facts(SimpleNamespace(role=RoleWord.ASSISTANT, content="x")).role == "assistant"


def test_all_that_is_sent_is_counted_and_nothing_else() -> None:
    """
    Content, thinking, names and arguments are texts; ids, signatures and cache keys are not.
    """
    assert list(texts(BLOCK_CALL)) == ["Look first.", "I read it.", "read", '{"p":"é"}']
    assert list(texts(CHAT_CALL)) == ["read", '{"p": "é"}']
    assert list(texts(REASONING)) == ["Thought."]
    assert list(texts({"role": "user", "name": "Ann", "content": "hi"})) == ["Ann", "hi"]
    assert list(texts({"role": "assistant", "content": None, "refusal": "No."})) == ["No."]


@pytest.mark.parametrize(
    ("block", "kind", "size"),
    [
        (
            {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 400}},
            "image",
            300,
        ),
        ({"type": "image_url", "image_url": {"url": "https://example.org/a.png"}}, "image", 0),
        ({"type": "image", "source": {"type": "base64", "data": "A" * 400}}, "image", 300),
        ({"type": "document", "source": {"type": "base64", "data": "A" * 400}}, "document", 300),
        ({"type": "input_audio", "input_audio": {"data": "A" * 400}}, "audio", 300),
        ({"inline_data": {"mime_type": "video/mp4", "data": bytes(300)}}, "video", 300),
        ({"image": {"format": "png", "source": {"bytes": bytes(300)}}}, "image", 300),
    ],
)
def test_binary_is_marked_never_spelled(block: Any, kind: str, size: int) -> None:
    """
    Images, audio, video and documents come out as markers with their size, not as text.
    """
    assert list(texts({"role": "user", "content": [block]})) == [Binary(kind, size)]


def test_a_call_told_twice_is_counted_once() -> None:
    """
    Frameworks repeat a content block's call beside the content: it is one call.
    """
    twice = ModelMessage(
        type="ai",
        content=[{"type": "tool_use", "id": "c1", "name": "read", "input": {"p": "x"}}],
        tool_calls=[{"name": "read", "args": {"p": "x"}, "id": "c1"}],
    )
    assert len(facts(twice).calls) == 1
    assert list(texts(twice)) == ["read", '{"p":"x"}']
    changed = rewrite_arguments(twice, str.upper)
    assert changed.content[0]["input"] == changed.tool_calls[0]["args"] == {"p": "X"}


@pytest.mark.parametrize("message", [BLOCK_RESULT, GOOGLE_RESULT, BEDROCK_RESULT, ITEM_RESULT])
def test_rewrite_reaches_tool_results(message: Any) -> None:
    """
    A tool result's text is replaced in a copy of the same form; the original stays as it was.
    """
    before = copy.deepcopy(message)
    changed = rewrite(message, lambda text: "cut")
    assert message == before
    assert "cut" in list(texts(changed)) or '{"result":"cut"}' in list(texts(changed))
    assert facts(changed) == facts(message)


def test_rewrite_leaves_calls_and_thinking() -> None:
    """
    Prose is rewritten; thinking, names, ids and arguments stay the caller's own objects.
    """
    changed = rewrite(BLOCK_CALL, lambda text: "cut")
    thinking, prose, call = changed["content"]
    assert thinking is BLOCK_CALL["content"][0]
    assert prose == {**BLOCK_CALL["content"][1], "text": "cut"}
    assert call is BLOCK_CALL["content"][2]


@pytest.mark.parametrize("message", FORMS, ids=lambda m: str(m)[:40])
def test_nothing_changed_is_the_same_object(message: Any) -> None:
    """
    A rewrite that changes no text gives back the very object.
    """
    assert rewrite(message, lambda text: text) is message
    assert rewrite_arguments(message, lambda text: text) is message


@pytest.mark.parametrize(
    "message",
    [ToolMessage("long", "c1"), ModelMessage(role="tool", content="long", tool_call_id="c1")],
)
def test_rewrite_keeps_an_objects_type(message: Any) -> None:
    """
    A framework's object comes back as one of its type, and the original keeps its content.
    """
    changed = rewrite(message, lambda text: "cut")
    assert type(changed) is type(message)
    assert (changed.content, message.content) == ("cut", "long")
    assert changed.tool_call_id == "c1"


def test_an_object_that_cannot_be_changed_stays() -> None:
    """
    Where a content can only be read, the message itself comes back, not a broken copy.
    """

    class Fixed:
        role = "tool"
        tool_call_id = "c1"

        @property
        def content(self) -> str:
            return "long"

    message = Fixed()
    assert rewrite(message, lambda text: "cut") is message


def test_rewritten_arguments_stay_valid() -> None:
    """
    Arguments sent as JSON text stay JSON of the same structure, and no-JSON stays as it is.
    """
    call = {**ITEM_CALL, "arguments": '{"path": "a", "lines": [1, "b"], "all": null}'}
    assert (
        rewrite_arguments(call, str.upper)["arguments"] == '{"path":"A","lines":[1,"B"],"all":null}'
    )
    assert rewrite_arguments(BEDROCK_CALL, str.upper)["content"][0]["toolUse"]["input"] == {
        "p": "É"
    }
    broken = {**ITEM_CALL, "arguments": '{"path": "a'}
    assert rewrite_arguments(broken, str.upper) is broken


class Hostile:
    """Raises at whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __eq__(self, other: object) -> bool:
        raise RuntimeError("eq")

    def __hash__(self) -> int:
        return hash("role")


def _self_containing() -> dict[str, Any]:
    content: list[Any] = [{"type": "tool_result", "tool_use_id": "c1"}]
    content[0]["content"] = content
    content.append(content)
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    "message",
    [
        Hostile(),
        {Hostile(): 1},
        _self_containing(),
        {"role": 5, "content": float("nan")},
        {"role": "user", "content": b"\x00" * 9},
        {"role": "user", "content": [None, 5, [], {"type": []}, Hostile(), {"text": 3}]},
        {"role": "assistant", "tool_calls": [None, 5, {}, {"function": "x"}, Hostile()]},
        {"role": "assistant", "tool_calls": 5, "content": {"a": {1, 2}}},
        {"type": "function_call", "arguments": {"a": Hostile()}},
    ],
    ids=range(9),
)
def test_odd_input_never_raises(message: Any) -> None:
    """
    Whatever is handed in, every function gives its best guess.
    """
    assert facts(message).role in ("system", "user", "assistant", "tool")
    assert isinstance(is_message(message), bool)
    assert all(isinstance(text, (str, Binary)) for text in texts(message))
    rewrite(message, str.upper)
    rewrite_arguments(message, str.upper)
