"""Nobody else gets in: files that would run code, names that would leave, secrets that would leak.

"Loads without executing code" is tried with files that create a marker if anybody unpickles them,
or builds what their YAML tags ask for.
"""

import json
import os
import pickle
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import torch
import yaml
from click.testing import CliRunner
from mlflow import MlflowClient

from search.analysis.case_scores import lesion_dice
from search.cli.main import main
from search.ledger.journal import Event, Ledger
from search.ledger.session import StudySession
from search.ledger.state import StudyState
from search.storage.dataset_cache import on_this_node
from search.storage.studies import read_study
from search.study.load import load_study
from search.tracking.address import ui_command, without_credentials
from search.tracking.tracker import Tracker
from tests.search.conftest import ROOT, Driver, free_port
from trainer.configfile import ConfigError, read_yaml
from trainer.data.store import Store
from trainer.saved.checkpoint import load_latest, save
from trainer.saved.model_io import load

PLANTED = "planted-secret-7d1f"


class Evil:
    """What creates a marker when it is unpickled."""

    def __init__(self, marker: Path):
        self.marker = str(marker)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str]]:
        return os.mkdir, (self.marker,)


@pytest.fixture
def marker(tmp_path: Path) -> Iterator[Path]:
    """A folder that must not come into being."""
    path = tmp_path / "executed"
    yield path
    assert not path.exists()


def test_the_markers_work(tmp_path: Path) -> None:
    torch.save({"ema": Evil(tmp_path / "a")}, tmp_path / "evil.pt")
    torch.load(tmp_path / "evil.pt", weights_only=False)
    assert (tmp_path / "a").is_dir()


EXECUTING = {
    "pickle": r"\bpickle\.loads?\b|\bUnpickler\b|\bcloudpickle\b|\bmarshal\b|\bshelve\b|\bjoblib\b",
    "torch": r"torch\.load\((?!.*weights_only=True)|weights_only=False",
    "numpy": r"np\.load\((?!.*allow_pickle=False)|allow_pickle=True",
    "yaml": r"yaml\.(load|load_all|full_load|unsafe_load|UnsafeLoader|FullLoader|Loader)\b",
    "python": r"(?<![\w.])(eval|exec|compile)\(|__import__\(|\bos\.system\b|shell=True",
}
ALLOWED = {
    # Ray Tune gives the driver its own exception, which it has just received, in a file of its own
    # temporary folder only.
    ("search/execution/faults/failures.py", "pickle"),
    ("trainer/configfile.py", "yaml"),  # the one loader, derived from SafeLoader
}


def test_the_source_calls_nothing_that_executes_files() -> None:
    found = {
        (str(path.relative_to(ROOT)), kind)
        for package in ("search", "trainer")
        for path in (ROOT / package).rglob("*.py")
        for line in path.read_text().splitlines()
        for kind, pattern in EXECUTING.items()
        if re.search(pattern, line)
    }
    assert found == ALLOWED
    loads = re.findall(r"yaml\.load\(\w+, (\w+)\)", (ROOT / "trainer/configfile.py").read_text())
    assert set(loads) == {"_Loader"} and issubclass(
        read_yaml.__globals__["_Loader"], yaml.SafeLoader
    )


def test_a_malicious_checkpoint_in_a_run(tmp_path: Path, marker: Path) -> None:
    """Is not executed; the one before it is used."""
    save(tmp_path / "checkpoints", 24, {"epoch": 1})
    torch.save({"ema": Evil(marker)}, tmp_path / "checkpoints" / "000000000048.pt")
    (tmp_path / "checkpoints" / "000000000072.pt").write_bytes(pickle.dumps(Evil(marker)))
    assert load_latest(tmp_path / "checkpoints") == {"epoch": 1}


@pytest.mark.parametrize("old_format", [False, True])
def test_a_malicious_checkpoint_to_start_from(
    tmp_path: Path, marker: Path, old_format: bool
) -> None:
    """As init_from, or to predict with."""
    path = tmp_path / "best.pt"
    content = {"ema": Evil(marker), "config": {}}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    with pytest.raises(ConfigError, match="not a segtune checkpoint"):
        load(path)


