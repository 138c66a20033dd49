"""The page of studies in Chromium: what one can choose, sort and filter."""

import re

import pytest
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import Select

from search.report.page_html import write_html
from tests.browser import console_errors
from tests.search.report.conftest import texts, trials_in_order
from tests.search.report.page_study import data_of, write_study

MINUS = "\N{MINUS SIGN}"


def panel_value(browser: Chrome) -> str | None:
    panel = Select(browser.find_element(By.CSS_SELECTOR, ".choose select"))
    return panel.first_selected_option.get_attribute("value")


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
