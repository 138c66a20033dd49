"""A campaign: faults at seeded random moments, study after study, each checked at its end."""

import random
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count, pairwise
from pathlib import Path

from search.ledger.events import COUNTED
from tests.chaos.faults import Fault, NoVictim, Strike
from tests.chaos.lan import Lan
from tests.chaos.server import MlflowServer
from tests.chaos.study import Plan, Run, interruptions


@dataclass(frozen=True)
class Row:
    """A fault that struck.

    Attributes:
        study: Its name.
        kind: Name of the fault.
        strike: Whom it struck.
        back_s: Seconds until all trials that it struck had reported again, or ended.
        lost_s: Seconds that these trials together reported later than usual.
    """

    study: str
    kind: str
    strike: Strike
    back_s: float
    lost_s: float


@dataclass(frozen=True)
class Stage:
    """Faults that studies of one plan go through.

    Attributes:
        plan: Of the studies, as many as it takes.
        faults: In the order in which they strike.
        gap: Reports between two faults, at most.
    """

    plan: Plan
    faults: Sequence[Fault]
    gap: int = 3


def carry_out(
    stages: Iterable[Stage], store: Path, seed: int, say: Callable[[str], None] = print
) -> list[Row]:
    """Strike with every fault of every stage, and check every study.

    Args:
        stages: One after the other, on the same hosts.
        store: A prepared data set.
        seed: Of all moments and victims.
        say: Takes a line for each fault, and one for each study.

    Raises:
        AssertionError: A study's results are not those without faults.
        TimeoutError: Something did not recover.
    """
    draw = random.Random(seed)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, Lan() as lan:
        lan.copy(store, "store")
        mlflow = MlflowServer(lan.switch)
        lan.start()
        mlflow.wait()
        try:
            for number, stage in enumerate(stages):
                truth = stage.plan.truth(Path(folder) / str(number), store)
                rows += _stage(stage, truth, lan, mlflow, draw, say)
        except BaseException:
            say(f"what is left for a look: {_keep(lan)}")
            raise
    return rows


def _keep(lan: Lan) -> Path:
    """Copy studies and logs, which end with the hosts, to a folder that stays."""
    folder = Path(tempfile.mkdtemp(prefix="segtune-chaos-failed-"))
    shutil.copytree(lan.share, folder / "share", ignore=shutil.ignore_patterns("filler"))
    for host in lan:
        if host.is_on:
            for role in ("driver", "ray"):
                (folder / f"{host.name}-{role}.log").write_text(host.log(role))
    return folder


def _stage(
    stage: Stage,
    truth: dict[int, list[tuple[int, dict[str, float]]]],
    lan: Lan,
    mlflow: MlflowServer,
    draw: random.Random,
    say: Callable[[str], None],
) -> list[Row]:
    todo, rows = list(stage.faults), list[Row]()
    for number in count():
        if not todo:
            return rows
        begun_s = time.monotonic()
        run = Run(stage.plan.named(f"{stage.plan.name}-{number}"), lan, mlflow)
        its_rows = _strike(run, todo, stage.gap, draw, say)
        run.finish()
        run.check(truth)
        _check_retries(run, its_rows)
        counts = ", ".join(f"{n} {cause}" for cause, n in interruptions(run).items())
        say(
            f"{run.plan.name}: {len(its_rows)} faults in {time.monotonic() - begun_s:.0f} s; "
            f"{len(truth)} trials as without faults; attempts lost: {counts or 'none'}"
        )
        rows += its_rows
    raise AssertionError


def _strike(
    run: Run, todo: list[Fault], gap: int, draw: random.Random, say: Callable[[str], None]
) -> list[Row]:
    """Strike a study while there are faults to do and it goes on; what was done leaves `todo`."""
    rows: list[Row] = []
    while todo:
        wanted = len(run.events("reported")) + draw.randint(1, gap)
        run.wait(partial(_has_reports, run, wanted), "the next reports")
        time.sleep(draw.uniform(0, run.plan.slow_s))
        if run.ending:
            break
        try:
            row = _strike_once(run, todo[0], draw)
        except NoVictim:
            break
        del todo[0]
        rows.append(row)
        say(f"{row.study}  {row.kind:18s} {row.back_s:6.1f} {row.lost_s:6.1f}  {row.strike.what}")
    return rows


