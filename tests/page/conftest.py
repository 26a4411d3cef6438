"""A real browser for the tests of pages."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from browsing import Open, Opened

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")
    playwright = pytest.importorskip("playwright.sync_api", reason="no driver: pip install playwright")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any) -> Iterator[Open]:
    """Opens pages, by file or address, and checks at the end that none has complained or asked for anything else."""
    contexts, pages = [], []

    def open_page(place: Path | str, width: int = 1280, height: int = 720, **options: Any) -> Opened:
        context = browser.new_context(viewport={"width": width, "height": height}, **options)
        contexts.append(context)
        found = Opened(context.new_page(), [], [])
        pages.append((found, place))
        found.page.on("console", lambda message: found.complaints.append(message.text))
        found.page.on("pageerror", lambda error: found.complaints.append(str(error)))
        found.page.on("request", lambda request: found.requests.append(request.url))
        found.page.goto(place.as_uri() if isinstance(place, Path) else place)
        found.page.wait_for_selector("body[data-ready]", timeout=20_000)
        return found

    yield open_page
    for context in contexts:
        context.close()
    for found, place in pages:
        assert found.complaints == []
        inside = ("data:", "blob:")
        asked = [address for address in found.requests if not address.startswith(inside)]
        assert asked == ([place.as_uri()] if isinstance(place, Path) else [place, f"{place}events"])
