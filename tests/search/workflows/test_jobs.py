"""A study on a real head with a dashboard and a token, seen only through them."""

import http.server
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner

from search.cli.main import main
from search.execution.environment import code_commit
from search.storage.studies import read_study
from search.study.load import load_study
from search.workflows.jobs import _own, _working_directory
from tests.search import offline
from tests.search.conftest import ROOT, Guarded, events
from tests.trainer.tiny import TINY

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def segtune(guarded: Guarded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command as on a laptop that has the token and nothing else of the cluster."""

    def run(*words: str | Path, own_process: bool = False) -> subprocess.CompletedProcess[str]:
        with monkeypatch.context() as patch:
            for name in [name for name in os.environ if name.startswith(("RAY_", "SEGTUNE_"))]:
                patch.delenv(name)
            patch.setenv("RAY_AUTH_TOKEN_PATH", str(guarded.token))
            patch.setenv("PYTHONPATH", str(ROOT))
            command = [*map(str, words)]
            if own_process:  # which another needs that becomes a driver
                return subprocess.run(
                    [sys.executable, "-m", "search.cli.main", *command],
                    cwd=tmp_path,
                    capture_output=True,
                    text=True,
                    timeout=800,
                )
            answer = CliRunner().invoke(main, command)
        return subprocess.CompletedProcess(command, answer.exit_code, answer.stdout, answer.stderr)

    return run


@pytest.fixture
def space(tmp_path: Path, store: Path) -> Path:
    """A study of two trials that would take an hour, if nobody stopped it."""
    path = tmp_path / "space.yaml"
    fixed = {key: value for key, value in TINY.items() if key not in ("epochs", "optimizer.lr")}
    study = {
        "study": "far",
        "data": {"store": str(store)},
        "train": fixed | {"num_threads": 1},
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}},
        "scheduler": {"type": "none", "max_t": 6561},
        "trials": {"num_trials": 1, "cpus_per_trial": 1},
    }
    path.write_text(yaml.safe_dump(study))
    return path


@pytest.mark.slow
def test_a_study_whose_laptop_is_closed(
    guarded: Guarded, segtune: Run, space: Path, tmp_path: Path
) -> None:
    """It is launched, looked at, not launched twice, stopped and read through the dashboard."""
    runs, there = tmp_path / "shared", ("--submit", guarded.url)
    begun = segtune("launch", space, *there, "--runs", runs, "study=far")
    assert begun.returncode == 0, begun.stderr
    assert begun.stdout.splitlines() == [
        "submitted as segtune-far-1; it goes on without this machine",
        f"look    segtune status far --submit {guarded.url}",
        f"follow  segtune logs far --submit {guarded.url} --follow",
        f"stop    segtune stop far --submit {guarded.url}",
    ]
    twice = segtune("launch", space, *there, "--runs", runs)
    said = f"--submit {guarded.url}: far is running, as segtune-far-1\n"
    assert twice.returncode == 2 and twice.stderr.endswith(said)

    end = time.monotonic() + 480
    while not events(runs / "far", "reported"):
        assert time.monotonic() < end, segtune("logs", "far", *there).stdout
        time.sleep(0.2)
    looked = segtune("status", "far", *there, "--json")  # where it was submitted to
    assert looked.returncode == 0 and json.loads(looked.stdout)["study"] == "far"
    [study] = events(runs / "far", "study")
    commit = code_commit().removesuffix("-dirty")  # travels, though the cluster has no git
    assert study["commit"].startswith(commit)

    asked = segtune("launch", space, "budget.epochs=5000", *there, "--runs", runs)
    assert asked.returncode == 0, asked.stderr
    assert "budget.epochs: 5000, was not given" in asked.stdout
    tried = segtune("enqueue", "far", "optimizer.lr=2e-4", *there)
    assert tried.returncode == 0 and "asked pid" in tried.stdout, tried.stderr
    noted = segtune("note", *there, "far:0", "--", "-5 % is too slow")
    assert noted.returncode == 0, noted.stderr
    assert segtune("stop", "far:0", *there).returncode == 0
    end = time.monotonic() + 240
    while not (ended := events(runs / "far", "ended")):
        assert time.monotonic() < end, segtune("logs", "far", *there).stdout
        time.sleep(0.2)
    assert (ended[0]["trial"], ended[0]["ending"]) == (0, "stopped")
    assert events(runs / "far", "note")[0]["text"] == "-5 % is too slow"
    assert events(runs / "far", "study")[1]["config"]["budget"]["epochs"] == 5000
    assert events(runs / "far", "enqueued")

    stopped = segtune("stop", "far", *there, "--runs", runs)
    assert stopped.returncode == 0 and "asked" in stopped.stdout
    followed = segtune("logs", "far", *there, "--follow")  # to its end
    assert "stopping (the stop file)" in followed.stdout, followed.stderr
    assert "Not finished; to continue" in followed.stdout and followed.stderr == ""
    assert segtune("logs", "far", *there).stdout == followed.stdout
    log = (runs / "far" / "trials/0000/log.txt").read_text()
    assert log.startswith("--- ") and "epoch    1/6561  dice" in log
    assert segtune("logs", "far:0", *there).stdout == log
    printed = segtune("logs", "far:0", *there, "--follow")  # it has no driver any more
    assert printed.returncode == 0 and printed.stdout == log, printed.stderr
    compared = segtune("compare", "far", *there)
    assert compared.returncode == 0 and "control" in compared.stdout

    token = guarded.token.read_text()
    for answer in (begun, twice, looked, stopped, followed, compared):
        assert token not in answer.stdout + answer.stderr


@pytest.mark.nightly
def test_what_failed_is_retried_from_a_laptop(
    guarded: Guarded, segtune: Run, space: Path, tmp_path: Path
) -> None:
    """After a look at it from there; whatever is wrong with that is said before."""
    runs, there = tmp_path / "shared", ("--submit", guarded.url)
    study = load_study(space, ["study=mended", "scheduler.max_t=1"])
    with offline.opened(study, runs / "mended") as session:
        session.record(
            *(
                {"event": "proposed", "trial": trial, "params": params, "kind": kind}
                | {"protected": not trial}
                for trial, (kind, params) in enumerate(
                    [("control", study.control_params), ("sampled", {"optimizer.lr": 1e-4})]
                )
            )
        )
        for trial in session.state.live():
            offline.end(session, trial, "failed", "OSError: the disk was away")
    place = ("--runs", runs)
    looked = segtune("retry", "mended", *there, *place, "--dry-run")
    assert looked.returncode == 0, looked.stderr
    assert [line.split()[0] for line in looked.stdout.splitlines()] == ["mended:0", "mended:1"]
    never = segtune("retry", "mended:9", *there, *place)
    assert never.returncode == 2 and never.stderr.startswith("mended:9: no such trial")
    begun = segtune("retry", "mended", *there, *place)
    assert begun.returncode == 0 and "submitted as segtune-mended-1" in begun.stdout, begun.stderr
    followed = segtune("logs", "mended", *there, "--follow")
    assert "retried" in followed.stdout, followed.stdout
    _, state = read_study(runs / "mended")
    assert [trial.ending for trial in state.trials.values()] == ["completed"] * 2
    refused = segtune("retry", "mended", *there)
    assert refused.returncode == 2 and "no trial of it failed" in refused.stderr


@pytest.mark.slow
def test_a_mistake_is_found_from_there(segtune: Run, guarded: Guarded, space: Path) -> None:
    """Before anything is submitted, by the cluster's own eyes; and names are never executed."""
    there = ("--submit", guarded.url, "--runs", "/far/away")
    lost = segtune("launch", space, *there, "study=lost", "data.store=/far/store")
    assert lost.returncode == 2 and lost.stdout == ""
    assert lost.stderr.endswith("data.store: /far/store: not a prepared store; make one: "
                                "segtune prepare DATASET OUT\n")  # fmt: skip
    unknown = segtune("status", "x; touch /tmp/gone", *there)
    assert unknown.returncode == 2
    assert unknown.stderr == "/far/away: x; touch /tmp/gone: no such study\n"
    never = segtune("logs", "lost", "--submit", guarded.url)
    assert never.returncode == 2 and "lost: was not submitted there" in never.stderr


@pytest.mark.parametrize(
    ("log", "own"),
    [
        ("Running entrypoint for job 7: echo -- segtune --; x\n-- segtune --\nout\n", "out\n"),
        ("-- segtune --\nRunning entrypoint for job 7: echo -- segtune --; x\nout\n", "out\n"),
        ("sh: not found\n", "sh: not found\n"),
    ],
)
def test_what_the_command_printed(log: str, own: str) -> None:
    """Ray's own line is flushed before the entrypoint's first, or after it."""
    assert _own(log) == own


@pytest.fixture
def not_a_dashboard() -> Iterator[str]:
    """A web server that has a page for everything."""

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>welcome</html>")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_refused_in_a_line(
    guarded: Guarded,
    segtune: Run,
    space: Path,
    not_a_dashboard: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cases: list[tuple[list[str], dict[str, str], str]] = [
        (["--submit", "127.0.0.1:8265"], {}, "must be the dashboard's http://HOST:8265"),
        (["--submit", "http://127.0.0.1:9"], {}, "no Ray dashboard answers there"),
        (["--submit", f"http://{guarded.address}"], {}, "no Ray dashboard answers there"),
        (["--submit", not_a_dashboard], {}, "is not a Ray dashboard"),
        (["--submit", guarded.url], {"RAY_AUTH_TOKEN": "wrong"}, "is another one; copy the head's"),
        (
            ["--submit", guarded.url],
            {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "none")},
            f"asks for Ray's token, but there is none here; copy the head's to {tmp_path}/none",
        ),
        (["--submit", guarded.url], {}, "--runs runs: must be absolute with --submit"),
        (["--submit", guarded.url, "--address", "auto"], {}, "give one of them"),
        (["--address", "ray://host:10001"], {}, "use --submit http://HOST:8265"),
        (["--dry-run", "--probe", "--address", "ray://host:10001"], {}, "use --submit http"),
    ]
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(guarded.token))
    monkeypatch.delenv("SEGTUNE_RUNS", raising=False)
    for words, environment, line in cases:
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            answer = CliRunner().invoke(main, ["launch", str(space), *words])
        assert answer.exit_code == 2, (words, answer.output)
        assert line in answer.stderr and answer.stderr.count("\n") == 1, (words, answer.stderr)

    big = ["--probe", "--address", guarded.address, "trials.cpus_per_trial=64"]
    refused = segtune("launch", space, "--dry-run", *big, own_process=True)
    assert refused.returncode == 2
    assert refused.stderr.startswith("trials: cpus_per_trial 64 + gpus_per_trial 0: no node has")
    assert refused.stderr.count("\n") == 1