@pytest.mark.slow
def test_a_study_with_malicious_files(
    calm: Driver, tmp_path: Path, marker: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every file of its folder is replaced in turn by a pickle and by tagged YAML."""
    monkeypatch.delenv("SEGTUNE_RUNS", raising=False)
    tagged = f"!!python/object/apply:os.mkdir [{marker}]\n"
    pickled = pickle.dumps(Evil(marker))
    files = [path for path in calm.folder.rglob("*") if path.is_file()]
    names = {re.sub(r"\d{4}", "0000", str(path.relative_to(calm.folder))): path for path in files}
    assert {"ledger.jsonl", "study.yaml"} < set(names)
    for bad in (pickled, tagged.encode()):
        for number, path in enumerate(names.values()):
            runs = tmp_path / f"{len(bad)}-{number}"
            shutil.copytree(calm.folder, runs / "toy")
            (runs / "toy" / path.relative_to(calm.folder)).write_bytes(bad)
            for command in ("status", "compare"):
                answer = CliRunner().invoke(main, [command, "toy", "--runs", str(runs)])
                assert answer.exit_code in (0, 2), answer.exception
            shutil.rmtree(runs)
    space = tmp_path / "space.yaml"
    space.write_text(tagged)
    with pytest.raises(ConfigError, match="not YAML"):
        load_study(space)
    with pytest.raises(ConfigError, match="not YAML"):
        load_study(calm.study, [f"seed={tagged.strip()}"])
    cases = tmp_path / "run"
    cases.mkdir()
    (cases / "cases.parquet").write_bytes(pickled)
    assert lesion_dice(cases, 1) is None


@pytest.mark.parametrize(
    "name", ["../x", "/tmp/x", "..", ".", "a/b", "a\\b", "~", "x\n", "", "-x", "a b", "\x00"]
)
def test_a_study_cannot_leave_the_runs(name: str, calm: Driver, tmp_path: Path) -> None:
    """Neither by its file, nor by an override, nor by a ledger."""
    values = yaml.safe_load(calm.study.read_text()) | {"study": name}
    space = tmp_path / "space.yaml"
    space.write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match="study: "):
        load_study(space)
    with pytest.raises(ConfigError, match=r"study: |KEY=VALUE"):
        load_study(calm.study, [f"study={json.dumps(name)}"])

    folder = tmp_path / "forged"
    folder.mkdir()
    events = [{k: v for k, v in event.items() if k != "crc"} for event in calm.events()]
    events[[event["event"] for event in events].index("study")]["config"]["study"] = name
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append(*(event for event in events if event["event"] in ("study", "proposed")))
    with pytest.raises(ConfigError, match="study: "):
        read_study(folder)


def test_a_trial_cannot_leave_its_study(calm: Driver, tmp_path: Path) -> None:
    """A ledger that names a trial like a path is not followed anywhere."""
    runs = tmp_path / "runs"
    (runs / "toy").mkdir(parents=True)
    events = [event for event in calm.events() if event["event"] in ("study", "proposed")]
    for event in events:
        event["trial"] = "../../../outside" if event["event"] == "proposed" else None
    with Ledger.open(runs / "toy" / "ledger.jsonl", writer=True) as ledger:
        ledger.append(*[e for e in events if e["event"] == "study"][:1], events[-1])
    for command in ("status", "compare"):
        answer = CliRunner().invoke(main, [command, "toy", "--runs", str(runs)])
        assert answer.exit_code == 2 or "outside" not in answer.output
    with pytest.raises(ValueError, match="must be a whole number"):
        StudyState.of(Ledger.open(runs / "toy" / "ledger.jsonl", writer=False))


@pytest.mark.parametrize("case", ["../outside", "/etc/passwd", "..", "a/b"])
def test_a_case_cannot_leave_its_store(case: str, store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["cases"][0]["case_id"] = case
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match=r"damaged store: case .* is no file name"):
        Store.open(copy)


def test_a_store_cannot_leave_the_cache(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its copy's folder is named by its content's hash, which the store itself states."""
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("search.storage.dataset_cache._same_disk", lambda *_: False)
    copy = tmp_path / "store"
    shutil.copytree(store, copy)
    manifest = json.loads((copy / "manifest.json").read_text()) | {"content_hash": "../../outside"}
    (copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ConfigError, match="damaged store"):
        on_this_node(str(copy))
    assert {path.name for path in tmp_path.iterdir()} == {"cache", "store"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"http://me:{PLANTED}@host:5000/x", "http://host:5000/x"),
        (f"to https://me:p@{PLANTED}@host failed", "to https://host failed"),
        (f"postgresql://me:{PLANTED}@host/db", "postgresql://host/db"),
        ("sqlite:////home/a@b/mlflow.db", "sqlite:////home/a@b/mlflow.db"),
        ("http://host/?mail=a@b", "http://host/?mail=a@b"),
    ],
)
def test_addresses_are_shown_without_passwords(text: str, shown: str) -> None:
    assert without_credentials(text) == shown


