"""Reads the content of a message, of any provider's form, into parts.

Known blocks: OpenAI chat content parts and Responses items, Anthropic blocks, Google parts,
Bedrock Converse blocks, and frameworks' objects with attributes of those names. Sources: the
providers' API references.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any, Literal, NamedTuple

from .compact import Binary, compact_json
from .words import (
    ARGUMENTS,
    BARE_CALLS,
    BARE_MEDIA,
    BARE_RESULTS,
    CALL_TYPES,
    IDS,
    MEDIA_TYPES,
    NAMES,
    OUTPUTS,
    PAYLOADS,
    RESULT_TYPES,
    THINKING_TYPES,
    THOUGHTS,
    UNCOUNTED,
)

Path = tuple["str | int", ...]
PartKind = Literal["text", "json", "call", "echo", "answer", "thinking", "fixed", "binary"]


class Part(NamedTuple):
    """One piece of a message.

    Args:
        kind: ``text`` and ``json`` may be rewritten; ``call`` is a tool call; ``echo`` the same
            call told a second time (content block and ``tool_calls``), not to be counted again;
            ``answer`` says that a call is answered; ``thinking`` must stay as it is; ``fixed``
            is counted and stays as it is; ``binary`` is a :class:`Binary`.
        value: Its text; of a call its arguments as sent (text or a JSON-like value).
        path: Keys and indices that lead from the message to the value.
        id: Of a call or an answer; empty where the message leaves nothing to pair it by.
        name: Of a function or a tool.
        inner: It is inside a tool's result.
    """

    kind: PartKind
    value: Any = ""
    path: Path = ()
    id: str = ""
    name: str = ""
    inner: bool = False


def field(holder: Any, key: str) -> Any:
    """What a mapping or an object holds under a name; None for nothing. Never raises."""
    try:
        if type(holder) is dict or isinstance(holder, Mapping):  # the first is ten times faster
            return holder.get(key)
        return getattr(holder, key, None)
    except Exception:
        return None


def word(value: object) -> str:
    """A plain string from a string, an enum of strings or a number; else an empty one."""
    if type(value) is str:
        return value
    if isinstance(value, str):
        return str.__str__(value)  # an enum's own str() is its qualified name
    if isinstance(value, Enum):
        return word(value.value)
    return str(value) if type(value) is int else ""


def type_of(holder: Any) -> str:
    """The word a block, an item or a message object calls its form by; empty for none."""
    for key in ("type", "part_kind", "block_type"):
        if name := word(field(holder, key)):
            return name
    return ""


def safely(source: Iterator[Part]) -> Iterator[Part]:
    """What can be read before the source fails: a best guess is better than none."""
    try:
        yield from source
    except Exception:
        return


def first(holder: Any, keys: Iterable[str]) -> tuple[str, Any]:
    for key in keys:
        value = field(holder, key)
        if value is not None:
            return key, value
    return "", None


def content_parts(value: Any, path: Path, inner: bool, seen: tuple[int, ...]) -> Iterator[Part]:
    """Parts of a content: text, a list of blocks, or a single one. `seen` stops at cycles."""
    if value is None or id(value) in seen:
        return
    if isinstance(value, str):
        yield Part("text", value, path, inner=inner)
    elif isinstance(value, (list, tuple)):
        seen = (*seen, id(value))
        for index, block in enumerate(value):
            yield from safely(_element(block, (*path, index), inner, seen))
    else:
        yield from _element(value, path, inner, seen)


def _element(value: Any, path: Path, inner: bool, seen: tuple[int, ...]) -> Iterator[Part]:
    if value is None or isinstance(value, (str, list, tuple)):
        yield from content_parts(value, path, inner, seen)
    elif isinstance(value, (bytes, bytearray, memoryview)):
        yield Part("binary", Binary("binary", memoryview(value).nbytes), path, inner=inner)
    elif isinstance(value, (bool, int, float)):
        yield Part("fixed", compact_json(value).text, path, inner=inner)
    elif id(value) not in seen:
        yield from block_parts(value, path, inner, (*seen, id(value)))


def block_parts(block: Any, path: Path, inner: bool, seen: tuple[int, ...]) -> Iterator[Part]:
    kind = type_of(block) or _media_kind(block)
    if field(block, "thought_signature") or field(block, "thoughtSignature"):
        yield Part("thinking", "", path)
    if kind in CALL_TYPES:
        yield call_part(block, path)
    elif kind in RESULT_TYPES or (kind == "retry-prompt" and field(block, "tool_name")):
        yield from _result(block, path, seen)
    elif kind in THINKING_TYPES or field(block, "thought") is True:
        yield from _thinking(block, path)
    elif kind in MEDIA_TYPES:
        yield from _media(block, MEDIA_TYPES[kind], path, inner, seen)
    elif isinstance(field(block, "text"), str):
        yield Part("text", field(block, "text"), (*path, "text"), inner=inner)
    elif isinstance(field(block, "refusal"), str):
        yield Part("fixed", field(block, "refusal"), inner=inner)
    else:
        yield from _bare(block, path, inner, seen)


def _media_kind(block: Any) -> str:
    """The kind by which pydantic-ai's media name themselves; a mapping may mean anything by it."""
    kind = "" if isinstance(block, Mapping) else word(field(block, "kind"))
    return kind if kind in MEDIA_TYPES else ""


