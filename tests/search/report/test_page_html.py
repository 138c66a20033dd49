"""The page of studies: what it holds, and in Chromium what one sees of it and can do."""

import base64
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from PIL import Image
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from search.cli.main import main
from search.ledger.journal import Ledger
from search.report.page_html import MAX_BYTES, write_html
from search.report.page_images import _is_of_a_trial
from search.workflows.run_study import update_page
from tests.browser import chromium, console_errors
from tests.search.report.page_study import HOSTILE, data_of, write_study

MINUS = "\N{MINUS SIGN}"
RUNS = 100
"""Trials of the large study."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of studies."""
    runs = tmp_path_factory.mktemp("runs")
    write_study(runs / "ours", num_trials=12)
    write_study(runs / "small", num_trials=3)
    write_study(runs / "hostile", num_trials=3, hostile=HOSTILE)
    return runs


@pytest.fixture(scope="module")
def page(runs: Path) -> Path:
    """The page of one study."""
    write_html([runs / "ours"], runs / "page.html")
    return runs / "page.html"


@pytest.fixture(scope="module")
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


def panel_value(browser: Chrome) -> str | None:
    panel = Select(browser.find_element(By.CSS_SELECTOR, ".choose select"))
    return panel.first_selected_option.get_attribute("value")


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


def test_of_many_trials_the_first_are_drawn_and_the_others_on_demand(browser, tmp_path):
    folder = write_study(tmp_path / "many", num_trials=203, num_cases=1, pictured=0)
    write_html([folder], tmp_path / "page.html")
    [study] = data_of(tmp_path / "page.html")["studies"]
    ranking = [row["trial"] for row in study["trials"]]
    assert len(ranking) == 203 and len(study["details"]) == 205
    browser.get(f"{(tmp_path / 'page.html').as_uri()}#trial-{ranking[202]}")
    assert trials_in_order(browser) == [*ranking[:200], ranking[202]]  # that which is chosen, too
    assert texts(browser, ".kept") == ["203 trials"]
    button = browser.find_element(By.CSS_SELECTOR, ".rest button")
    assert button.text == "Show all 203 rows: the first 200 are here"
    button.send_keys(Keys.ENTER)
    assert trials_in_order(browser) == ranking and not button.is_displayed()


