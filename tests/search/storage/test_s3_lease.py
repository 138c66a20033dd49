"""One driver of a study in S3."""

import json
import subprocess
import sys
import threading
import time

import pytest

from search.ledger.lease import TakenOver
from search.storage import s3_lease
from search.storage.s3 import Remote
from search.storage.s3_lease import S3Lease, holder


@pytest.fixture
def place(s3: str) -> Remote:
    return Remote.parse(s3) / "study"


def elsewhere(place: Remote, key: str) -> None:
    """Sign a lease as a driver on another machine would."""
    about = {"host": "far", "pid": 7, "kernel": "another", "started": "1"}
    place.put(key, json.dumps(about).encode())


def test_one_after_the_other(place: Remote) -> None:
    first = S3Lease.take(place)
    with pytest.raises(ValueError, match="is being run by pid"):
        S3Lease.take(place)
    assert holder(place)
    first.release()
    assert holder(place) is None
    assert S3Lease.take(place).fence == first.fence + 1
    assert len(place.entries("lease")) == 1 and place.entries("clock") == []


def test_the_number_is_above(place: Remote) -> None:
    assert S3Lease.take(place, above=41).fence == 42


def test_a_dead_process_holds_nothing(place: Remote) -> None:
    """On the same kernel at once."""
    script = "import sys; from search.storage.s3_lease import S3Lease as L, Remote as R\n"
    script += "L.take(R.parse(sys.argv[1]))"
    subprocess.run([sys.executable, "-c", script, place.uri], check=True)
    assert holder(place) is None
    assert S3Lease.take(place).fence == 2


def test_a_silent_machine_is_waited_for(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_lease, "LEASE_S", 3.0)
    elsewhere(place, "lease/000004-aa")
    assert holder(place) == "pid 7 on far"
    begun = time.monotonic()
    assert S3Lease.take(place).fence == 5
    assert time.monotonic() - begun > 2


def test_a_machine_that_gives_signs_lives(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_lease, "LEASE_S", 20.0)
    elsewhere(place, "lease/000004-aa")
    threading.Timer(1.5, elsewhere, (place, "lease/000004-aa")).start()
    with pytest.raises(ValueError, match="is being run by pid 7 on far"):
        S3Lease.take(place)


def test_whoever_was_replaced_learns_it(place: Remote, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(s3_lease, "BEAT_S", 0.0)
    held = S3Lease.take(place)
    held.beat()
    elsewhere(place, "lease/000002-bb")
    with pytest.raises(TakenOver, match="pid 7 on far"):
        held.beat()


def test_of_many_at_once_one_has_it(place: Remote) -> None:
    held: list[S3Lease] = []
    refused: list[str] = []

    def take() -> None:
        try:
            held.append(S3Lease.take(place))
        except ValueError as error:
            refused.append(str(error))

    threads = [threading.Thread(target=take) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(held) == 1 and len(refused) == 5
