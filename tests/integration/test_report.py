"""The report: complete, bounded, and harmless whatever a session holds."""

from __future__ import annotations

import json
import os
import sys
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from typer.testing import CliRunner

from memtrace import ConfigurationError, Session, checkpoint, diagnose, managed_agent
from memtrace.cli.app import app
from memtrace.html import Report, of_recording, of_session, render
from memtrace.html.curve import thinned
from memtrace.html.excerpts import LIMIT, excerpt
from memtrace.html.gathering import LEAVES
from memtrace.html.page import ROWS, turns
from memtrace.html.script import scripts
from memtrace.replay import play, read_session

MOST_BYTES = 2_000_000
CHARTS = {"memory", "treemap", "timeline", "forecast"}
HOSTILE = {
    "script": "<script>document.title = 'taken'</script>",
    "end": "</script></style></title><img src=x onerror=alert(1)>",
    "template": "{{ 7 * 7 }} {% raw %} {# x #}",
    "direction": "\u202egnp.exe \u2066left\u2069 \u200f",
    "quotes": '" onmouseover="alert(1)" \' `',
    "control": "\x00\x1b[31m\ud83d lone \u2028",
    "long": "x" * 300_000,
}


class Page(HTMLParser):
    """What a browser would see of a page: elements, and the text of those that matter."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.title = ""
        self._within = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._within = tag
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        self._within = ""

    def handle_data(self, data: str) -> None:
        if self._within == "script":
            self.scripts[-1] += data
        if self._within == "title":
            self.title += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """Attributes of each element of that name."""
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def charts(self) -> Any:
        """What the charts are drawn from."""
        return json.loads(self.scripts[0])


def hostile() -> Session:
    """A session whose every text is against the page."""
    session = Session("</title>" + HOSTILE["script"], token_budget=20_000)
    for name, text in HOSTILE.items():
        session.active_contexts.add(text, key=f"{name} {text[:200]}", agent=text[:200])
        session.agent(text[:100]).state = {text[:50]: text}
        session.history.append({"role": "user", "content": text})

        @managed_agent(name=text[:80] or "none")
        def agent(session: Session, text: str = text) -> None:
            session.history.append({"role": "assistant", "content": text * 2})
            session.messages()
            raise type(HOSTILE["script"][:20], (ValueError,), {})

        with pytest.raises(ValueError):  # noqa: PT011 (its own)
            agent(session)
    return session


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recorded session in which the loop has much to do."""
    path = tmp_path_factory.mktemp("recording") / "busy.jsonl"
    lines: list[dict[str, Any]] = [
        {"session_id": "busy", "budget_hint": {"context_window": 6_000}, "system": "Be brief."}
    ]
    for turn in range(20):
        lines.append({"role": "user", "content": f"Read part {turn} of /srv/data.csv. " * 5})
        for step in range(3):
            call = {"name": "read", "arguments": json.dumps({"part": turn, "step": step})}
            calls = [{"id": f"c{turn}-{step}", "type": "function", "function": call}]
            lines.append({"role": "assistant", "content": None, "tool_calls": calls})
            told = f"row {turn}-{step}: the river rose {turn * step} cm at Bergen\n" * 20
            lines.append({"role": "tool", "tool_call_id": f"c{turn}-{step}", "content": told})
        lines.append({"role": "assistant", "content": f"It rose {turn} cm."})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return path


@pytest.fixture(scope="module")
def report(recording: Path) -> Report:
    """What is shown of it."""
    return of_recording(read_session(recording), findings=diagnose(recording))


@pytest.fixture(scope="module")
def page(report: Report) -> Page:
    """The page of it."""
    return Page(render(report))


# --- what is in it --------------------------------------------------------------------------------


def test_memory_is_sampled_after_each_message(report: Report, recording: Path) -> None:
    """
    The curve has memory as it was before the first message, and after each one.
    """
    messages = len(read_session(recording).messages)

    assert [sample.at for sample in report.samples] == list(range(messages + 1))
    assert sum(report.samples[-1].tokens) == report.profile.total_tokens


def test_actions_stand_where_they_happened_with_what_they_gave_back(
    report: Report, recording: Path, page: Page
) -> None:
    """
    The report has the actions that a replay has, and the chart what each gave back.
    """
    replayed = play(read_session(recording))
    done = [r for r in replayed.reports if r.outcome not in ("declined", "no_op")]
    shown = page.charts["memory"]["datasets"]["marks"]

    assert [m.report.tokens_freed for m in report.marks] == [r.tokens_freed for r in done]
    assert report.freed > 0
    assert sum(mark["freed"] for mark in shown) == sum(max(0, r.tokens_freed) for r in done)


