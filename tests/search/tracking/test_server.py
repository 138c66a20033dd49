"""`segtune ui` and `segtune sync`, and a server that goes away in the middle of a study."""

import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from click.testing import CliRunner
from mlflow import MlflowClient
from selenium.webdriver.support.ui import WebDriverWait

from search.cli.main import main
from search.tracking.client import connect
from search.tracking.descriptions import page_address
from tests.browser import chromium, console_errors
from tests.search import offline
from tests.search.conftest import ROOT, Driver, free_port, write_study
from tests.search.execution.test_access import listening
from tests.search.tracking.mlflow_content import content, experiment_runs


@pytest.fixture(scope="module")
def offline_runs(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    """A runs folder with a small finished study that MLflow knows nothing of."""
    runs = tmp_path_factory.mktemp("offline")
    offline.finished(runs / "toy", store, trials={"num_trials": 1}, enqueue=[])
    return runs


@pytest.fixture
def runs(offline_runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return Path(shutil.copytree(offline_runs, tmp_path / "runs"))


def segtune(*words: str | Path) -> tuple[int, list[str]]:
    result = CliRunner().invoke(main, [*map(str, words)])
    return result.exit_code, result.output.splitlines()


def test_sync_sends_what_is_missing_once(
    runs: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sends what is missing and says so; a second time nothing; elsewhere everything once more."""
    (tmp_path / "elsewhere").mkdir()
    here, there = f"sqlite:///{runs}/mlflow.db", f"sqlite:///{tmp_path}/elsewhere/mlflow.db"
    connect(here)
    shutil.copy(runs / "mlflow.db", tmp_path / "elsewhere")
    assert segtune("ui", "toy", "--runs", runs) == (
        2, [f"{runs}/toy: MLflow at {here} does not have this study yet: segtune sync toy sends it"]
    )  # fmt: skip
    status, [line] = segtune("sync", "toy", "--runs", runs)
    assert status == 0 and line.startswith("toy: sent ") and line.endswith(f" to MLflow at {here}")
    everything = f"toy: MLflow at {here} has everything"
    assert segtune("sync", "toy", "--runs", runs) == (0, [everything])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", there)
    assert segtune("sync", "toy", "--runs", runs)[1][0].startswith("toy: sent ")
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    one, other = content(here), content(there)
    assert one["runs"].keys() == other["runs"].keys() == {"toy", "0000 control", "0001"}
    assert one["runs"]["0001"]["metrics"] == other["runs"]["0001"]["metrics"]


def test_sync_without_a_server_or_beside_a_driver(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line and status 2, without Ray."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    status, [line] = segtune("sync", "toy", "--runs", runs)
    assert status == 2 and "secret" not in line
    assert line.startswith("MLflow at http://127.0.0.1:9 does not answer: ")
    from search.ledger.journal import Ledger

    with Ledger.open(runs / "toy" / "ledger.jsonl", writer=True):
        status, [line] = segtune("sync", "toy", "--runs", runs)
    assert status == 2 and f"is being run by pid {os.getpid()} on " in line


def test_ui_of_a_server(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its address, without asking it and without the password."""
    uri = "http://me:secret@mlflow.example:5000"
    from search.ledger.journal import Ledger

    link = {"event": "mlflow", "experiment_id": "7", "run_id": "r", "uri": uri}
    with Ledger.open(runs / "toy" / "ledger.jsonl", writer=True) as ledger:
        ledger.append(link)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    address = page_address("http://mlflow.example:5000", "7")
    assert "/#/experiments/7/runs?" in address
    assert segtune("ui", "toy", "--runs", runs) == (0, [address])


@pytest.mark.slow
def test_ui_on_a_port_that_is_taken(runs: Path) -> None:
    assert segtune("sync", "toy", "--runs", runs)[0] == 0
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, [line] = segtune("ui", "toy", "--runs", runs, "--port", str(port))
    assert status == 2 and line == f"--port {port}: Address already in use"


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_ui_serves_on_loopback_and_leaves_no_process(runs: Path, number: int) -> None:
    """Serves on loopback, under its own names alone, and leaves no process behind."""
    assert segtune("sync", "toy", "--runs", runs)[0] == 0
    command = [sys.executable, "-m", "search.cli.main", "ui", "toy", "--runs", str(runs)]
    ui = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT, text=True)
    try:
        assert ui.stdout is not None
        first = ui.stdout.readline().strip()
        server, _, rest = first.partition("/?token=")
        page = rest.partition("#")[2]
        port = int(server.rpartition(":")[2])
        assert server == f"http://127.0.0.1:{port}" and page.startswith("/experiments/1/runs?")
        browser = requests.Session()
        assert browser.get(first, timeout=80).url == f"{server}/#{page}"
        assert listening(port) == {"127.0.0.1"}
        search = f"{server}/ajax-api/2.0/mlflow/experiments/search?max_results=1"

        cookie = "; ".join(f"{name}={value}" for name, value in browser.cookies.items())

        def status(host: str) -> int:
            named = {"Host": host, "Cookie": cookie}
            return requests.get(search, headers=named, timeout=80).status_code

        hosts = [f"127.0.0.1:{port}", f"localhost:{port}", "evil.example", "192.168.0.1"]
        assert [status(host) for host in hosts] == [200, 200, 403, 403]
        client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
        run = next(r for r in experiment_runs(client) if r.info.run_name == "toy")
        file = {"run_uuid": run.info.run_id, "path": "leaderboard.txt"}
        found = browser.get(f"{server}/get-artifact", params=file, timeout=80)
        assert found.status_code == 200 and "rank" in found.text
        [child] = Path(f"/proc/{ui.pid}/task/{ui.pid}/children").read_text().split()
        assert "search.tracking.serve" in Path(f"/proc/{child}/cmdline").read_text()
        ui.send_signal(number)
        assert ui.wait(120) == 0
    finally:
        ui.terminate()
        ui.communicate()
    with pytest.raises(requests.ConnectionError):
        requests.get(server, timeout=5)
    assert listening(port) == set() and not Path(f"/proc/{child}").exists()


class Server:
    """`mlflow server` with artifacts of its own, on one port whenever it runs."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self._folder = folder
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        connect(f"sqlite:///{folder}/served.db")
        self.start()

    def start(self) -> None:
        options = {
            "backend-store-uri": f"sqlite:///{self._folder}/served.db",
            "artifacts-destination": str(self._folder / "artifacts"),
            "port": str(self.port),
            "workers": "1",
        }
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        switches = {"MLFLOW_DISABLE_TELEMETRY": "true"}
        switches["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        with (self._folder / "log").open("a") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "mlflow", "server", *words],
                env=os.environ | switches,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        end = time.monotonic() + 480
        while not self._answers():
            assert self._process.poll() is None and time.monotonic() < end
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return requests.get(f"{self.uri}/health", timeout=5).status_code == 200
        except requests.ConnectionError:
            return False

    def kill(self) -> None:
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "server")
    yield server
    server.kill()


@pytest.mark.slow
def test_a_server_that_is_killed_and_restarted(
    drive: Callable[..., Driver], store: Path, server: Server, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """In the middle of a study, which does not notice; nothing is lost or doubled."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
    study = write_study(tmp_path / "runs", store, {"slow": 0.25}, scheduler={
        "type": "none", "max_t": 9}, trials={"num_trials": 10, "cpus_per_trial": 1})  # fmt: skip
    driver = drive(study, uri=server.uri)

    def num_reports() -> int:
        return len(driver.events("reported"))

    driver.wait_for(lambda: num_reports() >= 15)
    server.kill()
    away = [time.time()]
    at_kill = num_reports()
    driver.wait_for(lambda: num_reports() >= at_kill + 45)
    server.start()
    away.append(time.time())
    printed = driver.finish()
    assert f"MLflow at {server.uri} does not answer, events wait" in printed
    if "does not have everything yet" in printed:
        status, [line] = segtune("sync", "toy", "--runs", study.parent)
        assert status == 0 and "sent" in line

    gaps: dict[bool, list[float]] = {True: [], False: []}
    last: dict[int, float] = {}
    curves: dict[str, list[tuple[int, float]]] = {}
    for event in driver.events("reported"):
        trial, now = event["trial"], event["time"]
        if trial in last:
            gaps[away[0] < now < away[1]].append(now - last[trial])
        last[trial] = now
        curves.setdefault(f"{trial:04d}", []).append((event["epoch"], event["value"]))
    assert len(gaps[True]) > 20 and len(gaps[False]) > 9
    without, beside = statistics.median(gaps[True]), statistics.median(gaps[False])
    assert without < 1.5 * beside and max(gaps[True]) < 3, (without, beside, max(gaps[True]))

    client = MlflowClient(server.uri)
    found = {run.info.run_name[:4]: run for run in experiment_runs(client)}
    assert len(experiment_runs(client)) == len(curves) + 1
    for name, curve in curves.items():
        history = client.get_metric_history(found[name].info.run_id, "val/dice")
        assert sorted((point.step, point.value) for point in history) == curve
        assert found[name].info.status == "FINISHED"
        files = {file.path for file in client.list_artifacts(found[name].info.run_id)}
        assert files == {"config.yaml", "learning_curve.png"}


@pytest.mark.nightly
def test_pictures_of_the_pages(offline_runs: Path, store: Path, tmp_path: Path) -> None:
    from docs.screenshots import take

    offline.finished(tmp_path / "runs/toy", store)
    pictures = take(tmp_path / "runs/toy", tmp_path)
    assert [picture.name for picture in pictures] == [
        "mlflow-runs.png", "mlflow-charts.png", "mlflow-compare.png"]  # fmt: skip
    assert all(5_000 < picture.stat().st_size < 250_000 for picture in pictures)


@pytest.mark.slow
def test_pages_in_chromium(offline_runs: Path, store: Path, tmp_path: Path) -> None:
    """MLflow's own pages show the trials, best first, and a parallel coordinates plot."""
    from docs.screenshots import AXES, quiet, shoot
    from search.tracking.server import served

    runs = tmp_path / "runs"
    offline.finished(runs / "toy", store)
    assert segtune("sync", "toy", "--runs", runs)[0] == 0
    with (
        served(f"sqlite:///{runs}/mlflow.db", runs / "toy") as server,
        chromium(tmp_path / "profile", width=1200, height=900) as browser,
    ):
        quiet(browser, server)
        runs_page = page_address(server.address, "1")
        shoot(browser, runs_page, "[role=row] a", 5, tmp_path / "runs.png")
        rows = browser.execute_script(
            "return [...document.querySelectorAll('[role=row] a')].map(a => a.innerText)"
        )
        names = [name for name in rows if name[:2] == "00"]
        assert names[0] == "0004", "the best"
        assert {"0000 control", "0005"} <= set(names) and "toy" not in names
        head = browser.find_element("tag name", "body").text
        assert "optimizer.lr" in head and "final/dice" in head
        shoot(browser, f"{runs_page}&compareRunsMode=CHART", AXES, 2, tmp_path / "charts.png")
        axes = [axis.text for axis in browser.find_elements("css selector", AXES)]
        assert axes == ["optimizer.lr", "final/dice"]
        client = MlflowClient(f"sqlite:///{runs}/mlflow.db")
        of = {run.info.run_name: run.info.run_id for run in experiment_runs(client)}
        run = f"{server.address}/#/experiments/1/runs"

        def shown(page: str, awaited: str) -> None:
            browser.get("about:blank")
            browser.get(page)
            text = "return document.body ? document.body.innerText : ''"
            WebDriverWait(browser, 240).until(lambda b: awaited in b.execute_script(text))

        shown(f"{run}/{of['0004']}", "data.store_hash")
        shown(f"{run}/{of['0004']}/model-metrics", "train/loss")
        shown(f"{run}/{of['0004']}/artifacts/config.yaml", "seed: 1")
        shown(f"{run}/{of['toy']}/artifacts/leaderboard.txt", "selected on")
        shown(f"{run}/{of['toy']}/artifacts", "report.html")
        shown(f"{server.address}/#/experiments", "toy")
        errors = [line for line in console_errors(browser) if "ResizeObserver" not in line]
        denied = [line for line in errors if "status of 403" in line]  # not a port of 34403
        refused = {word for line in denied for word in line.split() if "/" in word}
        expected = {f"{server.address}/ajax-api/3.0/mlflow/assistant/{name}"
                    for name in ("config", "providers")}  # fmt: skip
        assert refused <= expected, "nothing that a study's pages need"
        assert [line for line in errors if "users/current" not in line and line not in denied] == []
