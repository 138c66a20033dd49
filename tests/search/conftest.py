"""A tiny store, and drivers that are processes of their own."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from PIL import Image

from search.execution.auth import STAY_ON_LOOPBACK
from tests.search.drive import plain
from tests.search.forked import Forked
from tests.search.s3 import AWS, Moto

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def same_gpus_for_the_next_test() -> Iterator[None]:
    """What a trial hides from its process is hidden from this one where it runs here."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    yield
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    if before is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = before


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of 12 pictures with a bright square."""
    from trainer.data.prepare import prepare

    folder = tmp_path_factory.mktemp("pictures")
    dataset = folder / "dataset"
    dataset.mkdir()
    rng = np.random.default_rng(0)
    for number in range(12):
        mask = np.zeros((32, 32), np.uint8)
        mask[8 + number % 5 : 16 + number % 5, 10:20] = 255
        image = rng.integers(20, 190, (32, 32)).astype(np.uint8) + mask // 4
        Image.fromarray(image).save(dataset / f"case{number:02d}.png")
        Image.fromarray(mask).save(dataset / f"case{number:02d}_mask.png")
    prepare(dataset, folder / "store", image_size=32, workers=1)
    return folder / "store"


@pytest.fixture(scope="session")
def moto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Moto]:
    """A local S3."""
    moto = Moto(tmp_path_factory.mktemp("moto") / "log")
    yield moto
    moto.process.kill()
    moto.process.wait()


@pytest.fixture
def s3(
    moto: Moto, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> str:
    """URI of an empty bucket; this process's mirrors are in tmp_path."""
    for name, value in AWS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("SEGTUNE_CACHE", str(tmp_path / "cache"))
    return moto.make_bucket(f"b{abs(hash(request.node.nodeid))}")


class Driver:
    """`segtune launch` of a toy study in a process that can be killed.

    Args:
        study: Its YAML.
        runs: The folder of studies.
        *words: What `tests.search.drive` wants beside these.
        env: Variables beside this process's own.
        s3: The folder of studies where it is in S3, of which `runs` is the mirror.
        imports: Whether the process imports what it needs, as a command's does.

    Attributes:
        study: Its YAML.
        folder: The study's folder.
    """

    def __init__(
        self,
        study: Path,
        runs: Path,
        *words: str,
        env: dict[str, str] | None = None,
        s3: str = "",
        imports: bool = False,
    ):
        self.study = study
        self.folder = runs / yaml.safe_load(study.read_text())["study"]
        self.log = runs / f"driver-{time.monotonic_ns()}.log"
        runs.mkdir(parents=True, exist_ok=True)
        self.log.touch()
        words = (str(study), s3 or str(runs), *words)
        env = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "disabled",
            **(env or {}),
        }
        self.process: subprocess.Popen[bytes] | Forked
        if not imports:
            self.process = Forked(plain, *words, log=self.log, env=env)
            return
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.search.drive", *words],
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
                env=env,
                start_new_session=True,
            )

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the ledger's complete lines, of one kind or all."""
        return events(self.folder, kind)

    def wait_for(self, ready: Callable[[], Any], timeout_s: float = 240) -> None:
        """Wait until something is true of the running study."""
        end = time.monotonic() + timeout_s
        while not ready():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        """SIGTERM, and return the exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait()

    def wait(self, timeout_s: float = 960) -> int:
        """Return the exit status."""
        try:
            return self.process.wait(timeout_s)
        except (subprocess.TimeoutExpired, TimeoutError):
            self.kill()
            raise AssertionError(f"the driver hangs: {self.log.read_text()}") from None

    def finish(self) -> str:
        """Wait for a good end and return what was printed."""
        assert self.wait() == 0, self.log.read_text()
        return self.log.read_text()


def events(folder: Path, kind: str = "") -> list[dict[str, Any]]:
    """Return the complete lines of a study's ledger, of one kind or all."""
    path = folder / "ledger.jsonl"
    lines = path.read_text().split("\n")[:-1] if path.exists() else []
    return [event for event in map(json.loads, lines) if kind in ("", event["event"])]


