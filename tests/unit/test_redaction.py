"""Redaction: well-known secrets are taken out, and nothing else is touched."""

from __future__ import annotations

import json
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from memtrace.redaction import SECRET_FORMATS, redact_secrets, redacted

# Put together here, so that no scanner takes this file for a leak.
LINE = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQDh" + "a1B2" * 3
CUT = f"-----BEGIN {'PRIVATE'} KEY-----\n{LINE}\n{LINE}\na1B2c3=="
KEY = f"{CUT}\n-----END {'PRIVATE'} KEY-----"
# fmt: off
SECRETS = {
    "aws access key id": ["AKIA" + "Q3EXAMPLE7ABCD2F", "ASIA" + "Q3EXAMPLE7ABCD2F"],
    "github token": [*(f"gh{kind}_" + "a1" * 18 for kind in "pousr"),
                     "github_pat_" + "a1" * 11 + "_" + "b2" * 29],
    "gitlab token": ["glpat-" + "a1_b-" * 4, "glpat-" + "a1" * 14 + ".01." + "a1" * 4],
    "slack token": ["xoxb-" + "123456789012-1234567890123-" + "a1" * 12,
                    "xoxp-" + "1234567890-1234567890-1234567890-" + "a1" * 16,
                    "xoxe.xoxp-" + "1-" + "a1" * 20,
                    "xapp-" + "1-A012B345C-1234567890-" + "a1" * 32],
    "stripe key": [f"{kind}_" + "a1" * 12 for kind in ("sk_live", "rk_live", "sk_test")],
    "stripe webhook secret": ["whsec_" + "a1" * 16], "google api key": ["AIza" + "a1_B-" * 7],
    "google oauth client secret": ["GOCSPX-" + "a1_B-c2" * 4],
    "openai api key": ["sk-" + "a1" * 24, "sk-proj-" + "a1_B-" * 20, "sk-svcacct-" + "a1_B-" * 20,
                       "sk-or-v1-" + "a1" * 32],
    "anthropic api key": ["sk-ant-" + "api03-" + "a1_B-" * 18 + "xAA"],
    "hugging face token": ["hf_" + "aBcDe" * 7], "npm token": ["npm_" + "a1" * 18],
    "pypi token": ["pypi-AgE" + "IcHlwaS5vcmc" + "a1_B-" * 12],
    "sendgrid api key": ["SG." + "a1" * 11 + "." + "a1_" * 14 + "B"],
    "telegram bot token": ["AA" + "a1_" * 11], "vault token": ["hvs." + "a1_B-" * 18],
    "digitalocean token": ["dop_v1_" + "a1" * 32],
    "databricks token": ["dapi" + "a1" * 16, "dapi" + "a1" * 16 + "-2"],
    "grafana token": ["glsa_" + "a1" * 16 + "_" + "a1b2c3d4"],
    "json web token": ["eyJ" + "hbGciOiJIUzI1NiJ9" + ".eyJ" + "zdWIiOiIxMjM0In0" + ".a1_B"],
    "private key": [KEY, CUT, KEY.replace("PRIVATE", "RSA PRIVATE").replace("\n", "\\n"),
                    KEY.replace("-----\nM", "-----\nDEK-Info: AES-128-CBC,A1B2\n\nM")],
    "aws secret access key": ["a1/B+" * 8], "azure storage key": ["a1/B+" * 17 + "c" + "=="],
    "slack webhook": ["T0123ABCD/B0123ABCD/" + "a1" * 12],
    "url password": ["hunter2", "p@ss:w0rd!"], "authorization": ["a1._~+-B" * 4 + "=="],
}
BEFORE = {
    "aws secret access key": "aws_secret_access_key = ", "telegram bot token": "123456789:",
    "azure storage key": "DefaultEndpointsProtocol=https;AccountKey=",
    "slack webhook": "https://hooks.slack.com/services/",
    "url password": "postgresql+psycopg://app:", "authorization": "Authorization: Bearer ",
}
# fmt: on
AFTER = {"url password": "@db.example.com:5432/app?sslmode=require"}
CASES = [(name, secret) for name, secrets in SECRETS.items() for secret in secrets]
NPM = SECRETS["npm token"][0]

