"""Secrets are taken out of what is written to disk: the well-known formats, named one by one.

A format is known by the letters that its provider puts around the random part, so that prose,
source code, hashes and ids stay. A secret without such letters needs a redactor of your own.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import fields
from functools import cache
from operator import methodcaller
from typing import Any, NamedTuple

# What whole groups of formats share is asked before any literal: an expression that starts with
# one plain character is found at memchr's speed (2 KB: 1 µs a group, and 1 µs a literal).
_SNAKE = (
    r"_[A-Za-z0-9+/]{16}(?:(?<=(?:gh[pousr]_|npm_|sec_|lsa_|_v1_).{16})"
    r"|(?<=(?:_pat_|live_|test_).{16})|(?<=hf_.{16}))"
)
_KEBAB = (
    r"-[A-Za-z0-9_-]{16}(?:(?<=sk-.{16})|(?<=(?:ox[abeoprs]-|app-).{16})"
    r"|(?<=(?:pypi-|lpat-|CSPX-).{16}))"
)
_DOTTED = r"\.[A-Za-z0-9_-]{22}(?:(?<=SG\..{22})|(?<=hv[sbr]\..{22}))"
_DIGIT = r"(?=[A-Za-z_-]{0,100}[0-9])"  # a key nearly always has one, a word seldom
# Where a word may start though a letter or digit stands before it: after a written-out escape
# (\n, \u0022), a percent-encoded character and a colour code.
_EDGES = r"\\[bfnrt] \\u[0-9A-Fa-f]{4} %[0-9A-Fa-f]{2} \[m [\[;]\dm [\[;]\d\dm".split()


def _word(prefix: str, letters: str = "A-Za-z0-9") -> str:
    # The look-behinds stand after the prefix: sre skips ahead only to a leading literal.
    edges = "".join(f"|(?<={edge}{prefix})" for edge in _EDGES)
    return f"{prefix}(?:(?<![{letters}]{prefix}){edges})"


_GAP = r"""(?:\s|\\{1,4}[nrt]|["',\\]|\+(?=\s))"""  # between a key's lines, in a file or in code
_LINE = r"(?:\\{1,4}[nr]|[\r\n])+[ \t]{0,40}"
_END = r"-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----"
_PEM = (
    r"-----BEGIN (?:[A-Z0-9]{2,10} ){0,2}PRIVATE KEY(?: BLOCK)?-----(?:"
    # Short and whole: nothing but lines of base64 between the two marks.
    rf"(?:{_LINE}[A-Za-z0-9+/=]{{1,76}}){{1,400}}{_LINE}{_END}"
    # Or whole or cut off, known by its first long line.
    rf"|(?:{_LINE}[A-Z][A-Za-z0-9-]{{2,30}}: [^\r\n\\]{{0,200}}){{0,5}}"
    rf"{_GAP}{{1,40}}[A-Za-z0-9+/]{{24,}}={{0,2}}"
    rf"(?:{_GAP}{{1,40}}[A-Za-z0-9+/]{{32,}}={{0,2}}){{0,2000}}"
    rf"(?:{_GAP}{{1,40}}[A-Za-z0-9+/=]{{1,31}})?(?:{_GAP}{{1,40}}=[A-Za-z0-9+/]{{4}})?"
    rf"(?:{_GAP}{{0,40}}{_END})?)"
)
# What stands for a password in a template ({pw} ${pw} $(pw) $PW %s <pw> *** ...), and a port.
_NONE = r"[$#%]?[{(\[<]|\*\*|\.\.\.|%[sdr]@|\$(?:[A-Z_][A-Z0-9_]*|[a-z_]+)@|[0-9]{1,5}[?#;,)\]}|&]"
_URL = rf"(://[^\s:/?#@\[\]{{}}<>\"'`\\^|]*:)(?!{_NONE})[^\s/<>\"'`\\]+(?=@)(?!@sha256:)"
_AWS = (
    r"((?:ecret[_ ]?[Aa]ccess[_ ]?[Kk]ey|ECRET_ACCESS_KEY)[\"'\\]{0,4}\s{0,4}"
    r"(?:\[[^\]\n]{0,30}\])?(?:=>|:=|[=:>])\s{0,4}[\"'\\]{0,4})[A-Za-z0-9/+]{40,}"
)
_TOKEN68 = r"(?=[A-Za-z._~+/-]{0,200}[0-9]|[A-Za-z._~+/]{32})[A-Za-z0-9._~+/-]{16,}={0,2}"
_BASE64 = r"(?=.[a-z+/]{0,100}[A-Z0-9=])[A-Za-z0-9+/]{8,}={0,2}"  # not "Basic authentication"
_HEADER = (
    r"""(%s[\s"'\\,:=\]]{1,12}[bfu]?["'\\]{0,4}(?:"""
    rf"(?:[Bb]earer|BEARER|[Tt]oken)\s{{1,4}}(?={_TOKEN68})|(?:[Bb]asic|BASIC)\s{{1,4}}(?={_BASE64})))"
    r"[A-Za-z0-9._~+/-]+={0,2}"
)


class SecretFormat(NamedTuple):
    """One format of a secret.

    Args:
        name: What stands in its place: ``[redacted: name]``.
        literals: At least one of them is in every secret of the format.
        group: An expression, or one character, that is in every text with such a secret; formats
            share it, and it is asked first. Empty for none.
        source: Where the format is described.
        pattern: Its regular expression, linear in the text. A first group, if any, is kept.
    """

    name: str
    literals: tuple[str, ...]
    group: str
    source: str
    pattern: str


_F = SecretFormat
_SCAN = "GitHub docs, Supported secret scanning patterns"

# fmt: off
SECRET_FORMATS: tuple[SecretFormat, ...] = (
    # What stands in a named place goes first, whole; then what is known by its own letters.
    _F("private key", ("PRIVATE KEY",), "K", "RFC 7468, RFC 1421, RFC 9580 (OpenPGP)", _PEM),
    _F("url password", ("://",), "@", "RFC 3986, 3.2.1 User Information", _URL),
    _F("authorization", ("uthorization",), "z", "RFC 6750, RFC 7617", _HEADER % "uthorization"),
    _F("authorization", ("UTHORIZATION",), "Z", "RFC 3875, 4.1.18", _HEADER % "UTHORIZATION"),
    _F("aws secret access key", ("ecret_access_key",), "", "AWS CLI, Configuration files", _AWS),
    _F("aws secret access key", ("ecretAccessKey", "ecret Access Key", "ECRET_ACCESS_KEY"), "K",
       "AWS STS API Reference, Credentials; AWS CLI, Environment variables", _AWS),
    _F("azure storage key", ("AccountKey=",), "K", "Azure docs, Storage connection strings",
       r"(AccountKey=)[A-Za-z0-9+/]{40,}={0,2}"),
    _F("slack webhook", ("hooks.slack.com",), "", "Slack docs, Incoming webhooks",
       r"(hooks\.slack\.com/(?:services|workflows|triggers)/)[A-Za-z0-9]{8,}/[A-Za-z0-9/]{8,}"),
    _F("json web token", ("eyJ",), "J", "RFC 7519, 3.1 Example JWT", _word("eyJ", "A-Za-z0-9_-")
       + r"[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{6,}(?:\.[A-Za-z0-9_-]*)?"),
    _F("github token", ("ghp_", "gho_", "ghu_", "ghs_", "ghr_", "github_pat_"), _SNAKE,
       "GitHub docs, About authentication to GitHub",
       r"g(?:h[pousr]_[A-Za-z0-9]{36,}|ithub_pat_[A-Za-z0-9]{20,}[A-Za-z0-9_]*)"),
    _F("gitlab token", ("glpat-",), _KEBAB, "GitLab docs, Token overview: token prefixes",
       r"glpat-[A-Za-z0-9_-]{20,}(?:\.[0-9a-z]{2}\.[0-9a-z]{7,})?"),
    _F("slack token", ("xox", "xapp-"), _KEBAB, "Slack docs, Tokens",
       rf"x(?:ox[abeoprs]|oxe\.xox[bp]|app)-{_DIGIT}[A-Za-z0-9-]{{16,}}"),
    _F("stripe key", ("k_live_", "k_test_"), _SNAKE, "Stripe docs, API keys",
       _word("[sr]k_(?:live|test)_") + rf"{_DIGIT}[A-Za-z0-9]{{16,}}"),
    _F("stripe webhook secret", ("whsec_",), _SNAKE, "Stripe docs, Webhooks",
       r"whsec_[A-Za-z0-9+/]{24,}={0,2}"),
    _F("google api key", ("AIza",), "z", _SCAN, _word("AIza") + r"[A-Za-z0-9_-]{35,}"),
    _F("google oauth client secret", ("GOCSPX-",), _KEBAB, _SCAN, r"GOCSPX-[A-Za-z0-9_-]{20,}"),
    _F("anthropic api key", ("sk-ant-",), _KEBAB, _SCAN,
       _word("sk-ant-") + rf"{_DIGIT}[A-Za-z0-9_-]{{20,}}"),
    _F("openai api key", ("sk-",), _KEBAB, _SCAN + "; OpenRouter and DeepSeek follow it",
       _word("sk-") + rf"(?:(?:proj|svcacct|admin|None|or-v1)-{_DIGIT}[A-Za-z0-9_-]{{20,}}"
       r"|(?=[A-Za-z]{0,100}[0-9])[A-Za-z0-9]{20,}[A-Za-z0-9_-]*)"),
    _F("hugging face token", ("hf_",), _SNAKE, _SCAN, _word("hf_") + r"[A-Za-z0-9]{30,}"),
    _F("npm token", ("npm_",), _SNAKE, "GitHub blog, Announcing npm's new access token format",
       _word("npm_") + r"[A-Za-z0-9]{36,}"),
    _F("pypi token", ("pypi-AgE",), _KEBAB, "PyPI help, API tokens", r"pypi-AgE[A-Za-z0-9_-]{32,}"),
    _F("sendgrid api key", ("SG.",), _DOTTED, _SCAN,
       _word(r"SG\.") + r"[A-Za-z0-9_-]{22}\.[A-Za-z0-9_-]{43,}"),
    _F("vault token", ("hvs.", "hvb.", "hvr."), _DOTTED, "Vault docs, Tokens: token prefixes",
       _word(r"hv[sbr]\.") + rf"{_DIGIT}[A-Za-z0-9_-]{{24,}}"),
    _F("digitalocean token", ("_v1_",), _SNAKE, _SCAN, r"do[opr]_v1_[a-f0-9]{64,}"),
    _F("grafana token", ("glsa_",), _SNAKE, _SCAN, r"glsa_[A-Za-z0-9]{32,}(?:_[A-Fa-f0-9]{8})?"),
    # Of a fixed length, and no letter behind it: after those that go on as long as they can.
    _F("telegram bot token", (":AA",), r"A(?=A[A-Za-z0-9_-]{33})", "Telegram Bot API",
       r"(:)(?<=[0-9]{8}:)AA[A-Za-z0-9_-]{33}(?![A-Za-z0-9_-])"),
    _F("aws access key id", ("AKIA", "ASIA"), r"I(?=A[A-Z0-9]{16})", "AWS IAM, IAM identifiers",
       _word("A[KS]IA") + r"[A-Z0-9]{16}(?![A-Za-z0-9])"),
    _F("databricks token", ("dapi",), "", _SCAN,
       _word("dapi") + r"[a-f0-9]{32}(?:-[0-9])?(?![A-Za-z0-9])"),
)
# fmt: on
"""The formats that :func:`redact_secrets` knows, in the order in which they are replaced."""


@cache
def _groups() -> tuple[tuple[Callable[[str], object], list[tuple[str, int]]], ...]:
    # Compiled at the first text, not at import.
    groups: dict[str, list[tuple[str, int]]] = {}
    for number, known in enumerate(SECRET_FORMATS):
        groups.setdefault(known.group, []).extend((word, number) for word in known.literals)
    return tuple(
        (methodcaller("__contains__", group) if len(group) < 2 else re.compile(group).search, words)
        for group, words in groups.items()
    )


@cache
def _replacing(number: int) -> tuple[re.Pattern[str], str]:
    known = SECRET_FORMATS[number]
    pattern = re.compile(known.pattern, re.ASCII | re.DOTALL)
    return pattern, (r"\1" if pattern.groups else "") + f"[redacted: {known.name}]"


def redact_secrets(text: str) -> str:
    """Replace well-known secret formats in a text by ``[redacted: name]``.

    Found are the formats of :data:`SECRET_FORMATS`: as their providers document them, with the
    source beside each. Of a URL, a header or a named setting only the secret goes.

    Args:
        text: Any text, of any length.

    Returns:
        The text without them; the very same object where there are none. Redacting a second time
        changes nothing.

    >>> redact_secrets("pushed with " + "ghp_" + "a1" * 18)
    'pushed with [redacted: github token]'
    >>> redact_secrets("postgres://app:" + "hunter2" + "@db:5432/app")
    'postgres://app:[redacted: url password]@db:5432/app'
    """
    found: set[int] = set()
    for asked, words in _groups():
        if asked(text):
            for word, number in words:
                if word in text:
                    found.add(number)
    # Again until nothing changes: without the one, the other may stand alone for the first time.
    # It ends, for each step takes letters that no replacement gives back.
    while found:
        before = text
        for number in sorted(found):
            pattern, instead = _replacing(number)
            text = pattern.sub(instead, text)
        if text == before:
            return before
    return text


_LEAVES = frozenset((int, float, bool, type(None), bytes))


def _plain(value: Any) -> Any:
    """What to look into: a str, dict, list or tuple; None where there is nothing to look into."""
    kind = type(value)  # not isinstance: an object may answer anything when asked for its class
    if kind in _LEAVES:
        return None
    if issubclass(kind, (str, dict, list, tuple)):
        return value
    with suppress(Exception):  # an object that refuses to be looked into stays as it is
        if issubclass(kind, Mapping):
            return dict(value)
        if hasattr(kind, "__dataclass_fields__"):
            return {field.name: getattr(value, field.name) for field in fields(value)}
        if hasattr(kind, "model_dump"):
            return _plain(value.model_dump())
    return None


def redacted(value: Any, redactor: Callable[[str], str]) -> Any:
    """A JSON-like value with every string in it passed through a redactor.

    Strings are found in dicts, lists, tuples and mappings at any depth, in dataclasses and in
    objects that have a ``model_dump`` (pydantic's). Keys are not touched, nor are other objects.

    Args:
        value: Anything; never modified.
        redactor: What each string is given to, :func:`redact_secrets` for instance.

    Returns:
        The very same object where the redactor changed nothing. Else a copy of only the containers
        on the way to a changed string, as plain dicts, lists and tuples (a dataclass or a model
        becomes a dict); what is shared or leads back to itself does so in the copy.

    >>> message = {"role": "tool", "content": ["ok", "key " + "glpat-" + "a1" * 10]}
    >>> redacted(message, redact_secrets)
    {'role': 'tool', 'content': ['ok', 'key [redacted: gitlab token]']}
    >>> redacted(message["content"][0], redact_secrets) is message["content"][0]
    True
    """
    # A loop over a flat table and not a recursion: depth and cycles are the caller's to choose.
    top = [value]
    seen: dict[int, Any] = {id(top): (top, top)}  # held: an id is only good that long
    within: dict[int, list[int]] = {}
    changed: dict[int, Any] = {}
    waiting = [id(top)]
    while waiting:
        here = waiting.pop()
        form = seen[here][1]
        for place, child in form.items() if isinstance(form, dict) else enumerate(form):
            if (plain := _plain(child)) is None:
                continue
            if isinstance(plain, str):
                if (text := redactor(plain)) is not plain and text != plain:
                    changed.setdefault(here, {})[place] = text
                continue
            if id(child) not in seen:
                seen[id(child)] = (child, plain)
                waiting.append(id(child))
            within.setdefault(id(child), []).append(here)
    return _copied(seen, within, changed)[0] if changed else value


def _copied(seen: dict[int, Any], within: dict[int, list[int]], changed: dict[int, Any]) -> Any:
    """The copy of the first container seen: those that hold a change, at any depth, are new."""
    waiting = list(changed)
    while waiting:
        for outer in within.get(waiting.pop(), ()):
            if outer not in changed:
                changed[outer] = {}
                waiting.append(outer)
    forms = {key: seen[key][1] for key in changed}
    tuples = {key: form for key, form in forms.items() if isinstance(form, tuple)}
    # Made empty, for they may lead back to themselves; tuples are closed from the inside out.
    copies: dict[int, Any] = {key: {} if isinstance(f, dict) else [] for key, f in forms.items()}

    def filled(key: int) -> list[Any]:
        form, texts = forms[key], changed[key]
        rows = form.items() if isinstance(form, dict) else enumerate(form)
        return [texts[at] if at in texts else copies.get(id(child), child) for at, child in rows]

    inside = {key: sum(id(child) in tuples for child in form) for key, form in tuples.items()}
    waiting = [key for key, still_open in inside.items() if not still_open]
    while waiting:
        key = waiting.pop()
        copies[key] = tuple(filled(key))
        for outer in within[key]:
            if outer in inside:
                inside[outer] -= 1
                if not inside[outer]:
                    waiting.append(outer)
    for key, form in forms.items():
        if isinstance(form, dict):
            copies[key].update(zip(form, filled(key), strict=True))
        elif key not in tuples:
            copies[key].extend(filled(key))
    return copies[next(iter(seen))]