def test_nothing_but_code_travels(space: Path) -> None:
    """No data, no runs, no git: code, the studies that ship, and the study."""
    study = load_study(space)
    with _working_directory(study) as name:
        folder = Path(name)
        files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
        assert load_study(folder / "study.yaml") == study
    ours = {
        path.relative_to(ROOT).as_posix()
        for package in ("search", "trainer")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    ours |= {f"spaces/{path.name}" for path in (ROOT / "spaces").glob("*.yaml")}
    assert files == ours | {"study.yaml", "segtune_start.py"}
    assert {"search/report/model_card.md.jinja", "search/study/defaults_v1.json"} < files


@pytest.mark.parametrize(
    "words",
    [
        pytest.param(["--address", "{address}"], marks=pytest.mark.slow),
        pytest.param(["--submit", "{url}", "--runs", "/runs"], marks=pytest.mark.nightly),
    ],
    ids=["beside", "outside"],
)
def test_probe_on_the_cluster(
    guarded: Guarded, segtune: Run, space: Path, words: list[str]
) -> None:
    """A minute there, by a driver beside it or from outside; the cluster's slots count."""
    where = [word.format(address=guarded.address, url=guarded.url) for word in words]
    answer = segtune("launch", space, "--dry-run", "--probe", *where, own_process=True)
    assert answer.returncode == 0, answer.stderr
    assert ", where 2 can run at once\n" in answer.stdout
    assert "hours, " in answer.stdout.splitlines()[-2]
