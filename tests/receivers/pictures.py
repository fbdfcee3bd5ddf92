"""Pictures of a report for the documents: `make screenshots`. Not collected with other tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from programs import program, python

QUIET = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-sync")
DRAWN = "document.documentElement.dataset.interactive"
LARGEST_BYTES = 200_000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_report_of_the_example_is_pictured(scheme: str, root: Path, tmp_path: Path) -> None:
    """
    docs/images has the upper part of the report that examples/report.py makes.
    """
    from playwright.sync_api import sync_playwright

    page_file, picture = tmp_path / "report.html", root / "docs" / "images" / f"report-{scheme}.png"
    python(str(root / "examples" / "report.py"), str(page_file))
    with sync_playwright() as playwright:
        path = program("chromium", "chromium")
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        size = {"width": 1_120, "height": 1_480}
        page = browser.new_page(viewport=size, color_scheme=scheme)
        page.goto(page_file.as_uri())
        page.wait_for_function(DRAWN)
        page.locator("#fills").scroll_into_view_if_needed()
        page.evaluate("scrollTo(0, 0)")
        page.screenshot(path=picture)
        browser.close()

    assert picture.stat().st_size <= LARGEST_BYTES
