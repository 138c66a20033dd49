"""Takes the pictures of MLflow and the page: `python -m docs.screenshots RUNS/STUDY docs`.

It sends the study to MLflow, serves it as `segtune ui` does, and opens its pages in Chromium; then
the page that `segtune compare STUDY --html FILE` writes.
"""

import json
import sys
import tempfile
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from PIL import Image
from selenium.webdriver import Chrome
from selenium.webdriver.support.ui import WebDriverWait

from search.report.page_html import write_html
from search.storage.studies import read_study
from search.tracking.address import tracking_uri
from search.tracking.descriptions import page_address, short
from search.tracking.server import Served, served
from search.tracking.sync import sync
from tests.browser import chromium

WIDTH = 1200
WAIT_S = 120.0
MAX_COMPARED = 8
PLOT = ".js-plotly-plot svg.main-svg"
AXES = ".parcoords text.label"


def take(folder: Path, out: Path) -> list[Path]:
    """Write `mlflow-runs.png`, `mlflow-charts.png` and `mlflow-compare.png`.

    Args:
        folder: A study's.
        out: Where the pictures go.
    """
    print(sync(folder))
    runs = folder.resolve().parent
    with (
        served(tracking_uri(runs), folder) as server,
        tempfile.TemporaryDirectory() as profile,
        chromium(Path(profile), width=WIDTH, height=860) as browser,
    ):
        client = MlflowClient(tracking_uri(runs))
        experiment = client.get_experiment_by_name(folder.resolve().name)
        id_, objective = experiment.experiment_id, read_study(folder)[0].objective
        order = f"metrics.`final/{short(objective.metric)}` "
        order += "DESC" if objective.mode == "max" else "ASC"
        best = client.search_runs([id_], "tags.kind = 'sampled'", order_by=[order])
        quiet(browser, server)
        page = page_address(server.address, id_)
        shots = [
            shoot(browser, page, "[role=row] a", len(best[:5]), out / "mlflow-runs.png"),
            shoot(browser, f"{page}&compareRunsMode=CHART", AXES, 2, out / "mlflow-charts.png"),
        ]
        compared = quote(json.dumps([run.info.run_id for run in best[:MAX_COMPARED]]))
        both = f"runs={compared}&experiments={quote(json.dumps([id_]))}"
        compare = f"{server.address}/#/compare-runs?{both}"
        return [*shots, shoot(browser, compare, PLOT, 1, out / "mlflow-compare.png")]


def quiet(browser: Chrome, server: Served) -> None:
    """Enter, and close what MLflow opens at a first visit, as a click would."""
    browser.get(server.first(f"{server.address}/#"))
    kept = {
        "mlflow.assistant.panelOpen_v1": "false",
        "mlflow.assistant.fab.autoOpenedOnFirstLoad_v1": "true",
        "mlflow.workflowType_v1": '"machine_learning"',
    }
    for name, value in kept.items():
        browser.execute_script("localStorage.setItem(arguments[0], arguments[1])", name, value)


def take_page(folder: Path, out: Path) -> list[Path]:
    """Write `page.png`, the first screen of the study's page, and `page-charts.png`, its charts.

    Args:
        folder: A study's.
        out: Where the pictures go.
    """
    shots = [out / "page.png", out / "page-charts.png"]
    with (
        tempfile.TemporaryDirectory() as temporary,
        chromium(Path(temporary) / "profile", width=WIDTH, height=1240) as browser,
    ):
        page = Path(temporary) / "page.html"
        write_html([folder], page)
        browser.get(page.as_uri())
        browser.save_screenshot(str(shots[0]))
        browser.execute_script("document.querySelector('[id$=curves]').scrollIntoView()")
        browser.save_screenshot(str(shots[1]))
    return [smaller(shot, colors=192) for shot in shots]


def shoot(browser: Chrome, address: str, awaited: str, count: int, out: Path) -> Path:
    """Open a page, wait until it has so many of some element, and take its picture."""
    browser.get("about:blank")
    browser.get(address)
    script = "return document.querySelectorAll(arguments[0]).length >= arguments[1]"
    WebDriverWait(browser, WAIT_S).until(lambda b: b.execute_script(script, awaited, count))
    # What MLflow says of saved views is none of the picture's business.
    browser.execute_script(
        "for (const b of document.querySelectorAll('[role=alert] button, [class*=alert] button'))"
        " if (!b.innerText.trim()) b.click()"
    )
    browser.execute_async_script("setTimeout(arguments[0], 4000)")  # charts fade in
    browser.save_screenshot(str(out))
    return smaller(out)


def smaller(out: Path, colors: int = 256) -> Path:
    """Keep so many colors of a picture: enough for a page, and a third of the bytes."""
    picture = Image.open(out).convert("RGB").quantize(colors, dither=Image.Dither.NONE)
    picture.save(out, optimize=True)
    return out


if __name__ == "__main__":
    study, pictures = Path(sys.argv[1]), Path(sys.argv[2])
    for picture in [*take(study, pictures), *take_page(study, pictures)]:
        print(f"{picture}: {picture.stat().st_size / 1000:.0f} kB")
