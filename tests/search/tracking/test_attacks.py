"""What another user of the machine, or a page of theirs, gets out of `segtune ui`.

In trials with MLflow's own server that user made an experiment with a folder of their choice, read
the owner's files, wrote the owner's `.bash_profile`, and deleted experiments.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import requests
from mlflow import MlflowClient

from search.tracking.address import sqlite_uri
from search.tracking.client import connect
from search.tracking.endpoints import READ, WRITE
from search.tracking.server import Served, served
from tests.search import offline
from tests.search.tracking.mlflow_content import experiment_runs

pytestmark = pytest.mark.slow

API = "ajax-api/2.0/mlflow"


class Owner(NamedTuple):
    """Somebody's home, with a runs folder in which MLflow knows a study and what was planted."""

    home: Path
    study: str
    """The study's run."""
    planted: dict[str, str]
    """Runs whose artifacts the database says to lie elsewhere, by what they may be named."""

    @property
    def runs(self) -> Path:
        return self.home / "runs"

    @property
    def client(self) -> MlflowClient:
        return connect(sqlite_uri(self.runs / "mlflow.db"))


@pytest.fixture(scope="module")
def owner(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Owner:
    home = tmp_path_factory.mktemp("home")
    (home / ".ray").mkdir()
    (home / ".ray" / "auth_token").write_text("the owner's secret")
    (home / ".bash_profile").write_text("# the owner's")
    offline.finished(home / "runs" / "toy", store, trials={"num_trials": 1}, enqueue=[])
    from search.tracking.sync import sync

    sync(home / "runs" / "toy")
    client = connect(sqlite_uri(home / "runs" / "mlflow.db"))
    (home / "runs" / "mlflow-artifacts" / "away").symlink_to(home / ".ray")
    elsewhere = {
        "path": str(home / ".ray"),
        "file": (home / ".ray").as_uri(),
        "dots": f"file://{home}/runs/%2e%2e/.ray",
        "link": (home / "runs" / "mlflow-artifacts" / "away").as_uri(),
        "proxied": "mlflow-artifacts:/.ray",
        "bucket": "s3://bucket/.ray",
    }
    planted = {}
    for name, uri in elsewhere.items():
        experiment = client.create_experiment(name, uri)
        run = client.create_run(experiment).info
        planted[name] = run.run_id
        if name in ("path", "file", "link"):  # the run's own folder is below the experiment's
            below = home / ".ray" / run.run_id / "artifacts"
            below.mkdir(parents=True)
            (below / "auth_token").symlink_to(home / ".ray" / "auth_token")
    study = next(run for run in experiment_runs(client) if run.info.run_name == "toy")
    run_folder = Path(study.info.artifact_uri.removeprefix("file://"))
    (run_folder / "linked.txt").symlink_to(home / ".ray" / "auth_token")
    (run_folder / "folder").symlink_to(home)
    return Owner(home, study.info.run_id, planted)


class Pages(NamedTuple):
    """A server, and a browser that has its cookie once it entered."""

    at: Served
    write: bool
    browser: requests.Session

    def enter(self) -> None:
        if not self.browser.cookies:
            first = self.at.first(f"{self.at.address}/#/")
            assert self.browser.get(first, timeout=240).url == f"{self.at.address}/#/"


@pytest.fixture(scope="module", params=[False, True], ids=["read", "write"])
def pages(request: pytest.FixtureRequest, owner: Owner) -> Iterator[Pages]:
    with served(
        sqlite_uri(owner.runs / "mlflow.db"), owner.runs / "toy", write=request.param
    ) as server:
        yield Pages(server, request.param, requests.Session())


def attacks(owner: Owner, ask: Any) -> dict[str, list[int]]:
    """Try all that was possible, and return by what it was for the statuses of the answers."""
    places = [str(owner.home), owner.home.as_uri(), "file:///", "/etc", "mlflow-artifacts:/x",
              f"{owner.runs}/../", f"file://{owner.runs}/%2e%2e"]  # fmt: skip
    prefixes = ("ajax-api", "api", "/ajax-api", "%61jax-api", "ajax-api/", "API")
    created = [
        ask("POST", f"{prefix}/2.0/mlflow/experiments/create", json={"name": f"x{n}", key: place})
        for n, place in enumerate(places) for prefix in prefixes
        for key in ("artifact_location", "artifactLocation")
    ]  # fmt: skip
    paths = ["auth_token", "../auth_token", "..%2fauth_token", str(owner.home / ".ray/auth_token"),
             "linked.txt", "folder/.ray/auth_token"]  # fmt: skip
    read = [
        ask("GET", address, params={"run_uuid": run, "run_id": run, "path": path})
        for run in (*owner.planted.values(), owner.study) for path in paths
        for address in ("get-artifact", f"{API}/artifacts/list", "get-artifact/", "//get-artifact")
        if (run, path) != (owner.study, "auth_token")
    ]  # fmt: skip
    read += [ask("GET", f"{API}/artifacts/list", params={"run_id": run})
             for run in owner.planted.values()]  # fmt: skip
    read += [ask("GET", f"ajax-api/2.0/mlflow-artifacts/artifacts/{path}") for path in paths]
    written = [
        ask(method, address, params={"run_uuid": run, "path": ".bash_profile"}, data="mine")
        for run in (*owner.planted.values(), owner.study)
        for method, address in (("POST", f"{API}/upload-artifact"),
                                ("PUT", "ajax-api/2.0/mlflow-artifacts/artifacts/.bash_profile"),
                                ("PUT", "api/2.0/mlflow-artifacts/artifacts/.bash_profile"))
    ]  # fmt: skip
    return {"created": created, "read": read, "written": written}


def listing(owner: Owner) -> tuple[set[str], set[Path]]:
    names = {experiment.name for experiment in owner.client.search_experiments()}
    return names, {*owner.home.rglob("[!m]*")}


def test_the_four_attacks(pages: Pages, owner: Owner) -> None:
    """403, with the cookie too; only `--write` deletes, for who has the cookie."""
    at, write, session = pages
    before = listing(owner)

    def ask(method: str, path: str, **words: Any) -> int:
        answer = session.request(method, f"{at.address}/{path}", timeout=240, **words)
        assert "secret" not in answer.text and "auth_token" not in answer.headers
        return answer.status_code

    delete = f"{API}/experiments/delete"
    victim = {"experiment_id": owner.client.create_experiment(f"victim {write}")}
    for statuses in attacks(owner, ask).values():
        assert {*statuses} == {403}
    assert ask("POST", delete, json=victim) == ask("GET", "") == ask("GET", "?token=x") == 403
    for static in ("static-files/favicon.ico", "health", "version", "graphql", "v1/traces"):
        assert ask("GET", static) == ask("POST", static) == ask("OPTIONS", static) == 403

    pages.enter()
    assert ask("GET", "") == 200
    for statuses in attacks(owner, ask).values():
        assert {*statuses} == {403}
    listed = '{mlflowListArtifacts(input: {runId: "%s"}) {files {path}}}'
    for run in owner.planted.values():  # by which MLflow's pages might ask as well
        query = {"query": listed % run, "variables": {}}
        said = session.post(f"{at.address}/graphql", json=query, timeout=240).json()
        assert said["errors"] and not (said["data"] or {}).get("mlflowListArtifacts")
    evil = {"Origin": "http://127.0.0.1:1"}
    assert ask("POST", delete, json=victim, headers=evil) == 403
    here = owner.client.get_experiment(victim["experiment_id"])
    assert here.lifecycle_stage == "active"
    assert ask("POST", delete, json=victim) == (200 if write else 403)
    assert ask("POST", f"{API}/experiments/restore", json=victim) == (200 if write else 403)
    tag = {"run_id": owner.study, "key": "mlflow.note.content", "value": "noted"}
    assert ask("POST", f"{API}/runs/set-tag", json=tag) == (200 if write else 403)

    file = {"run_uuid": owner.study, "path": "leaderboard.txt"}
    answer = session.get(f"{at.address}/get-artifact", params=file, timeout=240)
    assert answer.status_code == 200 and "rank" in answer.text
    files = session.get(f"{at.address}/{API}/artifacts/list?run_id={owner.study}", timeout=240)
    names = {file["path"] for file in files.json()["files"]}
    assert "leaderboard.txt" in names and not names & {"linked.txt", "folder"}
    assert (owner.home / ".bash_profile").read_text() == "# the owner's"
    assert listing(owner) == (before[0] | {f"victim {write}"}, before[1])


def test_what_is_open_is_there(pages: Pages) -> None:
    """An endpoint that MLflow has no more, or by another method, has no place in the list."""
    at, write, session = pages
    pages.enter()
    for method, path in READ | (WRITE if write else set()):
        answer = session.request(method, at.address + path.decode(), json={}, timeout=240)
        is_there = answer.status_code not in (403, 404, 405) or "error_code" in answer.text
        assert is_there != path.endswith(b"/users/current"), (path, answer.status_code)


THEIRS = """
import encodings.idna, json, os, sys, urllib.error, urllib.request  # what another user cannot read
from pathlib import Path
pid, address = int(sys.argv[1]), sys.argv[2]
os.setgroups([]); os.setgid(65534); os.setuid(65534)
seen = {}
children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
for process in [Path(f"/proc/{number}") for number in (pid, *children)]:
    for name in ("cmdline", "environ", "fd/0", "fd/1"):
        try:
            seen[f"{process}/{name}"] = (process / name).read_bytes().decode(errors="replace")
        except OSError as error:
            seen[f"{process}/{name}"] = type(error).__name__
try:
    seen[sys.argv[3]] = str(os.listdir(sys.argv[3]))
except OSError as error:
    seen[sys.argv[3]] = type(error).__name__
for path in ("", "get-artifact", "static-files/favicon.ico"):
    try:
        seen[path] = urllib.request.urlopen(f"{address}/{path}", timeout=120).status
    except urllib.error.HTTPError as error:
        seen[path] = error.code
print(json.dumps(seen))
"""


@pytest.mark.skipif(os.getuid() != 0, reason="needs root, to be another user")
def test_another_user_does_not_learn_the_token(owner: Owner) -> None:
    """Not from the process list, the environment or a log; and a killed `ui` leaves no server."""
    words = ["-m", "search.cli.main", "ui", "toy", "--runs", str(owner.runs)]
    env = {name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"}
    ui = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True, env=env)
    scratch: Path | None = None
    try:
        assert ui.stdout is not None
        first = ui.stdout.readline().strip()
        address, _, rest = first.partition("/?token=")
        token = rest.partition("#")[0]
        assert len(token) >= 40
        [server] = Path(f"/proc/{ui.pid}/task/{ui.pid}/children").read_text().split()
        scratch = Path(f"/proc/{server}/cwd").resolve()
        theirs = [sys.executable, "-c", THEIRS, str(ui.pid), address, str(scratch)]
        found = subprocess.run(theirs, capture_output=True, text=True, timeout=480, check=True)
        seen: dict[str, Any] = json.loads(found.stdout)
        assert token not in found.stdout
        assert {"search.tracking.serve"} <= {w for v in seen.values() for w in str(v).split("\0")}
        private = [v for name, v in seen.items() if name.endswith(("environ", "fd/0"))]
        assert len(private) == 4 and {*private} == {"PermissionError"}
        assert seen[str(scratch)] == "PermissionError"
        assert {seen[path] for path in ("", "get-artifact", "static-files/favicon.ico")} == {403}
        assert requests.get(first, timeout=240).status_code == 200
        assert token not in (scratch / "log").read_text()
    finally:
        ui.kill()
        ui.communicate()
        if scratch:
            shutil.rmtree(scratch)  # which a killed one leaves
    end_s = time.monotonic() + 120
    with pytest.raises(requests.ConnectionError):
        while time.monotonic() < end_s:
            requests.get(address, timeout=5)
            time.sleep(0.2)
