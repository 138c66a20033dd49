"""Several studies on one Ray cluster: how many trials each may run at once, so that none starves.

Studies meet in the table of keys that Ray's head keeps. Each driver writes there every few seconds
what it could use, reads what the others could, and deals the places as all of them do: one by one,
to whom has least of the cluster for its weight; what cannot be divided goes round.
"""

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import NamedTuple

import ray
from ray.experimental import internal_kv

from trainer.files.documents import from_json, to_json

NAMESPACE = "segtune-sharing"
SAY_S = 2.0
"""Between two words to the others."""
GONE_S = 30.0
"""A study that said nothing for so long has no driver any more."""
TURN_S = 300.0
"""After which what cannot be divided goes to whom has had least."""


class Wish(NamedTuple):
    """What a study says of itself."""

    name: str
    weight: float
    """`trials.share`."""
    slots: int
    """Trials of its size that the whole cluster can hold."""
    wants: int
    """Trials that it could run now."""
    runs: int
    """Trials that have an attempt."""


class Answer(NamedTuple):
    """What it hears."""

    places: int
    """Trials that it may run at once, as far as others have wishes."""
    others: tuple[Wish, ...]


def dealt(wishes: Mapping[str, Wish], served: Mapping[str, float]) -> dict[str, int]:
    """Deal the places of a cluster to studies whose trials may differ in size.

    Each place goes to the study that would then have the least of the cluster for its weight, of
    those that want one more and for which there is room; where that is equal, to whom has had least
    so far.

    Args:
        wishes: By study.
        served: What each has had so far for its weight, in any unit.

    Returns:
        Places by study. All wishes are met where the cluster is large enough.
    """
    places = dict.fromkeys(wishes, 0)
    left = 1.0
    while True:
        able = [
            (((places[uid] + 1) / wish.slots) / wish.weight, served.get(uid, 0.0), uid)
            for uid, wish in wishes.items()
            if wish.slots and places[uid] < wish.wants and 1 / wish.slots <= left + 1e-9
        ]
        if not able:
            return places
        _, _, uid = min(able)
        places[uid] += 1
        left -= 1 / wishes[uid].slots


class Table:
    """What each study of a cluster has written: in the memory of Ray's head, and gone with it."""

    def write(self, uid: str, said: bytes) -> None:
        """Replace what a study has written."""
        internal_kv._internal_kv_put(uid, said, namespace=NAMESPACE)

    def read(self) -> dict[str, bytes]:
        """Return what all have written, by uid."""
        uids = [key.decode() for key in internal_kv._internal_kv_list("", namespace=NAMESPACE)]
        said = {uid: internal_kv._internal_kv_get(uid, namespace=NAMESPACE) for uid in uids}
        return {uid: text for uid, text in said.items() if text is not None}

    def remove(self, uid: str) -> None:
        """Remove what a study has written."""
        internal_kv._internal_kv_del(uid, namespace=NAMESPACE)


class Sharing:
    """A study among those of its cluster.

    Args:
        uid: The study's.
        wish: Returns what it could use now.
        table: Where all of them write.
        clock: Seconds.
        turn: Returns the number of the turn, which all count alike.
    """

    def __init__(
        self,
        uid: str,
        wish: Callable[[], Wish],
        table: Table | None = None,
        clock: Callable[[], float] = time.monotonic,
        turn: Callable[[], float] = lambda: time.time() // TURN_S,
    ):
        self._uid = uid
        self._wish = wish
        self._table = table or Table()
        self._clock = clock
        self._turn = turn
        self._said_s: float | None = None
        self._heard: dict[str, tuple[bytes, float]] = {}
        """What each other study said last, and since when."""
        self._served = 0.0
        self._last_turn, self._served_before = -1.0, 0.0
        self.answer: Answer | None = None
        """None while nothing was heard, or nobody else is there."""
        self.heard = False
        """Whether it is known that nobody else is there, or who."""

    def poll(self) -> None:
        """Say what there is to say, and hear."""
        now_s = self._clock()
        if self._said_s is None or now_s - self._said_s >= SAY_S:
            with suppress(ray.exceptions.RayError):  # the head is gone: its studies end soon
                self._meet(now_s)

    def leave(self) -> None:
        """Let the others have everything at once."""
        with suppress(ray.exceptions.RayError):
            self._table.remove(self._uid)

    def _meet(self, now_s: float) -> None:
        wishes, served = self._others(now_s)
        wish, others = self._wish(), tuple(wishes.values())
        if self._said_s is None:  # it has missed nothing: it was not there
            self._served = min(served.values(), default=0.0)
        else:
            part = wish.runs / max(1, wish.slots)
            self._served += part * (now_s - self._said_s) / wish.weight
        self._said_s = now_s
        if self._last_turn != (turn := self._turn()):
            self._last_turn, self._served_before = turn, self._served
        wishes[self._uid], served[self._uid] = wish, self._served_before
        said = {"wish": wish, "served": self._served_before, "at_s": now_s}
        self._table.write(self._uid, to_json(said).encode())
        self.answer = Answer(dealt(wishes, served)[self._uid], others) if others else None
        self.heard = True

    def _others(self, now_s: float) -> tuple[dict[str, Wish], dict[str, float]]:
        """Return what the other studies want, and what each had had when the turn began."""
        wishes, served = {}, {}
        for uid, said in self._table.read().items():
            if uid == self._uid:
                continue
            if uid not in self._heard or self._heard[uid][0] != said:
                self._heard[uid] = said, now_s
            if now_s - self._heard[uid][1] > GONE_S:
                self._table.remove(uid)
                continue
            about = from_json(said)
            wishes[uid], served[uid] = Wish(*about["wish"]), float(about["served"])
        return wishes, served
