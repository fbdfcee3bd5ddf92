"""The report in Debian's Chromium: drawn, silent, asking for nothing, usable without a mouse."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from programs import missing, program

from memtrace import Session, checkpoint, diagnose, managed_agent
from memtrace.html import of_recording, of_session, render
from memtrace.replay import read_session

try:
    from playwright.sync_api import Browser, Page, sync_playwright
except ImportError:  # a test says so
    sync_playwright = None

QUIET = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
HOSTILE = (
    "<script>window.taken = 1</script></script><img src='http://127.0.0.1:9/x' onerror='taken=1'>"
    " {{ 7 * 7 }} \u202egnp.exe \" ' ` \\ \u2028 \x00 \ud83d"
)
DRAWN = "document.documentElement.dataset.interactive"
REACHABLE = """() => [...document.querySelectorAll('a, summary, [tabindex="0"]')]
    .filter(it => it.checkVisibility()).length"""


class Opened(NamedTuple):
    """A page, what it asked for, and what it said."""

    page: Page
    requests: list[str]
    said: list[str]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium without a window."""
    if sync_playwright is None:
        missing("playwright", "pip install playwright")
    path = program("chromium", "chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a session with everything in it: agents, checkpoints, errors, a cache."""
    session = Session("busy", token_budget=9_000)

    @managed_agent(name="planner")
    def planner(session: Session, n: int) -> None:
        session.agent("planner").state = {"step": n}
        session.history.append({"role": "user", "content": f"Task {n}: count the boats. " * 9})
        session.history.append({"role": "assistant", "content": f"There are {n} boats. " * 30})
        session.messages()

    @managed_agent(name="clerk")
    def clerk(session: Session, n: int) -> None:
        session.active_contexts.add(f"Boat {n} is blue and of wood. " * 30, key=f"boat-{n}")
        for key in (n % 7, n % 3):
            if session.cache.get(key) is None:
                session.cache.put(key, f"value {key} " * 9)
        if n == 9:
            raise LookupError

    for n in range(40):
        planner(session, n)
        if n == 9:
            with pytest.raises(LookupError):
                clerk(session, n)
        else:
            clerk(session, n)
        if n % 10 == 0:
            with checkpoint(session, "counted"):
                pass
    return _written(tmp_path_factory, render(of_session(session, diagnose(session))))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a recording whose every text is against the page, one of 300 KB among them."""
    folder = tmp_path_factory.mktemp("hostile")
    recording = folder / "hostile.jsonl"
    lines: list[dict[str, Any]] = [{"session_id": HOSTILE, "system": HOSTILE}]
    for n in range(30):
        lines.append({"role": "user", "content": f"{HOSTILE} {n} " * 20})
        lines.append({"role": "assistant", "content": "x" * 300_000 if n == 9 else HOSTILE})
    recording.write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    shown = of_recording(read_session(recording), token_budget=6_000, findings=diagnose(recording))
    return _written(tmp_path_factory, render(shown))


def _written(folders: pytest.TempPathFactory, text: str) -> Path:
    path = folders.mktemp("page") / "report.html"
    path.write_text(text, "utf-8")
    return path


def opened(browser: Browser, path: Path, width: int = 1_200, scheme: Any = "light") -> Opened:
    """A page of its own, drawn to the end."""
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    seen = Opened(page, [], [])
    page.on("request", lambda request: seen.requests.append(request.url))
    page.on("console", lambda message: seen.said.append(message.text))
    page.on("pageerror", lambda error: seen.said.append(str(error)))
    page.on("dialog", lambda dialog: seen.said.append(dialog.message))
    page.goto(path.as_uri())
    page.wait_for_function(DRAWN)
    return seen


@pytest.mark.parametrize("name", ["busy", "hostile"])
@pytest.mark.parametrize("width", [1_200, 390])
def test_it_is_drawn_in_silence(
    name: str, width: int, browser: Browser, request: pytest.FixtureRequest
) -> None:
    """
    Every chart is drawn, nothing is asked for, nothing is said, nothing of a session runs, and
    the page is as wide as the screen: at a desk and on a phone.
    """
    path: Path = request.getfixturevalue(name)
    page, requests, said = opened(browser, path, width)
    shapes = page.evaluate(
        "[...document.querySelectorAll('.chart')].map(it => it.querySelectorAll('path').length)"
    )
    wide = page.evaluate("document.documentElement.scrollWidth")

    assert requests == [path.as_uri()]
    assert said == []
    assert len(shapes) >= 4
    assert min(shapes) > 0
    assert wide <= width
    assert page.evaluate("window.taken === undefined && document.images.length === 0")
    page.close()


def test_light_and_dark_are_both_readable(browser: Browser, busy: Path) -> None:
    """
    The page follows the system's colours; text stands out by more than 4.5 to 1 in both.
    """
    contrasts = {}
    for scheme in ("light", "dark"):
        page = opened(browser, busy, scheme=scheme).page
        for where in ("body", ".card p", ".l", "summary", ".finding .tag"):
            colours = page.evaluate(
                """where => {
                  const behind = document.querySelector('section:not(.cards)');
                  return [getComputedStyle(document.querySelector(where)).color,
                          getComputedStyle(behind).backgroundColor]
                }""",
                where,
            )
            contrasts[scheme, where] = contrast(*colours)
        page.close()

    assert min(contrasts.values()) > 4.5, contrasts


def contrast(first: str, second: str) -> float:
    """How far two colours stand apart, as the guidelines for accessible content reckon it."""
    lights = sorted(_luminance(colour) for colour in (first, second))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def _luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in colour[4:-1].split(",")]
    red, green, blue = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_keyboard_reaches_everything(browser: Browser, busy: Path) -> None:
    """
    Tab goes to the way past the navigation first, then to every link, table and text; Enter opens.
    """
    page = opened(browser, busy).page
    page.keyboard.press("Tab")
    first = page.evaluate("document.activeElement.className")
    expected = page.evaluate(REACHABLE)
    reached = 1
    page.evaluate("document.activeElement.dataset.reached = 1")
    for _ in range(expected + 5):
        page.keyboard.press("Tab")
        reached += page.evaluate(
            "(it => it !== document.body && !it.dataset.reached && (it.dataset.reached = 1))"
            "(document.activeElement) ? 1 : 0"
        )
    page.locator("figure[data-chart=memory] summary").first.focus()
    page.keyboard.press("Enter")

    assert first == "skip"
    assert reached >= expected
    assert page.locator("figure[data-chart=memory] table").first.is_visible()
    page.close()


def test_the_pointer_reads_a_moment_off(browser: Browser, busy: Path) -> None:
    """
    Over the curve and over the treemap a box tells the figures that are there.
    """
    page = opened(browser, busy).page
    for name, told in (("memory", "conversation history"), ("treemap", "tokens")):
        chart = page.locator(f"figure[data-chart={name}] .chart")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 3, box["y"] + box["height"] / 2)
        page.wait_for_selector("#vg-tooltip-element.visible")
        assert told in page.locator("#vg-tooltip-element").inner_text()
        page.mouse.move(0, 0)
    page.close()