def test_mlflows_password_is_written_nowhere(
    calm: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a server that does not answer, so that its address is said; links with one still match."""
    folder = tmp_path / "toy"
    shutil.copytree(calm.folder, folder)
    path = folder / "ledger.jsonl"
    secret = f"http://me:{PLANTED}@127.0.0.1:9"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", secret)
    said: list[str] = []
    session = StudySession(load_study(calm.study), folder, Ledger.open(path, writer=True))
    with Tracker(session, print, said.append):
        while not said:
            time.sleep(0.05)
    assert "http://127.0.0.1:9 does not answer" in said[0] and PLANTED not in "".join(said)
    assert ui_command(folder) == "http://127.0.0.1:9"

    trials = [trial.number for trial in session.state.trials.values()]
    session.record(
        {"event": "mlflow", "experiment_id": "1", "run_id": "r", "uri": secret},
        *({"event": "mlflow", "trial": n, "run_id": f"r{n}", "uri": secret} for n in trials),
    )
    seen = len(session.ledger.events)
    (folder / "mlflow.json").write_text(
        json.dumps({"uri": secret, "delivered": seen, "reported": seen})
    )
    assert not Tracker(session, print, print).behind, "what an earlier segtune delivered"
    session.ledger.close()


def files_with(word: str, *folders: Path) -> list[Path]:
    found = []
    for folder in folders:
        for path in folder.rglob("*"):
            if path.is_file() and not path.is_symlink() and word.encode() in path.read_bytes():
                found.append(path)
    return found


@pytest.fixture
def passworded(tmp_path: Path) -> Iterator[str]:
    """MLflow's server with passwords, one account of its own, and one service name."""
    settings = tmp_path / "auth.ini"
    settings.write_text(
        "[mlflow]\ndefault_permission = READ\n"
        f"database_uri = sqlite:///{tmp_path}/accounts.db\n"
        f"admin_username = admin\nadmin_password = {PLANTED}\n"
    )
    settings.chmod(0o600)
    address = f"127.0.0.1:{free_port()}"
    options = {
        "app-name": "basic-auth",
        "backend-store-uri": f"sqlite:///{tmp_path}/served.db",
        "artifacts-destination": str(tmp_path / "artifacts"),
        "allowed-hosts": f"mlflow.study.svc,{address}",
        "port": address.rpartition(":")[2],
        "workers": "1",
    }
    env = {
        **os.environ,
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_FLASK_SERVER_SECRET_KEY": PLANTED[::-1],
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
    }
    log = tmp_path / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            [str(Path(sys.executable).with_name("mlflow")), "server"]
            + [word for name, value in options.items() for word in (f"--{name}", value)],
            env=env,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        end = time.monotonic() + 480
        while "startup complete" not in log.read_text():
            assert server.poll() is None and time.monotonic() < end, log.read_text()
            time.sleep(0.2)
        yield address
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.wait()


def listening(port: int) -> set[str]:
    """Return the addresses of this machine on which something listens to a port."""
    tables = [Path(f"/proc/net/{name}").read_text() for name in ("tcp", "tcp6")]
    lines = [line.split() for table in tables for line in table.splitlines()]
    where = [line[1].split(":") for line in lines if line[3] == "0A"]
    found = {address for address, its_port in where if int(its_port, 16) == port}
    return {socket.inet_ntoa(bytes.fromhex(a)[::-1]) if len(a) == 8 else "IPv6" for a in found}


@pytest.mark.slow
def test_mlflow_with_passwords_and_service_names(
    calm: Driver,
    passworded: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plain_pictures: None,
) -> None:
    """Refused without or with another password, or by another name; else all is delivered."""

    def status(host: str, password: str | None) -> int:
        request = {"json": {"max_results": 1}, "headers": {"Host": host}, "timeout": 20}
        account = ("admin", password) if password else None
        url = f"http://{passworded}/api/2.0/mlflow/experiments/search"
        return requests.post(url, auth=account, **request).status_code

    port = passworded.rpartition(":")[2]
    assert [status(passworded, password) for password in (None, "x", PLANTED)] == [401, 401, 200]
    assert status("mlflow.study.svc", PLANTED) == 200
    others = ("mlflow", "evil.example", f"evil:{port}")
    assert [status(host, PLANTED) for host in others] == [403, 403, 403]
    assert listening(int(port)) == {"127.0.0.1"}

    folder = tmp_path / "toy"
    shutil.copytree(calm.folder, folder)
    (folder / "mlflow.json").unlink()
    path = folder / "ledger.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(line for line in lines if '"event":"mlflow"' not in line))

    def deliver(uri: str, **account: str) -> tuple[list[str], list[Event]]:
        for name in ("USERNAME", "PASSWORD"):
            monkeypatch.delenv(f"MLFLOW_TRACKING_{name}", raising=False)
        for name, value in account.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
        said: list[str] = []
        links: list[Event] = []
        with Ledger.open(path, writer=True) as ledger:
            session = StudySession(load_study(calm.study), folder, ledger)
            with Tracker(session, links.append, said.append):
                pass
            session.record(*links)
        return said, links

    said, links = deliver(f"http://{passworded}")
    assert "does not answer" in said[0] and "401" in said[0] and links == []
    said, links = deliver(f"http://admin:not-{PLANTED}@{passworded}")
    assert "does not answer" in said[0] and PLANTED not in "".join(said) and links == []
    account = {"MLFLOW_TRACKING_USERNAME": "admin", "MLFLOW_TRACKING_PASSWORD": PLANTED}
    monkeypatch.setattr(Tracker, "CLOSE_S", 240.0)  # on a busy machine
    monkeypatch.setattr(Tracker, "QUIET_S", 240.0)
    said, links = deliver(f"http://{passworded}", **account)
    assert said == [] and len([link for link in links if "run_id" in link]) == 11
    client = MlflowClient(f"http://{passworded}")
    for link in links:
        files = {file.path for file in client.list_artifacts(link["run_id"])}
        assert ("config.yaml" if "trial" in link else "leaderboard.txt") in files
    # The same server, its account in the address: nothing is left to deliver, no run is new.
    (folder / "mlflow.json").unlink()
    assert deliver(f"http://admin:{PLANTED}@{passworded}") == ([], [])
    assert files_with(PLANTED, folder) == []