def _strike_once(run: Run, fault: Fault, draw: random.Random) -> Row:
    """Let one fault strike, and wait until the trials that it struck report again."""
    known = len(run.events())
    course = fault(run, draw)
    strike = next(course)
    begun = time.time()
    next(course, None)
    if not strike.told:  # a report may still have been on its way
        known = len(run.events())
    name = fault.__name__
    run.wait(lambda: _back(run, strike, known) is not None, f"{name} to be overcome", 300)
    back = _back(run, strike, known)
    assert back is not None, f"{run.plan.name}: ended before {name} was overcome: {strike}"
    for event in run.events("interrupted"):
        if event["trial"] in back and begun <= event["time"] <= back[event["trial"]]:
            assert event["cause"] == strike.cause or not strike.cause, f"{name}: {event}"
    back_s = max([begun, *back.values()]) - begun
    return Row(run.plan.name, name, strike, back_s, _lost_s(run, begun, back))


def _has_reports(run: Run, wanted: int) -> bool:
    return len(run.events("reported")) >= wanted


def _back(run: Run, strike: Strike, known: int) -> dict[int, float] | None:
    """Return when each trial that was struck reported again, or ended; None while one has not."""
    back: dict[int, float] = {}
    waiting = dict.fromkeys(strike.trials, strike.told)
    for number, event in enumerate(run.events()):
        kind = event["event"]
        if number < known and kind != "ended":
            continue
        for trial in waiting:
            if kind != "driver" and event.get("trial") != trial:
                continue
            if kind == waiting[trial]:
                waiting[trial] = ""
            elif kind == "ended" or (kind == "reported" and not waiting[trial]):
                back.setdefault(trial, event["time"])
    return back if back.keys() == strike.trials else None


def _lost_s(run: Run, begun: float, back: Mapping[int, float]) -> float:
    """Return how much longer than usual these trials together took for what they reported then."""
    times: dict[int, list[float]] = {}
    for event in run.events("reported"):
        times.setdefault(event["trial"], []).append(event["time"])
    usual_s = statistics.median([b - a for its in times.values() for a, b in pairwise(its)] or [0])
    lost_s = 0.0
    for trial, back_s in back.items():
        last_s = max((t for t in times.get(trial, []) if t < back_s), default=begun)
        lost_s += max(0.0, back_s - last_s - usual_s)
    return lost_s


def _check_retries(run: Run, rows: Sequence[Row]) -> None:
    """Check that as many retries were used up as processes were killed or hung."""
    due: Counter[str] = Counter()
    for row in rows:
        due[row.strike.cause] += len(row.strike.trials)
    found = interruptions(run)
    told = [(e["trial"], e["cause"], e["reason"]) for e in run.events("interrupted")]
    for cause in COUNTED:
        assert found[cause] == due[cause], f"{due[cause]} by {cause} are due: {told}"


def table(rows: Sequence[Row]) -> str:
    """Return the faults by kind: how many, how soon the trials were back, what it cost them."""
    lines = [
        f"{'fault':20s} {'times':>5s} {'trials':>6s} {'back after s':>18s} {'lost s a fault':>15s}"
    ]
    for kind in sorted({row.kind for row in rows}):
        its = [row for row in rows if row.kind == kind]
        trials = sum(len(row.strike.trials) for row in its)
        back = (
            f"{statistics.median(r.back_s for r in its):.1f} (max {max(r.back_s for r in its):.1f})"
        )
        lost = statistics.mean(row.lost_s for row in its)
        lines.append(f"{kind:20s} {len(its):5d} {trials:6d} {back:>18s} {lost:15.1f}")
    total, lost_s = len(rows), sum(row.lost_s for row in rows)
    lines.append(f"{'all':20s} {total:5d} {'':25s} {lost_s / max(total, 1):15.1f}")
    return "\n".join(lines)