LOOK_ALIKES = [
    "scikit-learn is imported as sk-learn; class sk-toggleable-control-hidden--visually-1",
    "from huggingface_hub import hf_hub_download, hf_xet_get_file_from_the_hub_by_name",
    "the prefixes are ghp_, gho_, github_pat_, glpat-, sk-ant-, AKIA, hvs., SG. and whsec_",
    "0123456789abcdef0123456789abcdef01234567, id task-123e4567-e89b-12d3-a456-426614174000",
    "https://example.com/a@b and https://example.com:8080/a@b, mail me@example.com",
    "http://localhost:3000 me@example.com http://[::1]:80/@x docker://node:20@sha256:" + "ab" * 32,
    'f"postgres://{user}:{password}@{host}" "https://$USER:$TOKEN@x" "://%s:%s@%s" "://a:***@b"',
    "https://oauth2:${TOKEN}@gitlab.com/x https://u:<password>@x https://u:$(cat pw)@x",
    'curl -H "Authorization: Bearer $TOKEN"; Authorization: Bearer <token>; Authorization: Basic',
    '{"Authorization": f"Bearer {token}"} Authorization: Basic authentication is deprecated',
    "data:image/png;base64," + "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ" * 40,
    "if line.startswith('-----BEGIN PRIVATE KEY-----') and '-----END PRIVATE KEY-----' in text:",
    "-----BEGIN PUBLIC KEY-----\nMIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8A\n-----END PUBLIC KEY-----",
    "risk_test_results = mask_live_0123456789abcdefghij; npm_config_registry_url_of_the_company",
    "secret_access_key = os.environ['AWS_SECRET_ACCESS_KEY']; 00:AA:BB:CC:DD:EE; eyJ begins JSON",
    "xoxb-your-token-goes-right-here hvs.get_secret_from_the_vault_by_name() dapi2.example.com",
    "def redact(text): return re.sub(r'://[^:]+:[^@]+@', '', text)",
]


def test_every_format_has_an_example_here_and_a_source() -> None:
    """
    Nothing is in the set of formats that these tests do not show, or that comes from nowhere.
    """
    assert {known.name for known in SECRET_FORMATS} == set(SECRETS)
    assert all(known.literals and known.source for known in SECRET_FORMATS)


@pytest.mark.parametrize("times_quoted", [0, 1, 2])
@pytest.mark.parametrize(("name", "secret"), CASES)
def test_a_secret_is_found_in_a_sentence_in_json_and_in_a_message(
    name: str, secret: str, times_quoted: int
) -> None:
    """
    A secret is replaced by its format's name; what stands around it, and the caller's own, stays.
    """
    before, after = f"It says\n{BEFORE.get(name, '')}", f"{AFTER.get(name, '')} and so on."
    text, expected = before + secret + after, f"{before}[redacted: {name}]{after}"
    for _ in range(times_quoted):
        text, expected = json.dumps({"out": text}), json.dumps({"out": expected})
    message = {"role": "tool", "content": [{"type": "text", "text": text}]}

    found = redacted(message, redact_secrets)

    assert redact_secrets(text) == expected
    assert found == {"role": "tool", "content": [{"type": "text", "text": expected}]}
    assert message["content"] == [{"type": "text", "text": text}]


@pytest.mark.parametrize("edge", ["\x1b[32m", "\x1b[0m", "%3D", "\\u0022", "\\t", "=", "_"])
@pytest.mark.parametrize("name", ["openai api key", "hugging face token", "aws access key id"])
def test_a_secret_may_follow_an_escape_or_a_colour(edge: str, name: str) -> None:
    """
    The letter or digit that ends an escape or a colour code does not hide the word after it.
    """
    assert redact_secrets(f"x{edge}{SECRETS[name][0]}") == f"x{edge}[redacted: {name}]"


@pytest.mark.parametrize(
    "setting",
    [
        'AWS_SECRET_ACCESS_KEY="|"',
        "<SecretAccessKey>|</SecretAccessKey>",
        "AWS Secret Access Key [None]: |",
        "https://x-access-token:|@github.com/a/b.git redis://cache:6379/0",
        "curl -H 'authorization: bearer |' https://example.com",
        '{\\"Authorization\\": \\"Basic |\\"}',
        'headers["Authorization"] = "Bearer |"',
        "HTTP_AUTHORIZATION=Bearer |",
    ],
)
def test_of_a_named_place_only_the_secret_goes(setting: str) -> None:
    """
    However a setting, a URL or a header is written, its name and its surroundings stay.
    """
    before, _, after = setting.partition("|")
    found = redact_secrets(before + "a1B2" * 10 + after)

    assert found.startswith(before + "[redacted: ")
    assert found.endswith("]" + after)


@pytest.mark.parametrize("text", LOOK_ALIKES)
def test_a_look_alike_stays(text: str) -> None:
    """
    Prose, source code, templates, hashes, ids and images are given back as the same object.
    """
    assert redact_secrets(text) is text
    assert redacted(quoted := json.dumps(text), redact_secrets) is quoted


