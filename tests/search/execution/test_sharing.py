"""How studies on one cluster share it."""

import random

from search.execution.sharing import Sharing, Table, Wish, dealt


def wish(name: str, wants: int, *, weight: float = 1.0, slots: int = 4, runs: int = 0) -> Wish:
    return Wish(name, weight, slots, wants, runs)


def test_all_get_what_they_want_where_there_is_room() -> None:
    assert dealt({"a": wish("a", 1), "b": wish("b", 3)}, {}) == {"a": 1, "b": 3}


def test_what_one_does_not_want_the_others_have() -> None:
    wishes = {name: wish(name, wants, slots=8) for name, wants in (("a", 1), ("b", 8), ("c", 8))}
    assert dealt(wishes, {}) == {"a": 1, "b": 4, "c": 3}


def test_by_weight() -> None:
    assert dealt({"a": wish("a", 9, weight=3.0), "b": wish("b", 9)}, {}) == {"a": 3, "b": 1}


def test_trials_of_other_sizes() -> None:
    wishes = {"small": wish("small", 8, slots=8), "large": wish("large", 8, slots=2)}
    assert dealt(wishes, {}) == {"small": 4, "large": 1}


def test_never_more_than_there_is_and_nothing_left_over() -> None:
    rng = random.Random(0)
    for _ in range(300):
        slots = rng.randint(1, 12)
        wishes = {
            str(n): wish(str(n), rng.randint(0, 9), weight=rng.choice([0.5, 1, 3]), slots=slots)
            for n in range(rng.randint(1, 5))
        }
        places = dealt(wishes, {})
        assert all(places[name] <= wishes[name].wants for name in wishes)
        assert sum(places.values()) == min(slots, sum(each.wants for each in wishes.values()))


class InMemory(Table):
    """A table without a Ray."""

    def __init__(self) -> None:
        self._said: dict[str, bytes] = {}

    def write(self, uid: str, said: bytes) -> None:
        self._said[uid] = said

    def read(self) -> dict[str, bytes]:
        return {**self._said}

    def remove(self, uid: str) -> None:
        del self._said[uid]


class Studies:
    """Studies that share a table, and their clock, whose turns are of ten seconds."""

    def __init__(self, names: str, wants: int, slots: int):
        self.now_s = 0.0
        self.places = dict.fromkeys(names, 0)
        table = InMemory()
        self.all = {
            name: Sharing(
                name,
                lambda name=name: wish(name, wants, slots=slots, runs=self.places[name]),
                table,
                lambda: self.now_s,
                lambda: self.now_s // 10,
            )
            for name in names
        }

    def poll(self, names: str) -> None:
        """Let some of them say and hear, and all that they may run at once."""
        for name in names:
            self.all[name].poll()
            answer = self.all[name].answer
            self.places[name] = answer.places if answer else 4


def test_the_place_that_cannot_be_divided_goes_round() -> None:
    studies, had = Studies("abc", wants=2, slots=2), dict.fromkeys("abc", 0)
    turns = set()
    for _ in range(300):
        studies.poll("abc")
        for name, places in studies.places.items():
            had[name] += places
        if studies.now_s % 10 >= 2:  # all have heard of the turn
            assert sum(studies.places.values()) == 2
        turns.add((studies.now_s // 10, *studies.places.values()))
        studies.now_s += 2
    assert all(150 <= each <= 250 for each in had.values()), had
    assert len(turns) <= 2 * 60  # and once a turn at most, but for the moment between two words


def test_one_that_comes_later_has_missed_nothing() -> None:
    studies = Studies("ab", wants=1, slots=1)
    for _ in range(100):
        studies.poll("a")
        studies.now_s += 2
    had = dict.fromkeys("ab", 0)
    for _ in range(100):
        studies.poll("ab")
        for name, places in studies.places.items():
            had[name] += places
        studies.now_s += 2
    assert abs(had["a"] - had["b"]) <= 10, had


def test_who_is_silent_gives_its_places_up() -> None:
    studies = Studies("ab", wants=4, slots=4)
    studies.poll("ab")
    assert studies.places["b"] == 2
    studies.now_s = 30.0
    studies.poll("b")
    assert studies.places["b"] == 2
    studies.now_s = 32.0
    studies.poll("b")
    assert studies.all["b"].answer is None
    studies.poll("ab")
    studies.now_s = 34.0
    studies.poll("ab")
    assert studies.places == {"a": 2, "b": 2}
    studies.all["a"].leave()
    studies.now_s = 36.0
    studies.poll("b")
    assert studies.all["b"].answer is None