def test_each_chart_has_a_table_behind_it(page: Page) -> None:
    """
    Every figure has a chart's data, a folded table in it, and a label for who cannot see it.
    """
    names = {attributes["data-chart"] for attributes in page.all("figure")}
    labels = [a for a in page.all("div") if a.get("role") == "img"]

    assert names == CHARTS == set(page.charts)
    assert all(attributes["aria-label"] for attributes in labels)
    assert len(labels) == len(names)
    assert len(page.all("details")) >= len(names)


def test_before_and_after_stand_side_by_side(report: Report) -> None:
    """
    What was made shorter is shown with its original, the one that gave back most first.
    """
    freed = [pair.tokens_before - pair.tokens_after for pair in report.pairs]

    assert freed == sorted(freed, reverse=True)
    assert freed[0] > 0
    assert "river rose" in report.pairs[0].before.text + report.pairs[1].before.text


def test_findings_stand_with_their_evidence(report: Report) -> None:
    """
    Findings are those of the diagnosis of the recording, each with its figures and remedies.
    """
    text = render(report)

    assert report.findings
    for finding in report.findings:
        assert finding.symptom.replace("_", " ") in text
        assert all(remedy.name in text for remedy in finding.remedies)


def test_an_empty_session_has_a_report() -> None:
    """
    Of a session that holds nothing and did nothing there is a page that says so.
    """
    text = render(of_session(Session("empty")))

    assert "Memory is empty." in text
    assert "Nothing was made shorter." in text
    assert set(Page(text).charts) == {"memory"}


def test_the_cache_is_shown_against_its_alert() -> None:
    """
    Hits, misses and what another size would have given are there once something was looked up.
    """
    session = Session("cached", token_budget=2_000)
    for n in range(200):
        if session.cache.get(n % 30) is None:
            session.cache.put(n % 30, f"value {n} " * 5)
    shown = render(of_session(session))

    assert "cache" in Page(shown).charts
    assert "lookups were answered" in shown


# --- what it can be given -------------------------------------------------------------------------


def test_hostile_content_stays_text() -> None:
    """
    Nothing that a session holds becomes an element, an attribute, a script or a template.
    """
    session = hostile()
    text = render(of_session(session, findings=diagnose(session)))
    shown = Page(text)

    assert [len(script) > 0 for script in shown.scripts] == [True] * 3
    assert shown.scripts[1:] == list(scripts()[:2])
    assert not shown.all("img")
    assert not [a for _, attributes in shown.tags for a in attributes if a.startswith("on")]
    assert shown.title.startswith("</title><script>")
    assert "{{ 7 * 7 }}" in text
    assert not set(text.partition('id="charts"')[0]) & set("\u202e\u2066\u2069\u200f\x00\x1b\ud83d")
    assert len(text.encode()) < MOST_BYTES


def test_it_asks_for_nothing(page: Page) -> None:
    """
    No address is in the page, and its policy allows no request and no script but its own.
    """
    links = [a.get("href") or a.get("src") or "#" for _, a in page.tags]
    policy = next(a["content"] or "" for a in page.all("meta") if "http-equiv" in a)

    assert {link[:1] for link in links if link != "data:,"} == {"#"}
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "unsafe-eval" not in policy
    assert "'unsafe-inline'" not in policy.partition("style-src")[0]


def test_long_texts_are_cut_and_it_says_so() -> None:
    """
    Of a long text the beginning and the end are shown, and how many characters are not.
    """
    cut = excerpt("a" * 300_000 + "z")

    assert len(cut.text) == LIMIT + 3
    assert cut.text.endswith("az")
    assert cut.left_out == 300_001 - LIMIT


def test_what_is_listed_is_bounded() -> None:
    """
    Of thousands of runs, items and replaced items the page lists so many, the rest together.
    """
    session = Session("long", token_budget=50_000)

    @managed_agent
    def agent(session: Session, n: int) -> None:
        session.history.append({"role": "user", "content": f"{n} héllo „wörld“ & <b> " * 9})
        session.history.append({"role": "assistant", "content": f"{n} is done"})
        session.messages()

    for n in range(1_500):
        agent(session, n)
    shown = of_session(session)

    assert len(turns(shown)) <= ROWS
    assert len(thinned(shown)) < 2_000
    assert len(shown.leaves) <= LEAVES + len(session.layers)
    assert sum(leaf.tokens for leaf in shown.leaves) == session.profile().total_tokens
    assert len(render(shown).encode()) < MOST_BYTES