@contextmanager
def second_node(
    cluster: str, log: Path, num_cpus: int, *within: str, **env: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Join a node to the tests' Ray, and see it off.

    Args:
        cluster: The address of that Ray.
        log: Where it writes.
        num_cpus: Its own.
        *within: A command that runs the one after it, in front of Ray's.
        **env: Variables beside this process's own.

    Yields:
        Its process, once it has joined.
    """
    import ray

    ours = {"PYTHONPATH": str(ROOT), "RAY_AUTH_MODE": "disabled"}
    ours[STAY_ON_LOOPBACK] = "1"  # it need not, whatever a test before this one asked for
    words = [Path(sys.executable).with_name("ray"), "start", "--address", cluster, "--block"]
    with log.open("w") as file:
        node = subprocess.Popen(
            [*within, *words, "--num-cpus", str(num_cpus)],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **ours, **env},
            start_new_session=True,
        )

    def wait_for(nodes: int) -> None:
        end = time.monotonic() + 240
        while sum(node["Alive"] for node in ray.nodes()) != nodes:
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.1)

    try:
        wait_for(2)
        yield node
    finally:
        with suppress(ProcessLookupError):
            os.killpg(node.pid, signal.SIGTERM)
        node.wait()
        wait_for(1)


def write_study(
    runs: Path, store: Path | str, toy: dict[str, Any] | None = None, **settings: Any
) -> Path:
    """Write a toy study's YAML and its orders for faults; return the YAML's path."""
    study = {
        "study": "toy",
        "data": {"store": str(store), "fold": 0},
        "space": {
            "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True},
            "batch.effective": {"type": "categorical", "choices": [4, 8, 16]},
            "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in"]},
            "loss.warm_in_fraction": {
                "type": "float",
                "low": 0.01,
                "high": 0.1,
                "when": {"loss.weighting": ["warm_in"]},
            },
        },
        "sampler": {"type": "tpe", "num_startup_trials": 3},
        "scheduler": {"grace_period": 1, "max_t": 9, "reduction_factor": 3, "smoothing": 2},
        "trials": {"num_trials": 8, "cpus_per_trial": 2},
        "enqueue": [{"optimizer.lr": 1e-4, "protected": True}, {"optimizer.lr": 2e-3}],
        "seed": 1,
        **settings,
    }
    orders = runs / str(study["study"]) / "toy"
    orders.mkdir(parents=True)
    for name, order in (toy or {}).items():
        (orders / name).write_text(str(order))
    path = runs / "study.yaml"
    path.write_text(yaml.safe_dump(study, sort_keys=False))
    return path


@pytest.fixture
def drive(cluster: str, mlflow_uri: str) -> Iterator[Callable[..., Driver]]:
    """Start drivers on the shared Ray and MLflow; whatever still runs at the end is killed."""
    drivers: list[Driver] = []

    def start(
        study: Path, fit: str = "tests.search.toy:fit", runs: Path | None = None, uri: str = ""
    ) -> Driver:
        env = {"MLFLOW_TRACKING_URI": uri or mlflow_uri}
        drivers.append(Driver(study, runs or study.parent, cluster, fit, env=env))
        return drivers[-1]

    yield start
    for driver in drivers:
        if driver.process.poll() is None:
            driver.kill()


@pytest.fixture(scope="session")
def calm(tmp_path_factory: pytest.TempPathFactory, store: Path, cluster: str) -> Driver:
    """A study of 2 + 8 trials, one at a time, that nothing disturbed."""
    study = write_study(tmp_path_factory.mktemp("calm"), store)
    driver = Driver(study, study.parent, cluster, imports=True)
    driver.finish()
    return driver


@pytest.fixture(scope="session")
def mlflow_uri(calm: Driver) -> str:
    """The MLflow of the undisturbed study, which chose it by itself; others are told to use it."""
    return f"sqlite:///{calm.folder.parent / 'mlflow.db'}"


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without a run, to be copied: to create one takes seconds."""
    from search.tracking.runs import connect

    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    connect(f"sqlite:///{path}")
    return path


@pytest.fixture
def plain_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for matplotlib and the page, which tests/search/report looks at."""
    for name in ("draw_study", "draw_trial"):
        monkeypatch.setattr(
            f"search.report.learning_curves.{name}", lambda *args: args[-1].write_bytes(b"picture")
        )
    monkeypatch.setattr(
        "search.tracking.artifacts.write_study_page",
        lambda folder, found, out: (out / "r.html").write_bytes(b"picture"),
    )


class Guarded(NamedTuple):
    """A Ray cluster that answers only to holders of its token."""

    address: str
    url: str
    """Of its dashboard."""
    token: Path


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start a head with dashboard and token, as cluster/ does; its processes end with the tests."""
    token = tmp_path_factory.mktemp("guarded") / "token"
    log = token.with_name("head.log")
    address, url = (f"127.0.0.1:{free_port()}" for _ in range(2))
    options = {
        "port": address.rpartition(":")[2],
        "dashboard-host": "127.0.0.1",
        "dashboard-port": url.rpartition(":")[2],
        "ray-client-server-port": free_port(),
        "dashboard-agent-listen-port": free_port(),
        "num-cpus": 2,
    }
    env = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": str(ROOT),
    }
    subprocess.run([sys.executable, "-m", "search.execution.auth"], env=env, cwd=ROOT, check=True)
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # short, for its sockets' sake
        words = [f"--{name}={value}" for name, value in options.items()]
        command = [str(Path(sys.executable).with_name("ray")), "start", "--head", "--block"]
        with log.open("w") as output:
            head = subprocess.Popen(
                [*command, *words, f"--temp-dir={folder}"],
                env=env,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        try:
            end = time.monotonic() + 240
            while "Ray runtime started" not in log.read_text():
                assert head.poll() is None and time.monotonic() < end, log.read_text()
                time.sleep(0.1)
            yield Guarded(address, f"http://{url}", token)
        finally:
            os.killpg(head.pid, signal.SIGKILL)
            head.wait()


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="session")
def trained_runs(phantom_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs with a study `demo` of real weights (tests/search/trained_study.py), to be copied."""
    from tests.search import trained_study

    runs = tmp_path_factory.mktemp("trained") / "runs"
    trained_study.write(phantom_store, runs / "demo")
    return runs
