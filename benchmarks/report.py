"""What a report takes, of the largest recorded session: `python -m benchmarks.report`.

Bytes of the page, seconds to make it, and milliseconds until it is interactive in Chromium: from
the start of the navigation until every chart is drawn, the median of several fresh pages.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks._rounds import Row, report
from memtrace import diagnose
from memtrace.html import of_recording, render
from memtrace.html.script import scripts
from memtrace.replay import read_session
from tests.sessions import session_files

RESULTS = Path(__file__).parent / "results" / "report.json"
BUDGETS = {"its own budget": None, "a budget of 32,000": 32_000}
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
DRAWN = "document.documentElement.dataset.interactive"


def made(path: Path, token_budget: int | None) -> str:
    """The page of a recorded session."""
    findings = diagnose(path, token_budget=token_budget)
    return render(of_recording(read_session(path), token_budget=token_budget, findings=findings))


def opened(browser: Any, page_file: Path) -> tuple[float, int]:
    """Milliseconds until a page is interactive; what it asked for beside itself, and said."""
    page = browser.new_page()
    noise: list[object] = []
    page.on("request", lambda said: noise.append(said))
    page.on("console", lambda said: noise.append(said))
    page.on("pageerror", lambda said: noise.append(said))
    page.goto(page_file.as_uri())
    page.wait_for_function(DRAWN)
    took = float(page.evaluate(DRAWN))
    page.close()
    return took, len(noise) - 1  # the page itself


def rows_of(path: Path, folder: Path, browser: Any, rounds: int) -> list[Row]:
    """Figures of one session under each budget."""
    rows = []
    for label, budget in BUDGETS.items():
        began = time.perf_counter()
        text = made(path, budget)
        seconds = time.perf_counter() - began
        page_file = folder / "report.html"
        page_file.write_text(text, "utf-8")
        seen = [opened(browser, page_file) for _ in range(rounds)]
        rows += [
            Row(f"{label}: size", page_file.stat().st_size / 1e6, 2, "MB"),
            Row(f"{label}: made in", seconds, unit="s"),
            Row(f"{label}: interactive after", statistics.median(t for t, _ in seen), 2_000, "ms"),
            Row(f"{label}: requests and console lines", max(n for _, n in seen), 0, ""),
        ]
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run all rows; 1 if a bar is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, default=RESULTS)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args(arguments)
    from playwright.sync_api import sync_playwright

    logging.getLogger("memtrace").setLevel(logging.CRITICAL)  # alerts are what is expected here
    chromium = shutil.which("chromium")
    if chromium is None:
        print("chromium is not installed; Debian's package chromium has it")
        return 1
    began = time.perf_counter()
    scripts()
    rows = [Row("the charting library bundled in", time.perf_counter() - began, unit="s")]
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        folder = Path(name)
        largest = max(session_files(folder), key=lambda path: path.stat().st_size)
        browser = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        rows += rows_of(largest, folder, browser, options.rounds)
        browser.close()
    return 0 if report("Report of the largest recorded session", rows, options.json) else 1


if __name__ == "__main__":
    sys.exit(main())
