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
from tests.chaos.hosts import NETWORK, ROOT, SHARE, obstacle, wait_for
from tests.chaos.lan import Lan, RayHost

pytestmark = [
    pytest.mark.skipif(bool(reason := obstacle()), reason=reason),
    # Hosts are ended with their namespace, and with them whoever was talked to there.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_a_study_survives_seven_kinds_of_faults(phantom_store: Path) -> None:
    """Eight faults of seven kinds."""
    stages = suites.short()
    rows = carry_out(stages, phantom_store, seed=0)
    print(table(rows))
    assert [row.kind for row in rows] == [fault.__name__ for fault in stages[0].faults]
    assert len({row.kind for row in rows}) >= 5


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_a_study_survives_every_kind_of_fault(phantom_store: Path) -> None:
    """Sixteen faults of all kinds."""
    rows = carry_out(suites.longer(), phantom_store, seed=1)
    print(table(rows))
    assert len(rows) == 16 and len({row.kind for row in rows}) == 12


@pytest.mark.nightly
@pytest.mark.timeout(3600)
def test_asha_decides_the_same_whatever_strikes(phantom_store: Path) -> None:
    """Sixteen faults on three workers; twice a driver was asleep while another took over."""
    rows = carry_out(suites.pruned(2), phantom_store, seed=2)
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


def test_a_host_has_its_own_name_address_and_processes() -> None:
    """Each has its own name, address and processes, sees the shared folder, and ends when told."""
    knock = f"import socket; socket.create_connection(('{NETWORK}.2', 1), 1)"
    with Lan() as lan:
        one, two = RayHost(1, lan.switch), RayHost(2, lan.switch)
        two.run("name", "sh", "-c", f"hostname > {SHARE}/name")
        assert (lan.share / "name").read_text() == "host2\n" and not one.processes("name")
        one.start("knock", "python", "-c", knock).wait()
        assert one.log("knock").endswith("ConnectionRefusedError: [Errno 111] Connection refused\n")
        two.link(up=False)
        one.start("knock", "python", "-c", knock).wait()
        assert "refused" not in one.log("knock").splitlines()[-1]
        two.start("sleeper", "sleep", "1234")
        wait_for(lambda: len(two.processes("sleeper")) == 1, "the sleeper")
        two.kill("sleeper")
        assert not two.processes("sleeper") and two.is_on
        two.power_off()
        assert not two.is_on and not in_namespace(two._namespace) and one.is_on
        RayHost(2, lan.switch).power_off()
        one.power_off()


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