def test_columns_sort_both_ways(browser, page):
    browser.get(page.as_uri())
    rows = {row["trial"]: row for row in data_of(page)["studies"][0]["trials"]}
    heads = browser.find_elements(By.CSS_SELECTOR, ".leaderboard thead th")
    head = next(head for head in heads if head.text.replace("\n", "") == "optimizer.lr")
    button = head.find_element(By.TAG_NAME, "button")
    rate = {number: row["params"]["optimizer.lr"] for number, row in rows.items()}
    browser.execute_script("arguments[0].focus()", button)
    button.send_keys(Keys.ENTER)
    assert trials_in_order(browser) == sorted(rate, key=rate.__getitem__)
    assert head.get_attribute("aria-sort") == "ascending"
    button.send_keys(Keys.ENTER)
    assert trials_in_order(browser) == sorted(rate, key=rate.__getitem__, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"


def test_what_is_missing_is_sorted_last(browser, page):
    browser.get(page.as_uri())
    heads = browser.find_elements(By.CSS_SELECTOR, ".leaderboard thead th button")
    button = next(h for h in heads if "warm_in_fraction" in h.text.replace("\n", ""))
    rows = data_of(page)["studies"][0]["trials"]
    without = {row["trial"] for row in rows if "loss.warm_in_fraction" not in row["params"]}
    for _ in range(2):
        browser.execute_script("arguments[0].click()", button)
        assert set(trials_in_order(browser)[-len(without) :]) == without


def test_a_chosen_trial_shows_picture_config_decisions_and_cases(browser, page):
    browser.get(page.as_uri())
    browser.find_element(By.CSS_SELECTOR, "tr[data-trial='11'] .trial-link").click()
    [study] = data_of(page)["studies"]
    row = next(row for row in study["trials"] if row["trial"] == 11)
    chosen = browser.find_elements(By.CSS_SELECTOR, ".leaderboard tr[aria-current=true]")
    assert [each.get_attribute("data-trial") for each in chosen] == ["11"]
    pictures = browser.find_elements(By.CSS_SELECTOR, ".trial img")
    assert [p.get_attribute("alt").split(":")[0] for p in pictures] == [
        "trial 11, case case0 after epoch 9",
        "trial 11, case case1 after epoch 9",
        "trial 11, case case0 after epoch 9",
    ] and pictures[2].get_attribute("alt").endswith("path from noise to mask")
    assert all(browser.execute_script("return arguments[0].naturalWidth", p) for p in pictures)
    trial = browser.find_element(By.CSS_SELECTOR, ".trial").text
    assert f"{row['params']['optimizer.lr']} 0.0001 searched" in trial
    assert "epoch 9: continue, rung 3: judged" in trial
    assert "case0" in trial and "≥ 20 mL" in trial
    summary = browser.find_element(By.CSS_SELECTOR, ".all-settings summary")
    summary.click()
    differs = dict(cells.split()[:2] for cells in texts(browser, ".all-settings tr.differs"))
    assert differs["optimizer.lr"] == str(row["params"]["optimizer.lr"])
    lines = browser.find_elements(By.CSS_SELECTOR, "path.line.chosen[data-trial='11']")
    assert len(lines) == 2  # its curve, and its line across the settings


def test_an_address_names_a_trial_and_back_undoes_a_choice(browser, page):
    browser.get(f"{page.as_uri()}#trial-7")
    assert panel_value(browser) == "7"
    link = browser.find_element(By.CSS_SELECTOR, ".leaderboard tr[data-trial='11'] button")
    link.send_keys(Keys.ENTER)
    assert browser.current_url.endswith("#trial-11")
    assert panel_value(browser) == "11"
    browser.back()
    assert panel_value(browser) == "7"


def test_the_focus_stays_where_it_was(browser, page):
    """The table's rows are drawn anew at each choice."""
    browser.get(page.as_uri())
    row = ".leaderboard tr[data-trial='11'] button"
    browser.find_element(By.CSS_SELECTOR, row).send_keys(Keys.ENTER)
    focused = browser.switch_to.active_element
    assert focused == browser.find_element(By.CSS_SELECTOR, row)


def test_two_trials_side_by_side(browser, page):
    """Their settings, their curves, and the difference of Dice as Python has it."""
    browser.get(f"{page.as_uri()}#trial-13")
    Select(browser.find_element(By.CSS_SELECTOR, ".beside-choice")).select_by_value("7")
    [study] = data_of(page)["studies"]
    [pair] = [each for each in study["contrasts"] if {each["one"], each["other"]} == {13, 7}]
    assert pair["interval"] is None or len(pair["interval"]) == 2
    assert f"{abs(pair['mean']):.3f}" in texts(browser, ".contrast")[0]
    table = browser.find_element(By.XPATH, "//table[caption='settings that differ']").text
    assert "trial 13" in table and "trial 7" in table and "optimizer.lr" in table
    assert len(browser.find_elements(By.CSS_SELECTOR, ".pair path.line")) >= 2
    heads = texts(browser, ".cases thead th")
    assert any("trial 7" in head for head in heads)
    Select(browser.find_element(By.CSS_SELECTOR, ".choose select")).select_by_value("7")
    assert "Beside control (U-Net)" in texts(browser, ".trial h4"), "not beside itself"


def test_subgroups_of_the_trial_beside_the_controls(browser, page):
    browser.get(page.as_uri())
    Select(browser.find_element(By.CSS_SELECTOR, ".choose select")).select_by_value("13")
    [study] = data_of(page)["studies"]
    group = [i for i, case in enumerate(study["cases"]) if case["group"] == "5-20 mL"]
    expected = []
    for number in ("13", "0"):
        dice = study["details"][number]["scores"]["dice"]
        expected.append(sum(dice[i] for i in group) / len(group))
    [row] = [r for r in texts(browser, ".trial tbody tr") if re.match("5.20 mL", r)]
    cells = [float(cell.replace(MINUS, "-")) for cell in row.split()[2:6]]
    assert cells[0] == len(group)
    assert cells[1:3] == pytest.approx(expected, abs=6e-4)
    assert cells[3] == pytest.approx(expected[0] - expected[1], abs=6e-4)


def test_brushing_an_axis_filters_table_and_charts(browser, page):
    browser.get(page.as_uri())
    [study] = data_of(page)["studies"]
    grip = browser.find_element(By.CSS_SELECTOR, "[data-axis='Dice']")
    height = grip.size["height"]
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", grip)
    drag = ActionChains(browser).move_to_element_with_offset(grip, 0, -height // 2 + 9)
    drag.click_and_hold().move_by_offset(0, height // 4).move_by_offset(0, height // 6).release()
    drag.perform()
    kept = trials_in_order(browser)
    value = {row["trial"]: row["value"] for row in study["trials"]}
    assert 0 < len(kept) < len(value)
    assert min(value[t] for t in kept) > max(v for t, v in value.items() if t not in kept)
    assert f"{len(kept)} of 12" in texts(browser, ".kept")
    faded = {
        int(line.get_attribute("data-trial"))
        for line in browser.find_elements(By.CSS_SELECTOR, "path.line.searched.faded")
    }
    assert faded == set(value) - set(kept)
    browser.find_element(By.CSS_SELECTOR, ".ranges button").click()
    assert len(trials_in_order(browser)) == 12


def test_axes_narrow_by_keyboard(browser, page):
    browser.get(page.as_uri())
    grip = browser.find_element(By.CSS_SELECTOR, "[data-axis='optimizer.lr']")
    browser.execute_script("arguments[0].focus()", grip)
    for _ in range(6):
        ActionChains(browser).send_keys(Keys.ARROW_UP).perform()
    kept = trials_in_order(browser)
    [study] = data_of(page)["studies"]
    rate = {row["trial"]: row["params"]["optimizer.lr"] for row in study["trials"]}
    assert set(kept) == {t for t, lr in rate.items() if lr >= 10 ** (-5 + 0.3 * 3)}
    ActionChains(browser).send_keys(Keys.ESCAPE).perform()
    assert len(trials_in_order(browser)) == 12


def test_new_data_leave_what_a_reader_chose(browser, page):
    browser.get(page.as_uri())
    rate = "[data-axis='optimizer.lr']"
    browser.execute_script(f'document.querySelector("{rate}").focus()')
    for key in (Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_UP, Keys.ARROW_DOWN):
        ActionChains(browser).send_keys(key).perform()
    value = "[data-axis='Dice']"
    browser.execute_script(f'document.querySelector("{value}").focus()')
    ActionChains(browser).send_keys(Keys.ARROW_UP).perform()
    kept = trials_in_order(browser)
    assert 0 < len(kept) < 12
    large = browser.execute_script(
        "document.querySelector('details.all-settings').open = true;"
        "const [, second] = document.querySelectorAll('figure[data-slice]');"
        "second.querySelector('button').click(); return second.dataset.slice"
    )
    # A learning rate and a Dice beyond the axes, and one thing less that could be opened.
    browser.execute_script(
        "const data = JSON.parse(document.getElementById('data').textContent);"
        "const [study] = data.studies; const [best] = study.trials;"
        "const among = study.trials.find((row) => row.trial === arguments[0]);"
        "const add = (trial, row) => { study.trials.push({ ...among, rank: null, trial, ...row });"
        "  study.details[trial] = study.details[among.trial]; };"
        "add(98, { params: { ...among.params, 'optimizer.lr': 1 } });"
        "add(99, { value: 2 * best.value });"
        "for (const each of Object.values(study.details)) delete each.training;"
        "renew(data)",
        kept[0],
    )
    assert set(trials_in_order(browser)) == {*kept, 99}
    opened = "return [...document.querySelectorAll('details')].map((each) => each.open)"
    assert browser.execute_script(opened) == [True]
    [figure] = browser.find_elements(By.CSS_SELECTOR, "figure.large")
    assert figure.get_attribute("data-slice") == large
    assert not console_errors(browser)


def test_endings_that_are_unchecked_leave_the_table(browser, page):
    browser.get(page.as_uri())
    browser.find_element(By.CSS_SELECTOR, ".filter input[value=stopped]").click()
    rows = data_of(page)["studies"][0]["trials"]
    assert trials_in_order(browser) == [r["trial"] for r in rows if r["ending"] == "completed"]


def test_a_click_on_a_curve_chooses_its_trial(browser, page):
    browser.get(page.as_uri())
    line = browser.find_element(By.CSS_SELECTOR, "[id$=curves] path.line[data-trial='0']")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", line)
    point = browser.execute_script(
        "const p = arguments[0].getPointAtLength(arguments[0].getTotalLength());"
        "const b = arguments[0].ownerSVGElement.getBoundingClientRect();"
        "return [Math.round(b.left + p.x), Math.round(b.top + p.y)]", line
    )  # fmt: skip
    actions = ActionChains(browser)
    actions.w3c_actions.pointer_action.move_to_location(*point)
    actions.click().perform()
    assert "control (U-Net), never pruned" in browser.find_element(By.CSS_SELECTOR, ".facts").text


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
    assert {reason for _, reason in said} == reasons
    assert len({path for path, _ in said}) == len(said)


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
