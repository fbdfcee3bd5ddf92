"""What notebooks show of memtrace's values: small tables, everything escaped."""

from __future__ import annotations

import subprocess
import sys
from html.parser import HTMLParser
from typing import Any

import pytest

from memtrace import ActionReport, MemoryProfile, Session, TokenBudget, diagnose, trigger_cleanup

HOSTILE = "<script>alert(1)</script>\u202e\x1b[31m \" ' & </table>"


class Shown(HTMLParser):
    """Elements by name, how deep they stand at the end, and all text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.depth = 0
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        self.depth += 1

    def handle_endtag(self, tag: str) -> None:
        self.depth -= 1

    def handle_data(self, data: str) -> None:
        self.text += data + "|"


def values() -> dict[str, Any]:
    """One of each, with text that is against the page."""
    session = Session(HOSTILE, token_budget=500)
    for n in range(6):
        session.active_contexts.add(f"{HOSTILE} {n} " * 8, key=f"{HOSTILE} {n}")
    return {
        "session": session,
        "profile": session.profile(),
        "report": ActionReport(HOSTILE, "failed", 1_204, 4, 3, 0.25, HOSTILE),
        "finding": diagnose(session)[0],
    }


@pytest.mark.parametrize("name", ["session", "profile", "report", "finding"])
def test_a_value_shows_as_a_table_and_nothing_else(name: str) -> None:
    """
    Each has `_repr_html_`: closed tables, in which a session's text is text.
    """
    html = values()[name]._repr_html_()
    shown = Shown(html)

    assert shown.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}
    assert shown.depth == 0
    assert not set(html) & set("\u202e\x1b")


def test_a_profile_shows_every_layer_against_its_limit() -> None:
    """
    Its table has a row for each layer and one for all, with items, tokens and limits.
    """
    profile = MemoryProfile(TokenBudget(10_000), (4_000, 30, 20, 10, 2_240), (4, 3, 2, 1, 6))
    shown = Shown(profile._repr_html_()).text

    assert "working memory|4|4,000|4,000|100%|" in shown
    assert "conversation history|6|2,240|2,500|90%|" in shown
    assert "all|16|6,300|10,000|63%|" in shown


def test_a_report_shows_what_it_gave_back() -> None:
    """
    Its table has tokens before and after, the difference, and the reason.
    """
    shown = Shown(trigger_cleanup(Session("s"))._repr_html_()).text

    assert shown.startswith("cleanup: no_op|")
    assert "gave back" in shown


def test_nothing_is_loaded_for_it_before_it_is_asked_for() -> None:
    """
    What makes tables and pictures is not imported with memtrace.
    """
    program = (
        "import sys, memtrace.session, memtrace.values\n"
        "late = {'memtrace.tables', 'memtrace.plots', 'matplotlib'}\n"
        "print(sorted(late & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
