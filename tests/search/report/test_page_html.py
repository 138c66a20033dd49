"""The page of studies: what it holds, and in Chromium what one sees of it."""

import base64
import json
import os
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner
from PIL import Image
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from search.cli.main import main
from search.ledger.journal import Ledger
from search.report.page_html import MAX_BYTES, write_html
from search.report.page_images import _is_of_a_trial
from search.workflows.run_study import update_page
from tests.search.report.conftest import texts, trials_in_order
from tests.search.report.page_study import HOSTILE, data_of, write_study

RUNS = 100
"""Trials of the large study."""


def test_page_holds_what_the_study_has(page, runs):
    [study] = data_of(page)["studies"]
    assert [row["trial"] for row in study["trials"]][:2] == [13, 11]
    detail = study["details"]["13"]
    assert (detail["epochs"][-1], len(detail["values"])) == (9, 9)
    assert detail["values"][-1] == study["trials"][0]["value"]
    assert detail["decisions"] == [{"epoch": 9, "action": "continue", "reason": "rung 3: judged"}]
    assert [case["group"] for case in study["cases"]] == [
        ">=20 mL", "5-20 mL", "5-20 mL", "<5 mL", "<5 mL", "<5 mL", "<5 mL", "empty",
    ]  # fmt: skip
    assert study["rungs"] == [{"epoch": 3, "judged": 14, "stopped": 6}]
    assert study["begun"]["commit"] == "3" * 40
    [pictures] = data_of(page)["pictures"]
    assert (len(pictures["by_trial"]), pictures["painted"]) == (4, 4)


