"""Fixtures shared by all tests, and which of them run in one process."""

import fcntl
import os
import signal
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Before torch is imported: several processes with several threads each slow each other down.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Else Ray's workers, at niceness 15, get what the other processes of the tests leave: a trial of
# seconds took ten minutes.
os.environ.setdefault("RAY_worker_niceness", "0")

import pytest
from _pytest.nodeid import NodeId

from tests.search.s3 import AWS

# Ignored where the tests run behind `nohup` or `&`, and then in every process that they start.
for number, action in (
    (signal.SIGINT, signal.default_int_handler),
    (signal.SIGHUP, signal.SIG_DFL),
):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, action)

ROOT = Path(__file__).resolve().parents[1]

BAD_INPUT: list[Mapping[str, Mapping[str, int]]] = []
"""What each process of the tests met: by kind, how many inputs were refused or read right."""
COMBINATIONS: Counter[str] = Counter()
"""Of each test with `one_in`, how many are collected so far."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Leave all but every n-th combination of `one_in(n)` to the slow tests."""
    if (mark := item.get_closest_marker("one_in")) is not None:
        test = item.nodeid.partition("[")[0]
        if COMBINATIONS[test] % mark.args[0]:
            item.add_marker(pytest.mark.slow)
        COMBINATIONS[test] += 1


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the tests of a file in one process, and of `make test` all that use Ray in the same.

    These share a Ray and a study of it. The slow ones are many, and each process has its own Ray.

    pytest-xdist tells groups apart by an id's ending, which its own mark fails to set since
    pytest 9.2: it writes the id where pytest no longer reads it.
    """
    if not config.getoption("loadgroup", False):  # set in its processes
        return
    files = {item: item.nodeid.split("::")[0] for item in items}
    on_ray = {item for item in items if {"cluster", "guarded"} & {*item.fixturenames}}
    together = "not slow" in config.option.markexpr
    groups = {i: "ray" if together and i in on_ray else file for i, file in files.items()}
    first = {groups[item] for item in on_ray}
    # What takes longest begins first, so that no process is left alone with it at the end: those
    # on Ray, then the files of few tests.
    sizes = Counter(groups.values())
    items.sort(key=lambda item: (groups[item] not in first, sizes[groups[item]], groups[item]))
    for item in items:
        item._id = NodeId.parse(f"{item.nodeid}@{groups[item]}")


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take what a process of pytest-xdist says of bad input."""
    output = getattr(node, "workeroutput", {})  # a crashed one has none
    BAD_INPUT.append(output.get("bad_input", {}))


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print how much bad input there was, and what became of it."""
    counts: dict[str, Counter[str]] = {}
    for found in BAD_INPUT:
        for kind, count in found.items():
            counts.setdefault(kind, Counter()).update(count)
    if counts:
        parts = [
            f"{count.total()} {kind} ({count['refused']} refused, {count['right']} right)"
            for kind, count in sorted(counts.items())
        ]
        terminalreporter.write_line(f"bad input: {', '.join(parts)}")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real images beside the checkout; tests that need it skip where it is missing."""
    path = ROOT.parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"real images are not at {path}")
    return path


@pytest.fixture(scope="session")
def phantom_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small prepared phantom, one for all processes of the tests: 10 cases, 32 x 32 pixels."""
    from trainer.data.phantom import write_phantom
    from trainer.data.prepare import prepare

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # there, each process has a folder in the same one
        folder = folder.parent
    folder /= "phantom"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        write_phantom(folder / "dataset", num_cases=10, seed=0)
        prepare(folder / "dataset", folder / "store", image_size=32)
    return folder / "store"


@pytest.fixture(scope="session")
def node_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SEGTUNE_CACHE of the nodes."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def cluster(node_cache: Path) -> Iterator[str]:
    """Start a Ray of two CPUs and what it takes for a GPU; drivers attach, which is quicker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SEGTUNE_CACHE", str(node_cache))
        for name, value in AWS.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", str(ROOT))
        patch.setenv("RAY_AUTH_MODE", "disabled")  # else drivers need this Ray's token
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        import ray

        context = ray.init(
            address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False
        )
        yield context.address_info["gcs_address"]
        ray.shutdown()
