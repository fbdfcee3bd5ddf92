"""Policies as TOML files."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from memtrace import ConfigurationError, Policy
from memtrace.policy_file import kinds_of, read_policy


def written(folder: Path, text: str | bytes) -> Path:
    path = folder / "p.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        Policy.from_file(path)
    text = str(caught.value)
    assert text.startswith(f"{path}"), text
    assert "\n" not in text
    return text.removeprefix(f"{path}")


def test_a_file_names_what_differs(tmp_path: Path) -> None:
    """
    Constants that a file names are as it says, in any TOML form; the others are as by default.
    """
    text = (
        "# mine\nkeep_recent = 20 # five\n\n'cleanup_above' = 9e-1\nhook_slow_s = 2\nacts = false\n"
    )
    policy = Policy.from_file(written(tmp_path, text))

    assert policy == Policy(keep_recent=20, cleanup_above=0.9, hook_slow_s=2, acts=False)


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    """
    A file that names nothing changes nothing.
    """
    assert Policy.from_file(written(tmp_path, "")) == Policy()


def test_lines_are_known(tmp_path: Path) -> None:
    """
    It can be told where each constant was given.
    """
    path = written(tmp_path, b'\xef\xbb\xbfkeep_runs = 1\r\n\r\n"much_used"=2\r\n')

    assert read_policy(path, Policy).lines == {"keep_runs": 1, "much_used": 3}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("\nstub_share = 2", ", line 2: stub_share must be a share above 0 and up to 1, got 2"),
        ("a=1", ", line 1: no constant of a policy is named 'a'; the constants are acts, "),
        ("\n\nkeep_recnt = 2", "3: no constant of a policy is named 'keep_recnt'; did you mean "
         "keep_recent?"),
        ("acts = 1", "line 1: acts must be true or false, got 1"),
        ("keep_runs = '5'", "line 1: keep_runs must be a whole number such as 128_000, got '5'"),
        ("keep_runs = true", "keep_runs must be a whole number"),
        ("keep_runs = 1.0", "keep_runs must be a whole number"),
        ("hook_slow_s = nan", "line 1: hook_slow_s must be a number of seconds above 0, got nan"),
        ("cache_eviction = 'fifo'", "line 1: cache_eviction must be 'lru' or 's3fifo', got 'fifo'"),
        ("token_budget = 0", "line 1: token budget must be a whole number of tokens above 0"),
        ("keep_runs = 1\n[token_budget]\nx = 1", "line 2: token_budget must be a whole number"),
        ("\nsummarizer = 'os:system'", "line 2: summarizer is not something that a file can hold"),
        ("[actions]\ncompress = 'a'", "line 1: actions is not something that a file can hold"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_named_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    """
    A constant that cannot work is refused with its line, its value and what would work.
    """
    assert said in refusal(written(tmp_path, text))


def test_two_that_contradict_each_other(tmp_path: Path) -> None:
    """
    Where two constants cannot stand together, the one that the file names is pointed at.
    """
    path = written(tmp_path, "keep_runs = 2\ncompress_above = 0.5\n")

    assert refusal(path) == (
        ", line 2: compress_target (0.7) must not be above compress_above (0.5)"
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keep_runs = 1\nkeep_runs = 2\n", ", line 2: not TOML ("),
        ("keep_runs = [\n1,\n", ", line 3: not TOML ("),
        ('{"keep_runs": 1}', ", line 1: not TOML ("),
        ("keep_runs = 1\x00", ", line 1: not TOML ("),
        ("keep_runs = 1".encode("utf-16"), ", line 1: not UTF-8 (UTF-16 by its first bytes)"),
        (b"keep_runs = 1\n# gr\xf6sser\n", ", line 2: not UTF-8 (invalid "),
        ("# x\n" * 300_000, "line 250001: past 1 MB of the file's 1 MB, the most that is read"),
    ],
)
def test_what_is_no_toml_is_named_with_its_line(
    tmp_path: Path, text: str | bytes, said: str
) -> None:
    """
    Broken, doubled, in another format, in another encoding, or far too large: one line says so.
    """
    assert said in refusal(written(tmp_path, text))


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_what_cannot_be_read(tmp_path: Path, name: str) -> None:
    """
    A file that is not there, or a folder, is named.
    """
    assert " cannot be read: " in refusal(tmp_path / name)


def test_every_constant_can_be_written(tmp_path: Path) -> None:
    """
    A file that writes all defaults down gives the default policy; only functions are left out.
    """
    kinds = kinds_of(Policy)
    default = Policy()
    lines = [
        f"{name} = {_toml(getattr(default, name))}"
        for name, kind in kinds.items()
        if kind is not None and getattr(default, name) is not None
    ]

    assert Policy.from_file(written(tmp_path, "\n".join(lines))) == default
    assert {name for name, kind in kinds.items() if kind is None} >= {
        "redactor", "embed", "summarizer", "actions",
    }  # fmt: skip
    assert set(kinds) == {field.name for field in fields(Policy)}


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(value)


def test_importing_the_policy_loads_no_toml() -> None:
    """
    Programs that read no file do not pay for reading one.
    """

    code = (
        "import sys; from memtrace import Policy; print({'tomllib', 'difflib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True)
    assert done.stdout == "set()\n"