def test_nothing_on_the_page_is_fetched(page):
    markup = re.sub(
        r'<script type="application/json".*?</script>', "", page.read_text(), flags=re.S
    )
    assert set(re.findall(r"https?://[^\s\"']+", markup)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\(|<link(?! rel=\"icon\" href=\"data:)|\ssrc=", markup)
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', markup)
    assert policy and policy[1].startswith("default-src 'none';")
    assert "unsafe" not in policy[1]


def test_best_verdict_and_leaderboard(browser, page):
    browser.get(page.as_uri())
    [said] = texts(browser, ".answer")
    [study] = data_of(page)["studies"]
    assert said == study["answer"].replace("`", "") and f"{study['study']}:13 is best" in said
    [command] = texts(browser, ".answer code")
    assert command.startswith(f"segtune confirm {study['study']} --runs /")
    cards = dict(zip(texts(browser, ".card h3"), texts(browser, ".card"), strict=True))
    assert "trial 13" in cards["Best of the search"]
    assert "selected on, optimistic" in cards["Best of the search"]
    assert "exploratory" in cards["Is it really better?"]
    assert "12 searched trials: 6 completed, 6 stopped" in cards["What it cost"]
    assert trials_in_order(browser) == [row["trial"] for row in study["trials"]]
    beside = texts(browser, ".leaderboard .beside .trial-link")
    assert beside == ["control (U-Net)", "reference (trial 1)"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_all_within_its_width(browser, page, scheme):
    sizes = {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True}
    before = {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", sizes)
    try:
        browser.get(page.as_uri())
        widths = browser.execute_script(
            "return [innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]"
        )
        assert widths == [360, 360, 360]
        least = browser.execute_script(CONTRAST)
        assert least["ratio"] >= 4.5, least
    finally:
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", before)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


CONTRAST = """
const part = (c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const numbers = (text) => text.match(/[\\d.]+/g).map(Number);
const light = ([r, g, b]) => 0.2126 * part(r) + 0.7152 * part(g) + 0.0722 * part(b);
const behind = (node) => {
  for (; node; node = node.parentElement) {
    const colour = numbers(getComputedStyle(node).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour;
  }
  return [255, 255, 255];
};
let least = {ratio: 99};
const texts = "p, th, td, small, dd, dt, h3, button, .badge, svg text";
for (const node of document.querySelectorAll(texts)) {
  const style = getComputedStyle(node);
  const colour = numbers(node.closest("svg") ? style.fill : style.color);
  const [a, b] = [light(colour), light(behind(node))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (node.textContent.trim() && ratio < least.ratio) {
    least = {ratio, text: node.textContent.slice(0, 40), tag: node.tagName};
  }
}
return least;
"""
"""The least contrast of a text with what is behind it (WCAG 2.1, 1.4.3: 4.5)."""


def test_no_column_is_scrolled_away_on_a_screen(browser, page):
    metrics = {"width": 1400, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        browser.get(page.as_uri())
        board = browser.find_element(By.CSS_SELECTOR, ".leaderboard")
        size = [board.get_property(name) for name in ("scrollWidth", "clientWidth")]
        assert size[0] <= size[1] and len(board.find_elements(By.CSS_SELECTOR, "thead th")) > 12
    finally:
        metrics["width"] = 1280
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)


def test_page_prints_without_clipped_tables(browser, page, tmp_path):
    browser.get(page.as_uri())
    printed = browser.execute_cdp_cmd("Page.printToPDF", {"preferCSSPageSize": True})
    assert base64.b64decode(printed["data"]).startswith(b"%PDF")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        clipped = browser.execute_script(
            "const clips = box => getComputedStyle(box).overflowX !== 'visible'"
            " || box.scrollHeight > box.clientHeight + 1;"
            "return [...document.querySelectorAll('.scroll')].filter(clips).length"
        )
        assert clipped == 0
        assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == (
            "rgb(255, 255, 255)"
        )
        assert browser.find_element(By.CSS_SELECTOR, ".trial details table").is_displayed()
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


@pytest.mark.parametrize("name", ["../secret.png", "trials/../../secret.png", "{}/secret.png"])
def test_a_picture_from_elsewhere_is_on_no_page(tmp_path, name):
    folder = write_study(tmp_path / "study", num_trials=3, pictured=1)
    Image.new("RGB", (8, 8)).save(tmp_path / "secret.png")
    assert _is_of_a_trial(folder, "trials/0001/samples/a.png")
    assert not _is_of_a_trial(folder, name.format(tmp_path))
    (folder / "trials" / "link.png").symlink_to(tmp_path / "secret.png")
    assert not _is_of_a_trial(folder, "trials/link.png")


def test_hostile_names_are_text(browser, runs, tmp_path):
    write_html([runs / "hostile"], tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert browser.title == "segtune: hostile"
    trial = browser.find_element(By.CSS_SELECTOR, ".trial").text
    assert f"case0{HOSTILE}" in trial and f"judged{HOSTILE}" in trial and "node" in trial
    images = browser.find_elements(By.CSS_SELECTOR, "img")
    assert all(each.get_attribute("src").startswith("data:image/") for each in images)


def test_several_studies_side_by_side(browser, runs, tmp_path):
    write_html([runs / "small", runs / "hostile"], tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert texts(browser, "h1") == ["2 studies"] and texts(browser, "h2") == ["small", "hostile"]
    rows = texts(browser, "main > .scroll tbody tr")
    assert [row.split()[0] for row in rows] == ["small", "hostile"]
    # A choice in one study leaves the other alone.
    browser.find_element(By.CSS_SELECTOR, "#s1 tr[data-trial='0'] .trial-link").click()
    chosen = browser.find_elements(By.CSS_SELECTOR, ".leaderboard tr.chosen")
    assert [each.get_attribute("data-trial") for each in chosen] == ["3", "0"]


@pytest.mark.parametrize("state", ["empty", "running"])
def test_a_study_that_has_just_begun(browser, tmp_path, state):
    write_study(tmp_path / "young", num_trials=3)
    path = tmp_path / "young" / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    kept = {"empty": 3, "running": 12}[state]
    path.write_text("".join(lines[:kept]))
    write_html([tmp_path / "young"], tmp_path / "page.html")
    browser.get((tmp_path / "page.html").as_uri())
    assert "No trial has a result yet." in browser.find_element(By.TAG_NAME, "body").text
    assert "not finished" in texts(browser, ".badge")


@pytest.mark.slow
def test_pictures_fill_the_room_and_the_page_says_so(browser, tmp_path, monkeypatch):
    folder = write_study(tmp_path / "many", num_trials=6, pictured=6)
    with Image.open(next(folder.glob("trials/0007/samples/*-path.png"))) as picture:
        assert picture.size == (1110, 580)
    write_html([folder], tmp_path / "all.html")
    size = (tmp_path / "all.html").stat().st_size
    monkeypatch.setattr("search.report.page_html.MAX_BYTES", size - 4000)
    write_html([folder], tmp_path / "some.html")
    assert (tmp_path / "some.html").stat().st_size <= size - 4000
    data = data_of(tmp_path / "some.html")
    [study], [pictures] = data["studies"], data["pictures"]
    with_pictures = [*pictures["by_trial"]]
    assert 2 <= len(with_pictures) <= 7
    assert {"0", str(study["trials"][0]["trial"])} <= set(with_pictures)
    browser.get((tmp_path / "some.html").as_uri())
    last = str(study["trials"][-1]["trial"])
    Select(browser.find_element(By.CSS_SELECTOR, ".choose select")).select_by_value(last)
    assert "in the study's folder" in browser.find_element(By.CSS_SELECTOR, ".trial").text


def test_a_picture_that_is_none_is_left_out(tmp_path, caplog):
    folder = write_study(tmp_path / "study", num_trials=3, pictured=1)
    for path in folder.glob("trials/*/samples/*-path.png"):
        path.write_bytes(b"<script>not a picture</script>")
    (folder / "trials/0000/samples/epoch0009-case0.png").unlink()
    [fifo] = folder.glob("trials/0004/samples/*-case0.png")
    fifo.unlink()
    os.mkfifo(fifo)  # which would keep whoever opens it waiting
    write_html([folder], tmp_path / "page.html")
    [pictures] = data_of(tmp_path / "page.html")["pictures"]
    assert [each["name"] for each in pictures["by_trial"]["0"]] == ["epoch0009-case1.png"]
    said = [message.split(": not on the page: ") for message in caplog.messages]
    reasons = {"No such file or directory", "not a picture", "is no regular file"}
    assert {reason for _, reason in said} == reasons and len(said) == 3, "a line a reason"
    [several] = [path for path, reason in said if reason == "not a picture"]
    assert re.search(r"-path\.png and \d+ more$", several)


def test_a_picture_is_coded_again_once_it_is_another(tmp_path, monkeypatch):
    folder, coded = write_study(tmp_path / "study", num_trials=1, pictured=1), []
    monkeypatch.setattr(Image.Image, "save", spied(Image.Image.save, coded))
    for _ in range(2):
        write_html([folder], tmp_path / "page.html")
    assert len(coded) == 4
    path = next(folder.glob("trials/*/samples/*-case0.png"))
    path.write_bytes(path.read_bytes() + b"\0")
    write_html([folder], tmp_path / "page.html")
    assert len(coded) == 5


def spied(function, calls):
    def spy(*given, **named):
        calls.append(given)
        return function(*given, **named)

    return spy


def test_command_writes_the_page_or_nothing(runs, tmp_path):
    words = ["compare", "small", "hostile", "--runs", str(runs), "--html"]
    result = CliRunner().invoke(main, [*words, str(tmp_path / "page.html")])
    assert (result.exit_code, result.output) == (0, f"wrote {tmp_path}/page.html\n")
    assert [study["study"] for study in data_of(tmp_path / "page.html")["studies"]] == [
        "small", "hostile",
    ]  # fmt: skip
    before = sorted(tmp_path.rglob("*"))
    for bad in (tmp_path / "none" / "page.html", tmp_path):
        result = CliRunner().invoke(main, [*words, str(bad)])
        assert result.exit_code == 2
        assert result.output.count("\n") == 1 and result.output.startswith(f"{bad}: ")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_page_that_cannot_be_written_ends_no_launch(tmp_path, capsys):
    update_page(tmp_path)
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("Page     not written: ") and "ledger.jsonl" in line
    assert not list(tmp_path.iterdir())


def test_importing_it_imports_neither_ray_nor_torch():
    code = (
        "import search.report.page_html, sys; "
        "print(sorted({'ray', 'torch', 'optuna'} & {*sys.modules}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout == "[]\n"


def test_a_real_study(browser, calm):
    """What `launch` left in the folder of a study that was trained, not written by hand."""
    page = calm.folder / "report.html"
    assert f"Page     {page}" in calm.log.read_text()
    browser.get(page.as_uri())
    [study] = data_of(page)["studies"]
    assert study["finished"] and study["rungs"]
    assert trials_in_order(browser) == [row["trial"] for row in study["trials"]]
    assert "control (U-Net)" in browser.find_element(By.CSS_SELECTOR, ".strip").text


@pytest.mark.nightly
def test_a_hundred_trials_stay_below_five_megabytes(browser, tmp_path):
    folder = write_study(tmp_path / "large", num_trials=RUNS, max_t=81, num_cases=30, pictured=RUNS)
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        for number in range(2, RUNS + 2):  # so many that they cannot all fit
            files = [path.name for path in (folder / f"trials/{number:04d}/samples").iterdir()]
            again = [f"samples/{name}" for name in files * 3]
            ledger.append({"event": "painted", "trial": number, "epoch": 9, "files": again})
    write_html([folder], tmp_path / "page.html")
    size = (tmp_path / "page.html").stat().st_size
    assert 0.9 * MAX_BYTES < size <= MAX_BYTES
    data = data_of(tmp_path / "page.html")
    [study], [pictures] = data["studies"], data["pictures"]
    assert 0 < len(pictures["by_trial"]) < pictures["painted"] == RUNS + 1
    assert json.dumps(study["details"]["101"]["values"])
    browser.get((tmp_path / "page.html").as_uri())
    assert len(trials_in_order(browser)) == RUNS