@pytest.mark.parametrize("piece", ["a", "-----BEGIN ", "eyJ", "-eyJ", "://", "sk-", "\\", "\n"])
@pytest.mark.parametrize("start", ["", CUT])
def test_a_megabyte_of_beginnings_is_searched_through(piece: str, start: str) -> None:
    """
    Text made of nothing but a secret's first letters ends, and the one secret in it is found.
    """
    text = start + piece * (1_000_000 // len(piece)) + f" PRIVATE KEY :// eyJ @ sk- {NPM}"

    assert redact_secrets(text).endswith("[redacted: npm token]")
    assert LINE not in redact_secrets(text)


WHOLE = [BEFORE.get(name, "") + secret for name, secret in CASES]
PARTS = [text[: len(text) * 2 // 3] for text in WHOLE]
EDGES = ["a1" * 20, "A2" * 8, *BEFORE.values(), *"- _ . : @ = \\n 123456789 ://u:".split()]
PIECES = st.sampled_from(WHOLE + PARTS + EDGES)


@given(st.text() | st.lists(PIECES, max_size=8).map("".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    """
    Whatever the text, redaction raises nothing, and what it gave back it leaves as it is.
    """
    once = redact_secrets(text)

    assert redact_secrets(once) is once
    assert once is text or (once != text and "[redacted: " in once)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | PIECES,
    lambda x: st.lists(x) | st.lists(x).map(tuple) | st.dictionaries(st.text() | PIECES, x),
)


@given(VALUES)
def test_the_callers_value_is_never_changed(value: Any) -> None:
    """
    Where no secret is, the value itself comes back; else a copy, and the value is what it was.
    """
    before = repr(value)
    found = redacted(value, redact_secrets)

    assert repr(value) == before
    assert (found is value) == (repr(found) == before)
    assert redacted(found, redact_secrets) is found
    assert redacted(value, lambda text: text[:1] + text[1:]) is value


def test_only_containers_on_the_way_to_a_change_are_copied() -> None:
    """
    What lies beside a secret is the caller's own object in the copy, and keys stay.
    """
    aside = {"text": ["fine"]}
    found = redacted({"aside": aside, NPM: ("x", [f"key {NPM}"], aside)}, redact_secrets)

    assert found == {"aside": aside, NPM: ("x", ["key [redacted: npm token]"], aside)}
    assert found["aside"] is found[NPM][2] is aside
    assert redacted({"a": ["bc", 1]}, str.upper) == {"a": ["BC", 1]}


def test_depth_does_not_matter() -> None:
    """
    A secret 100,000 containers deep is found, and nothing recurses.
    """
    value: Any = NPM
    for level in range(100_000):
        value = ([value], (value,), {0: value})[level % 3]

    found = redacted(value, redact_secrets)

    while not isinstance(found, str):
        found = found[0]
    assert found == "[redacted: npm token]"


def test_a_cycle_is_copied_as_a_cycle() -> None:
    """
    A value that holds itself, through lists, dicts and tuples, ends and loses its secret.
    """
    value: dict[str, Any] = {"secret": NPM, "clean": []}
    value["clean"].append(value["clean"])
    value["self"] = [(value, (value,))]

    found = redacted(value, redact_secrets)

    assert found["secret"] == "[redacted: npm token]"
    assert found["self"][0][0] is found["self"][0][1][0] is found
    assert found["clean"] is value["clean"]


def test_what_is_shared_stays_shared() -> None:
    """
    One object in many places becomes one copy, however many ways lead to it.
    """
    value: Any = (NPM,)
    for _ in range(200):
        value = (value, value)

    found = redacted(value, redact_secrets)

    while len(found) == 2:
        assert found[0] is found[1]
        found = found[0]
    assert found == ("[redacted: npm token]",)


class Note(BaseModel):
    text: str


@dataclass(frozen=True)
class Record:
    """A dataclass that holds anything."""

    text: Any


@pytest.mark.parametrize("make", [Note, Record, lambda text: MappingProxyType({"text": text})])
def test_an_object_with_a_secret_becomes_its_plain_form(make: Any) -> None:
    """
    A model, a dataclass or a mapping with a secret becomes a dict; without one it stays itself.
    """
    clean, leaky = make(text="fine"), make(text=NPM)
    found = redacted([clean, Record((leaky,))], redact_secrets)

    assert found[0] is clean
    assert found[1] == {"text": ({"text": "[redacted: npm token]"},)}


class Refusing:
    def _refuse(self, *args: Any) -> Any:
        raise RuntimeError("do not look at me")

    model_dump = __getattr__ = __eq__ = __hash__ = __bool__ = _refuse  # type: ignore[assignment]
    __class__ = property(_refuse)  # type: ignore[assignment]


def test_an_object_that_refuses_is_left_as_it_is() -> None:
    """
    What cannot be looked into stays where it is, while the text beside it is redacted.
    """
    found = redacted([refusing := Refusing(), Note, NPM], redact_secrets)

    assert found[0] is refusing
    assert found[1:] == [Note, "[redacted: npm token]"]
