"""The thread that hands on what a study writes."""

import itertools
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from search.storage.outbox import Outbox, pauses
from tests.search.conftest import ROOT


class Place:
    """Takes what is delivered, unless it is away."""

    def __init__(self) -> None:
        self.away = False
        self.behind = False
        self.times: list[float] = []
        self.told: list[str] = []
        self.sent = threading.Event()

    def deliver(self) -> None:
        self.times.append(time.monotonic())
        if self.away:
            raise OSError("away")
        self.behind = False
        self.sent.set()

    def note_outage(self, error: Exception | None) -> None:
        self.told.append(str(error))

    def delivery(self, **changes: object) -> Outbox:
        words: dict[str, Any] = {"name": "x", "period_s": 0.02, "retry_s": (0.01, 0.04)}
        return Outbox(
            self.deliver, lambda: self.behind, on_outage=self.note_outage, **words | changes
        )


def test_pauses_double_up_to_a_limit() -> None:
    assert [*itertools.islice(pauses(1, 6), 5)] == [1, 2, 4, 6, 6]


def test_delivers_and_waits() -> None:
    place = Place()
    delivery = place.delivery()
    delivery.start()
    time.sleep(0.2)
    delivery.close(5)
    num = len(place.times)
    assert 3 < num < 15 and place.told == []
    time.sleep(0.1)
    assert len(place.times) == num, "the thread has ended"


def test_says_once_that_nobody_answers() -> None:
    place = Place()
    place.away = place.behind = True
    after: list[int] = []
    delivery = place.delivery(meanwhile=lambda: after.append(1))
    delivery.start()
    while len(place.times) < 5:
        time.sleep(0.005)
    assert delivery.failing and place.told == ["away"] and len(after) >= 4
    place.away = False
    assert place.sent.wait(60)
    delivery.close(5)
    assert place.told == ["away", "None"] and not delivery.failing


def test_what_fails_at_the_end_is_tried_once_more() -> None:
    place = Place()
    place.away = place.behind = True
    delivery = place.delivery(retry_s=(60, 60))
    delivery.start()
    while not place.told:
        time.sleep(0.005)
    begun = time.monotonic()
    delivery.close(5)
    assert time.monotonic() - begun < 1 and len(place.times) == 2 and place.behind


def test_ended_by_what_it_calls() -> None:
    place = Place()
    ending = Outbox(
        lambda: (place.times.append(0.0), ending.end())[1],
        lambda: False,
        name="x",
        period_s=0.01,
        retry_s=(1, 1),
        on_outage=lambda error: None,
    )
    ending.start()
    time.sleep(0.1)
    ending.close(5)
    assert place.times == [0.0]


LATE = """
import sys, time
from pathlib import Path
from search.storage.outbox import Outbox

def deliver():
    time.sleep(0.5)
    with open(sys.argv[1], "a") as file:
        file.write("part\\n")
    delivery.check_time()
    with open(sys.argv[1], "a") as file:
        file.write("all\\n")

delivery = Outbox(deliver, lambda: True, name="x", period_s=9, retry_s=(9, 9), on_outage=print,
                    daemon=False)
delivery.start()
time.sleep(0.1)
delivery.close(0.1)
"""


def test_a_process_ends_between_two_steps(tmp_path: Path) -> None:
    """Nobody waits any longer: what is under way is carried out, what follows is not."""
    written = tmp_path / "written"
    command = [sys.executable, "-c", LATE, str(written)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240)
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")
    assert written.read_text() == "part\n"


def test_who_waits_at_the_end_is_told_and_may_leave() -> None:
    """Ctrl-C ends the waiting, and the thread at its next look at the time."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # xdist ignores it
    told: list[str] = []
    place = Place()

    def deliver() -> None:
        while True:
            outbox.check_time()
            time.sleep(0.01)

    def leave() -> None:
        told.append("waits")
        signal.raise_signal(signal.SIGINT)

    outbox = place.delivery(name="slow")
    outbox._deliver = deliver
    outbox.start()
    begun_s = time.monotonic()
    try:
        outbox.close(60.0, 0.1, leave)
    finally:
        signal.signal(signal.SIGINT, before)
    outbox._thread.join(60)
    assert told == ["waits"] and not outbox._thread.is_alive()
    assert 0.1 <= time.monotonic() - begun_s < 10