def _bare(block: Any, path: Path, inner: bool, seen: tuple[int, ...]) -> Iterator[Part]:
    """A block that is known by the key it holds (Google, Bedrock), or not known at all."""
    for keys, read in ((BARE_CALLS, "call"), (BARE_RESULTS, "result"), (BARE_MEDIA, "media")):
        key, held = first(block, keys)
        if held is None or isinstance(held, str):
            continue
        if read == "call":
            yield call_part(held, (*path, key))
        elif read == "result":
            yield from _result(held, (*path, key), seen)
        else:
            yield from _media(held, MEDIA_TYPES[key], (*path, key), inner, seen)
        return
    if (held := field(block, "reasoningContent")) is not None:
        yield from _thinking(held, path)
    elif (held := field(block, "json")) is not None and not callable(held):
        yield Part("json", held, (*path, "json"), inner=inner)
    elif (held := field(block, "content")) is not None and type_of(block):
        yield from content_parts(held, (*path, "content"), inner, seen)
    elif isinstance(block, Mapping) and not type_of(block):
        yield Part("json", block, path, inner=inner)
    else:
        yield from _unknown(block, inner)


def _unknown(block: Any, inner: bool) -> Iterator[Part]:
    """A typed block of a form not known here: all it says, but no ids, states or payloads."""
    said: Any = block
    if isinstance(block, Mapping):
        said = {key: value for key, value in block.items() if key not in UNCOUNTED}
    elif held := getattr(block, "__dict__", None):
        # A field that was left at None is not sent.
        said = {k: v for k, v in held.items() if v is not None and k not in UNCOUNTED}
    text, binaries, _ = compact_json(said)
    if said:
        yield Part("fixed", text, inner=inner)
    for binary in binaries:
        yield Part("binary", binary, inner=inner)


def call_part(call: Any, path: Path) -> Part:
    key, held = first(call, ("function", "custom"))
    holder, path = (held, (*path, key)) if key and not isinstance(held, str) else (call, path)
    name = word(first(holder, NAMES)[1])
    argument, value = first(holder, ARGUMENTS)
    identity = word(first(call, IDS)[1])
    return Part("call", value, (*path, argument) if argument else (), identity or name, name)


def _result(block: Any, path: Path, seen: tuple[int, ...]) -> Iterator[Part]:
    name = word(field(block, "name"))
    identity = word(first(block, IDS)[1])
    yield Part("answer", id=identity or word(first(block, NAMES)[1]), name=name)
    key, value = first(block, OUTPUTS)
    if key == "response":  # Google: a JSON object whatever its keys are, and media beside it
        yield Part("json", value, (*path, key), inner=True)
        yield from content_parts(field(block, "parts"), (*path, "parts"), True, seen)
    else:
        yield from content_parts(value, (*path, key), True, seen)


def _thinking(block: Any, path: Path) -> Iterator[Part]:
    yield Part("thinking", "", path)  # a redacted thought has no text, and is signed all the same
    for key in THOUGHTS:
        value = field(block, key)
        for held in value if isinstance(value, (list, tuple)) else (value,):
            text = held if isinstance(held, str) else field(held, "text")
            if isinstance(text, str) and text:
                yield Part("thinking", text, path)


def _media(block: Any, kind: str, path: Path, inner: bool, seen: tuple[int, ...]) -> Iterator[Part]:
    for key in ("title", "context"):
        if isinstance(field(block, key), str):
            yield Part("fixed", field(block, key), inner=inner)
    source = field(block, "source")
    if field(source, "type") == "text" and isinstance(field(source, "data"), str):
        yield Part("text", source["data"], (*path, "source", "data"), inner=inner)
    elif field(source, "type") == "content":
        yield from content_parts(
            field(source, "content"), (*path, "source", "content"), inner, seen
        )
    elif isinstance(field(source, "text"), str):
        yield Part("text", field(source, "text"), (*path, "source", "text"), inner=inner)
    else:
        yield Part("binary", Binary(_medium(block, kind), _size_bytes(block)), path, inner=inner)


def _medium(block: Any, kind: str) -> str:
    for holder in (block, field(block, "source"), field(block, "file")):
        mime = word(first(holder, ("mime_type", "media_type", "mimeType"))[1]).partition("/")[0]
        if mime in ("image", "audio", "video"):
            return mime
    return kind if kind != "binary" else "document"


def _size_bytes(holder: Any, depth: int = 0) -> int:
    """Bytes of the payload found in a media block; 0 for a link or a file's id."""
    for key in PAYLOADS:
        value = field(holder, key)
        if isinstance(value, (bytes, bytearray)):
            return len(value)
        if isinstance(value, str) and _is_payload(key, value):
            return (len(value) - value.find(",", 0, 200) - 1) * 3 // 4
        nested = value is not None and not isinstance(value, str) and depth < 3
        if nested and (size := _size_bytes(value, depth + 1)):
            return size
    return 0


def _is_payload(key: str, text: str) -> bool:
    return text.startswith("data:") or ("url" not in key and not text.startswith("http"))
