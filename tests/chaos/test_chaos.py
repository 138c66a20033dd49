"""Faults on three hosts: every study ends, and with the results that it has without faults.

Needs root, for namespaces; `make chaos` is the whole campaign.
"""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.chaos import suites
from tests.chaos.campaign import carry_out, table
from tests.chaos.hosts import ROOT, Host, obstacle, wait_for

pytestmark = pytest.mark.skipif(bool(reason := obstacle()), reason=reason)


@pytest.mark.timeout(600)
def test_short(phantom_store: Path) -> None:
    """Eight faults of seven kinds."""
    stages = suites.short()
    rows = carry_out(stages, phantom_store, seed=0)
    print(table(rows))
    assert [row.kind for row in rows] == [fault.__name__ for fault in stages[0].faults]
    assert len({row.kind for row in rows}) >= 5


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_longer(phantom_store: Path) -> None:
    """Sixteen faults of all kinds."""
    rows = carry_out(suites.longer(), phantom_store, seed=1)
    print(table(rows))
    assert len(rows) == 16 and len({row.kind for row in rows}) == 12


def test_nothing_outlives_the_test() -> None:
    """SIGKILL of who made a host ends all that is in it, whatever it does against that."""
    stubborn = "trap '' TERM HUP; (setsid sleep 1234 &) ; setsid sleep 1234 & "
    code = f"""
import time
from tests.chaos.hosts import Host
host = Host("stubborn", {stubborn!r})
print(host._namespace, flush=True)
time.sleep(1000)
"""
    maker = subprocess.Popen(
        [sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert maker.stdout
    namespace = maker.stdout.readline().strip()
    wait_for(lambda: len(in_namespace(namespace)) == 3, "process 1 and two more")
    maker.send_signal(signal.SIGKILL)
    maker.wait()
    wait_for(lambda: not in_namespace(namespace), "the host's end")


def test_power_off_and_a_new_start() -> None:
    """A host's name and processes are its own, and end with it."""
    host = Host("alone", "true")
    sleeper = host.start("sleeper", "sleep", "1234")
    wait_for(lambda: len(host.processes("sleeper")) == 1, "the sleeper")
    host.run("name", "sh", "-c", "hostname; ps -e | wc -l")
    assert host.log("name").split()[0] == "alone"
    host.kill("sleeper")
    assert sleeper.wait(10) != 0 and not host.processes("sleeper") and host.is_on
    host.power_off()
    assert not host.is_on and not in_namespace(host._namespace)


def in_namespace(namespace: str) -> list[Path]:
    """Return the processes of a PID namespace."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if str((process / "ns/pid").readlink()) == namespace:
                found.append(process)
        except OSError:
            continue
    return found