def test_the_largest_recorded_session_fits(session_files: list[Path], tmp_path: Path) -> None:
    """
    The report of the largest recorded session has at most 2 MB, under pressure too.
    """
    largest = max(session_files, key=lambda path: path.stat().st_size)
    for budget in (None, 32_000):
        text = render(of_recording(read_session(largest), token_budget=budget))
        assert len(text.encode("utf-8", "replace")) <= MOST_BYTES


@pytest.mark.parametrize("name", ["vl_convert", "jinja2"])
def test_a_library_that_is_missing_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """
    Without one of its libraries a report is refused in one line that says what to install.
    """
    monkeypatch.setitem(sys.modules, name, None)
    scripts.cache_clear()
    with pytest.raises(ConfigurationError, match=rf"needs {name}.*memtrace-otel\[report\]"):
        render(of_session(Session()))


# --- the command ----------------------------------------------------------------------------------


def invoke(*arguments: object) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, [*map(str, arguments)])


def test_the_command_writes_a_report_of_a_recording(recording: Path, tmp_path: Path) -> None:
    """
    `memtrace report FILE -o FILE` writes the page, held against the budget that is given.
    """
    out = tmp_path / "report.html"
    done = invoke("report", recording, "-o", out, "--budget", "8k", "--json")

    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout) == {"file": str(out), "bytes": out.stat().st_size}
    assert "budget 8,000 tokens" in out.read_text("utf-8")


def test_the_command_reads_a_stored_session_and_changes_nothing(tmp_path: Path) -> None:
    """
    Of a stored session runs, checkpoints, errors and the cache's lookups are shown; it stays so.
    """
    store, out = tmp_path / "memory.db", tmp_path / "report.html"
    with Session.open("support-42", store=store, token_budget=5_000) as session:

        @managed_agent(name="clerk")
        def clerk(session: Session) -> None:
            session.history.append({"role": "user", "content": "Where is it? " * 20})
            session.cache.get("it")
            raise LookupError

        for _ in range(3):
            with pytest.raises(LookupError):
                clerk(session)
            with checkpoint(session, "asked"):
                pass
        revision = session.journal.revision
    before = store.read_bytes()
    done = invoke("report", "support-42", "--store", store, "-o", out)
    shown = Page(out.read_text("utf-8")).charts

    assert done.exit_code == 0, done.output
    assert store.read_bytes() == before
    kinds = [run["kind"] for run in shown["timeline"]["datasets"]["runs"]]
    assert kinds == ["failed", "checkpoint"] * 3
    assert shown["rate"]["datasets"]["snapshots"][-1]["lookups"] == 3
    assert revision > 0


@pytest.mark.parametrize(
    ("content", "named"),
    [("", "empty"), ("{", "line 1"), ('{"session_id": "a"}\n', "no message"), (None, "cannot be")],
)
def test_bad_input_leaves_no_file(content: str | None, named: str, tmp_path: Path) -> None:
    """
    What cannot be read ends the command in one line, with status 2, and writes nothing.
    """
    source, out = tmp_path / "source.jsonl", tmp_path / "out" / "report.html"
    out.parent.mkdir()
    if content is not None:
        source.write_text(content, "utf-8")
    done = invoke("report", source, "-o", out)

    assert done.exit_code == 2
    assert named in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert os.listdir(out.parent) == []  # noqa: PTH208 (hidden ones too)


def test_generated_sessions_have_reports(sessions: ModuleType, tmp_path: Path) -> None:
    """
    Sessions with lone surrogates, base64, terminal codes and several scripts have reports.
    """
    for path in sessions.generate(tmp_path, count=5):
        try:
            recorded = read_session(path)
        except ConfigurationError:
            continue
        text = render(of_recording(recorded, token_budget=4_000))
        assert Page(text).charts["memory"]
        text.encode("utf-8")


def test_the_document_runs(root: Path) -> None:
    """
    The block of docs/report.md runs as it stands.
    """
    text = (root / "docs" / "report.md").read_text("utf-8")
    block = text.partition("```python\n")[2].partition("```")[0]

    exec(compile(block, "docs/report.md", "exec"), {})
