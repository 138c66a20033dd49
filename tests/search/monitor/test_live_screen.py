"""The live screen: what it says, that it fits, and that nothing tears it on a real terminal."""

import io
import sys
from pathlib import Path

import pytest
from rich.console import Console

from search.monitor.console import print_event
from search.monitor.live_screen import Screen, sparkline
from search.monitor.status import status_of
from search.report.text import duration, hours_of
from tests.search.monitor.test_snapshot import Simulated, study
from tests.terminal import Terminal

ROOT = Path(__file__).resolve().parents[3]


def running(num_trials: int, epochs: int, **settings: object) -> Simulated:
    """A study with a control and so many trials, all of them running; later ones are better."""
    scheduler = {"grace_period": 9, "max_t": 81, "reduction_factor": 3, "brackets": 2}
    simulated = Simulated(
        study(scheduler=scheduler, trials={"num_trials": 90, "gpus_per_trial": 1}, **settings)
    )
    simulated.start(0, "control")
    for number in range(1, num_trials + 1):
        simulated.start(number, params={"optimizer.lr": number / 1000})
    for epoch in range(1, epochs + 1):
        simulated.now += 60
        for number in range(num_trials + 1):
            simulated.report(number, 0.01 * number * epoch / 8)
    return simulated


def lines(simulated: Simulated, width: int = 80, height: int = 24) -> list[str]:
    screen = Screen(simulated.snapshot(), "pid 7 on host")
    return [line.plain.rstrip() for line in screen.lines(width, height, simulated.now + 5)]


def test_what_it_says() -> None:
    simulated = running(3, 8, budget={"gpu_hours": 2, "wall_hours": 1})
    threshold = {"modality": "tmax", "above": True, "threshold": 6, "dice": 0.31}
    simulated.record({"event": "threshold", **threshold})
    simulated.record({"event": "data", "ceiling": {"dice": 0.92, "lesion_f1": 0.8}})
    text = "\n".join(lines(simulated, 100, 40))
    for said in (
        "study       known  pid 7 on host",
        "trials      3 of 90 searched: 3 running; control running",
        "  32 of about ",
        ", at most 7371",
        "spent       32 min of 2 h of GPU time, 8 min of 1 h of wall time",
        "to the end  about 22 min (",
        ", when the GPU-hours are spent",
        "best        val/dice 0.0300  epoch 8, trial 3  lr=0.003",
        "second      val/dice 0.0200  epoch 8, trial 2  lr=0.002",
        "third       val/dice 0.0100  epoch 8, trial 1  lr=0.001",
        "            selected on, optimistic",
        "control     val/dice 0.0000  epoch 8, trial 0  (best +0.0300)",
        "threshold   Dice 0.3100  tmax >= 6",
        "ceiling     Dice 0.9200  a perfect model at this image size",
        "rungs       epoch 9    epoch 27   epoch 81   judged → went on",
        "bracket 1            0 → 0      0 done",
        "val/dice 0.00 to 0.03",
        "    0 control   ━",
        "   8/81   ▁▁▁▁▁▁▁▁",
        "    3 sampled   ━",
        "   8/81   ▂▃▄▅▅▆▇█",
        " 0.0300           5 s",
    ):
        assert said in text, f"{said!r} is not in\n{text}"


def test_what_people_ask_for(capsys: pytest.CaptureFixture[str]) -> None:
    """On the screen, and as lines, without what a terminal would obey."""
    simulated = running(2, 1)
    asked = {"event": "enqueued", "params": {"optimizer.lr": 1e-3}, "request": "a"}
    simulated.record(asked)
    simulated.record(asked | {"reference": "mine", "request": "b", "like": "other:7"})
    simulated.record({"event": "stop_asked", "trial": 1, "request": "c"})
    simulated.record({"event": "note", "trial": 2, "text": "a\x1b[2Jb", "request": "d"})
    declined = {"event": "declined", "what": "enqueue x=1", "reason": "no\nx", "request": "e"}
    simulated.record(declined)
    text = "\n".join(lines(simulated, 120, 40))
    assert (
        "2 of 91 searched" in text and "by hand     2 to come: enqueue optimizer.lr=0.001" in text
    )
    assert " 5 s  stopping" in text and " 5 s  ab" in text
    snapshot = simulated.snapshot()
    for event in simulated.events[-5:]:
        print_event(event, snapshot.study, snapshot.state)
    said = capsys.readouterr().out
    assert "\x1b" not in said and said.count("\n") == 5
    for line in (
        "asked for: enqueue reference mine optimizer.lr=0.001, as other:7",
        "trial    1  asked to stop at its checkpoint",
        "trial    2  note: ab",
        "declined: enqueue x=1: no x",
    ):
        assert line in said


@pytest.mark.parametrize(("width", "height"), [(80, 24), (60, 20), (200, 120)])
def test_64_running_trials_fit(width: int, height: int) -> None:
    shown = lines(running(64, 3), width, height)
    assert len(shown) < height and max(map(len, shown)) <= width
    rows = [line for line in shown if "sampled" in line]
    last = [line.split()[0] for line in rows]
    if height == 120:
        assert len(rows) == 64 and "more" not in shown[-1]
    else:
        hidden = 65 - len(rows)
        assert shown[-1].strip() == f"and {hidden} more, with lower values or none"
        assert last == [str(number) for number in range(64 - len(rows) + 1, 65)]  # the best


def test_a_best_far_below_the_control_is_said_as_such() -> None:
    simulated = Simulated(study())
    for number, kind, dice in ((0, "control", 0.47), (1, "sampled", 0.03)):
        simulated.start(number, kind)
        simulated.report(number, dice)
        simulated.events[-2]["metrics"] = {"val/dice": dice}
    said = "            0.03 where the control reaches 0.47: the data is not the reason"
    assert said in lines(simulated)
    simulated.report(0, 0.48)
    simulated.events[-2]["metrics"] = {"val/dice": 0.48}
    assert "the data is not the reason" not in "\n".join(lines(simulated)), "it is young"


