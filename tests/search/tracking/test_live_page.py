"""The study's own page beside MLflow's: what a server answers, and how it follows a study."""

import asyncio
import gzip
import html
import json
import math
from pathlib import Path
from typing import Any

import pytest
from selenium.webdriver import Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select, WebDriverWait

from search.ledger.journal import Ledger
from search.tracking import live_page
from search.tracking.live_page import DATA, PAGE, LivePage
from search.tracking.server import served
from tests.browser import chromium, console_errors
from tests.search.report.page_study import write_study


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A study of three trials."""
    write_study(tmp_path / "runs" / "ours", num_trials=3)
    return tmp_path / "runs" / "ours"


def renamed(folder: Path, trial: int, note: str) -> None:
    """Let a study have one more event."""
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append({"event": "note", "trial": trial, "text": note, "time": 1.0, "by": "me"})


def asked(
    app: LivePage, path: str, tag: bytes = b"", *, takes: bytes = b""
) -> tuple[int, dict[bytes, bytes], bytes]:
    said: list[Any] = []

    async def send(message: Any) -> None:
        said.append(message)

    headers = [(b"if-none-match", tag), (b"accept-encoding", takes)]
    scope = {"type": "http", "method": "GET", "path": path, "headers": headers}
    asyncio.run(app(scope, None, send))  # type: ignore[arg-type]
    return said[0]["status"], dict(said[0]["headers"]), said[1]["body"]


async def others(scope: Any, receive: Any, send: Any) -> None:
    """What stands behind the page."""
    await send({"type": "http.response.start", "status": 299, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_a_page_and_what_is_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_page, "PERIOD_S", 0.0)
    monkeypatch.setattr(live_page, "SHARE", math.inf)
    app = LivePage(others, folder)
    status, headers, body = asked(app, PAGE)
    assert status == 200 and f'data-live="{DATA}"' in body.decode()
    assert "connect-src 'self'" in body.decode() and headers[b"cache-control"] == b"no-store"
    status, headers, body = asked(app, DATA)
    data = json.loads(body)
    assert status == 200 and data["studies"][0]["study"] == "ours"
    tag = headers[b"etag"]
    assert asked(app, DATA, tag)[0] == 304
    assert html.escape(tag.decode()) in asked(app, PAGE)[2].decode()  # which asks for what is newer
    renamed(folder, 3, "look at this one")
    status, headers, body = asked(app, DATA, tag)
    assert status == 200 and headers[b"etag"] != tag
    new, [before] = json.loads(body), data["studies"]
    assert [*new["rows"]] == ["3"] and new["rows"]["3"]["notes"] == ["look at this one"]
    assert (new["details"], new["rest"]["studies"][0]["details"]) == ({}, {})
    assert new["pictures"] == dict.fromkeys(data["pictures"][0]["by_trial"]) != {}
    ranks = ("trial", "rank", "rank_at_equal")
    assert new["order"] == [[row[key] for key in ranks] for row in before["trials"]]
    # To one that has none, or one that is long gone, all of it.
    assert json.loads(asked(app, DATA, b'"1-2-False"')[2])["studies"][0]["trials"]


def test_an_answer_is_compressed_where_that_is_understood(folder: Path) -> None:
    app = LivePage(others, folder)
    plain, packed = (asked(app, DATA, takes=takes) for takes in (b"br", b"gzip, br"))
    assert b"content-encoding" not in plain[1] and packed[1][b"content-encoding"] == b"gzip"
    assert gzip.decompress(packed[2]) == plain[2] and len(packed[2]) < 0.6 * len(plain[2])


def test_all_else_is_mlflows(folder: Path) -> None:
    app = LivePage(others, folder)
    assert [asked(app, path)[0] for path in ("/", "/segtune/", "/segtune/datax")] == [299] * 3


def test_a_study_that_cannot_be_read_is_said_so(folder: Path) -> None:
    (folder / "ledger.jsonl").write_text("damaged\n" * 3)
    status, _, body = asked(LivePage(others, folder), DATA)
    assert status == 503 and b"ledger.jsonl" in body


@pytest.mark.slow
def test_in_chromium_it_follows_and_what_a_reader_chose_stays(folder: Path, tmp_path: Path) -> None:
    with (
        served(f"sqlite:///{tmp_path}/mlflow.db", folder) as server,
        chromium(tmp_path / "profile") as browser,
    ):
        browser.get(server.address + PAGE)
        assert "403" in browser.find_element(By.TAG_NAME, "body").text
        browser.get(server.first(f"{server.address}/#"))
        browser.get(f"{server.address}{PAGE}#trial-2")
        wait = WebDriverWait(browser, 240)
        wait.until(lambda _: "follows" in browser.find_element(By.ID, "live").text)
        row = ".leaderboard tr[data-trial='3'] button"
        browser.find_element(By.CSS_SELECTOR, row).send_keys(Keys.ENTER)
        console_errors(browser)  # of the refusal, and of MLflow's own pages
        renamed(folder, 3, "look at this one")
        wait.until(lambda _: "look at this one" in browser.find_element(By.TAG_NAME, "main").text)
        panel = Select(browser.find_element(By.CSS_SELECTOR, ".choose select"))
        assert panel.first_selected_option.get_attribute("value") == "3"
        assert browser.switch_to.active_element == browser.find_element(By.CSS_SELECTOR, row)
        assert not console_errors(browser)
