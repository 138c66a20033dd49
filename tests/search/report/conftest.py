"""Pages of studies, and a browser that looks at them."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from search.report.page_html import write_html
from tests.browser import chromium, console_errors
from tests.search.report.page_study import HOSTILE, write_study


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of studies."""
    runs = tmp_path_factory.mktemp("runs")
    write_study(runs / "ours", num_trials=12)
    write_study(runs / "small", num_trials=3)
    write_study(runs / "hostile", num_trials=3, hostile=HOSTILE)
    return runs


@pytest.fixture(scope="package")
def page(runs: Path) -> Path:
    """The page of one study."""
    write_html([runs / "ours"], runs / "page.html")
    return runs / "page.html"


@pytest.fixture(scope="package")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    """One browser for all tests; each opens its page anew."""
    with chromium(tmp_path_factory.mktemp("profile")) as browser:
        browser.execute_cdp_cmd("Network.enable", {})
        yield browser


@pytest.fixture
def browser(window: Chrome) -> Iterator[Chrome]:
    """The browser, in which nothing may go wrong nor be fetched."""
    window.get("about:blank")
    console_errors(window)
    yield window
    fetched = window.execute_script(
        "return performance.getEntriesByType('resource').map(e => e.name)"
        ".filter(name => !name.startsWith('data:'))"
    )
    assert (console_errors(window), fetched) == ([], [])


def texts(browser: Chrome, selector: str) -> list[str]:
    return [each.text for each in browser.find_elements(By.CSS_SELECTOR, selector)]


def trials_in_order(browser: Chrome) -> list[int]:
    rows = browser.find_elements(By.CSS_SELECTOR, ".leaderboard tbody:not(.beside) tr")
    return [int(row.get_attribute("data-trial")) for row in rows]