def test_a_low_terminal_shows_the_best_alone() -> None:
    simulated = running(3, 8)
    assert any(line.startswith("second") for line in lines(simulated, 80, 24))
    assert not any(line.startswith("second") for line in lines(simulated, 80, 23))


def test_before_and_after() -> None:
    simulated = Simulated(study())
    assert "to the end  not known before an epoch was reported" in lines(simulated)
    simulated.run()
    snapshot = simulated.snapshot()
    ended = [line.plain for line in Screen(snapshot, None).lines(80, 24, simulated.now)]
    assert ended[0].endswith("known  finished")
    assert not [line for line in ended if line.startswith(("to the end", "running"))]


def test_trials_without_epochs_or_values() -> None:
    zero = study(
        scheduler={"type": "none", "max_t": 0}, train={"init_from": "x.pt"},
        sampler={"type": "grid"},
        space={"sampling.eta": {"type": "categorical", "choices": [0.0, 0.5, 1.0]}},
        trials={"num_trials": 3},
    )  # fmt: skip
    simulated = Simulated(zero)
    simulated.start(0)
    text = "\n".join(lines(simulated))
    assert "epochs      nothing is trained: each trial is one validation" in text
    assert "    0 sampled" in text
    never_finite = Simulated(study())
    never_finite.start(0)
    never_finite.report(0, 0.5)
    never_finite.events[-2]["value"] = float("nan")
    assert "nan" in "\n".join(lines(never_finite))


def test_spark_lines_show_values_and_mark_nan() -> None:
    assert sparkline([0, 0.5, 1], 0, 1, 10) == "▁▅█"
    assert sparkline([0.5, float("nan"), 2, -1], 0, 1, 10) == "▅x█▁"
    assert sparkline([0.2, 0.2], 0.2, 0.2, 10) == "▁▁"
    assert sparkline([0] * 40 + [1] * 40, 0, 1, 8) == "▁▁▁▁████"
    assert len(sparkline([0.1] * 83, 0, 1, 20)) == 20


def test_durations_have_two_units_at_most() -> None:
    said = [duration(s) for s in (0, 59.4, 59.6, 3599, 3600, 5 * 3600 + 1210, 99 * 3600)]
    assert said == ["0 s", "59 s", "1 min", "1 h", "1 h", "5 h 20 min", "4 d 3 h"]
    assert [hours_of(h) for h in (0.54, 3.34, 47.8, 539.4)] == [
        "32 min", "3 h 20 min", "47 h 48 min", "539 h",
    ]  # fmt: skip


def test_a_fault_in_drawing_does_not_reach_who_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("search.monitor.live_screen._head", lambda *_: 1 / 0)
    console = Console(file=io.StringIO(), width=80)
    console.print(Screen(Simulated(study()).snapshot(), "pid 7 on host"))
    assert "cannot be drawn: ZeroDivisionError" in console.file.getvalue()


def test_status_has_what_the_screen_has(tmp_path: Path) -> None:
    simulated = running(3, 8)
    result = status_of(simulated.snapshot(), tmp_path, "pid 7 on host")
    rungs = simulated.snapshot().rungs
    assert result["rungs"] == [rung._asdict() for rung in rungs.rows()]
    assert [row["trial"] for row in result["running"]] == [0, 1, 2, 3]
    assert result["running"][3]["value"] == 0.03 and result["running"][3]["epoch"] == 8
    assert result["trials"] == {"running": 3} and result["references"] == {"running": 1}
    assert result["eta_s"] > 0
    assert status_of(simulated.snapshot(), tmp_path, None)["eta_s"] is None


NOISY = """
import logging, sys, threading, time
handler = logging.StreamHandler(sys.stderr)     # bound before the screen, as many libraries do
logging.getLogger("noisy").addHandler(handler)
logging.getLogger("noisy").propagate = False
from search.monitor.console import print_event
from search.monitor.live_screen import Screen, live_display, terminal
from tests.search.monitor.test_live_screen import running
simulated = running(3, 4)
screen = Screen(simulated.snapshot(), "pid 7 on host")
def warn():
    for number in range(40):
        logging.getLogger("noisy").warning("warning %d", number)
        logging.getLogger("other").warning("last resort %d", number)
        time.sleep(0.005)
with live_display(screen, terminal()):
    thread = threading.Thread(target=warn)
    thread.start()
    for number in range(40):
        begun = len(simulated.events)
        simulated.report(3, 0.03)
        screen.apply({**event, "time": simulated.now} for event in simulated.events[begun:])
        print("line", number, flush=True)
    thread.join()
handler.emit(logging.makeLogRecord({"msg": "after"}))
"""


def test_nothing_tears_it() -> None:
    """Events, prints and warnings of two threads on one terminal: each line is whole."""
    with Terminal([sys.executable, "-c", NOISY], cwd=ROOT) as terminal:
        assert terminal.finish() == 0, terminal.grid.text
        found = terminal.grid.text.splitlines()
    expected = {f"line {i}" for i in range(40)} | {f"warning {i}" for i in range(40)}
    expected |= {f"last resort {i}" for i in range(40)} | {"after"}
    assert expected <= set(found)
    screen = [line for line in found if line not in expected and line]
    assert screen[0].startswith("study ") and len(screen) < 24  # drawn once, below all of them
    assert found.index(screen[0]) == 120
    [row] = [line for line in screen if line.startswith("    3 sampled")]
    assert "44/81" in row
    assert terminal.grid.cursor_shown
