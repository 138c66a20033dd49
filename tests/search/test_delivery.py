"""The thread that hands on what a study writes."""

import itertools
import threading
import time
from typing import Any

from search.delivery import Delivery, pauses


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

    def tell(self, error: Exception | None) -> None:
        self.told.append(str(error))

    def delivery(self, **changes: object) -> Delivery:
        words: dict[str, Any] = {"name": "x", "period_s": 0.02, "retry_s": (0.01, 0.04)}
        return Delivery(self.deliver, lambda: self.behind, tell=self.tell, **words | changes)


def test_pauses() -> None:
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
    assert place.sent.wait(5)
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
    ending = Delivery(
        lambda: (place.times.append(0.0), ending.end())[1],
        lambda: False,
        name="x",
        period_s=0.01,
        retry_s=(1, 1),
        tell=lambda error: None,
    )
    ending.start()
    time.sleep(0.1)
    ending.close(5)
    assert place.times == [0.0]
