"""The live screen of a study, for `launch` on a terminal and `status --watch` in another shell."""

import logging
import math
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from statistics import fmean

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.text import Text

from search.analysis.first_weights import label as label_of
from search.analysis.mask_references import scored_masks
from search.analysis.ranking import ranked, standing, value_of
from search.analysis.shortfall import far_below
from search.ledger.budget import UNITS, cost_key
from search.ledger.hand import what_of
from search.ledger.journal import Event
from search.ledger.state import StudyState, threshold_rule
from search.ledger.trial_state import TrialState
from search.monitor.eta import Estimate, Forecast
from search.monitor.snapshot import StudySnapshot, counted
from search.monitor.space import SpaceWatch
from search.report.settings_text import settings_words
from search.report.text import duration, hours_of
from search.storage.data_facts import ceiling_of
from search.study.config import StudyConfig
from trainer.terminal import GuardedStream, guarded_streams, printable, unguarded

BLOCKS = "▁▂▃▄▅▆▇█"
REFRESH_PER_S = 2
LABEL_WIDTH = 12
MIN_ROWS = 3
"""Of running trials, however low the terminal."""
NUM_BEST = 3
"""Trials shown with their settings on a terminal of HIGH rows."""
HIGH = 24
TIMES = {"gpu_hours": "of GPU time", "cpu_hours": "of CPU time", "wall_hours": "of wall time"}
"""What is spent, beside minutes and hours."""
PLACES = ("best", "second", "third")

Line = tuple[str, Text]


class Screen:
    """A study's screen as something that rich prints, as large as the terminal allows.

    Events may come from one thread while another prints it.

    Args:
        snapshot: Where the study stands; changed by `apply` alone from here on.
        driver: Who runs it, None if nobody.
        folder: The study's, of whose disk the room is shown where it is short; None for none.
    """

    def __init__(self, snapshot: StudySnapshot, driver: str | None, folder: Path | None = None):
        self._driver = driver
        self._space = SpaceWatch(folder) if folder else None
        self._snapshot = snapshot
        self._forecast = Forecast(snapshot.study)
        self._lock = threading.Lock()

    def apply(self, events: Iterable[Event]) -> None:
        """Take in new events."""
        with self._lock:
            self._snapshot.apply(events)

    def update(self, snapshot: StudySnapshot, driver: str | None) -> None:
        """Replace what is shown: where the study stands, and who runs it."""
        with self._lock:
            self._snapshot, self._driver = snapshot, driver

    def lines(self, width: int, height: int, now: float) -> list[Text]:
        """Return the screen.

        Args:
            width: Columns of the terminal.
            height: Its rows; the screen has fewer, so that events can be seen above it.
            now: Unix seconds.
        """
        with self._lock:
            snapshot, driver = self._snapshot, self._driver
            estimate = self._forecast.estimate(snapshot, now) if driver else None
            num_best = NUM_BEST if height >= HIGH else 1
            head = [
                Text.assemble((f"{label:<{LABEL_WIDTH}}", "dim"), text)
                for label, text in _head(snapshot, driver, estimate, now, num_best)
            ]
            if self._space and driver:
                self._space.look(snapshot.study, snapshot.state)
                if note := self._space.note:
                    head.append(Text.assemble((f"{'space':<{LABEL_WIDTH}}", "dim"), note))
            rows = max(MIN_ROWS, height - len(head) - max(1, height // 6) - 1)
            running = _running(snapshot, width, rows, now) if driver else []
            lines = head + [Text()] * (0 < len(running) < rows) + running
        for line in lines:
            line.plain = printable(line.plain).replace("\n", " ")
            line.truncate(width, overflow="ellipsis")
        return lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines; a fault in drawing must never reach the driver, which prints too."""
        try:
            lines = self.lines(options.max_width, console.size.height, time.time())
        except Exception as error:
            lines = [Text(f"the screen cannot be drawn: {error!r}"[: options.max_width])]
        yield Text("\n").join(lines)


def terminal() -> Console | None:
    """Return standard output if it is a terminal on which a screen can be drawn."""
    console = Console(file=unguarded(sys.stdout), highlight=False)
    return console if console.file.isatty() and not console.is_dumb_terminal else None


@contextmanager
def live_display(screen: Screen, console: Console, *, ticking: bool = True) -> Iterator[Live]:
    """Keep a screen at the bottom of a terminal; what is printed meanwhile scrolls above it.

    Args:
        screen: What to show.
        console: From `terminal`.
        ticking: Draw it again REFRESH_PER_S times a second, in a thread.
    """
    live = Live(
        screen,
        console=console,
        auto_refresh=ticking,
        refresh_per_second=REFRESH_PER_S,
        vertical_overflow="crop",
    )
    with live, guarded_streams(), _handlers_follow_stderr():
        yield live


@contextmanager
def _handlers_follow_stderr() -> Iterator[None]:
    """Let logging handlers that hold the terminal print above the screen, as sys.stderr does."""
    loggers = [logging.root, *map(logging.getLogger, list(logging.root.manager.loggerDict))]
    own = {sys.__stdout__, sys.__stderr__}
    moved = [
        (handler, handler.stream)
        for logger in loggers
        for handler in logger.handlers
        if isinstance(handler, logging.StreamHandler)
        and (handler.stream in own or isinstance(handler.stream, GuardedStream))
    ]
    for handler, _ in moved:
        handler.setStream(sys.stderr)
    try:
        yield
    finally:
        for handler, stream in moved:
            handler.setStream(stream)


def _head(
    snapshot: StudySnapshot,
    driver: str | None,
    estimate: Estimate | None,
    now: float,
    num_best: int,
) -> list[Line]:
    """Return everything above the running trials."""
    study, state = snapshot.study, snapshot.state
    finished = state.finished(study)
    runner = driver or (state.standing(study) if finished else "not running")
    counts = snapshot.counts(driver is not None)
    trials = f"{len(state.searched())} of {state.num_trials(study)} searched"
    if any(counts.values()):
        trials += f": {counted(counts)}"
    lines = [
        ("study", Text.assemble((study.study, "bold"), f"  {runner}")),
        ("trials", Text(trials)),
        ("epochs", _epochs(snapshot, estimate)),
        ("spent", Text(_spent(snapshot, now if driver else None))),
    ]
    if estimate is not None:
        lines.append(("to the end", Text(_end(estimate, finished, now))))
    lines += _best(study, state, num_best)
    if state.enqueued:
        asked = "; ".join(what_of({"kind": "enqueue"} | event) for event in state.enqueued)
        lines.append(("by hand", Text(f"{len(state.enqueued)} to come: {asked}")))
    if state.waits:
        lines.append(("waits", Text(state.waits)))
    if state.exhausted:
        lines.append(("note", Text(state.exhausted)))
    for masks in scored_masks(study, state):
        if (dice := masks["metrics"].get("val/dice")) is not None:
            lines.append((masks["name"], Text(f"Dice {dice:.4f}  masks")))
    if state.threshold:
        rule = threshold_rule(state.threshold)
        lines.append(("threshold", Text(f"Dice {state.threshold['dice']:.4f}  {rule}")))
    if (ceiling := ceiling_of(state.data)) is not None:
        lines.append(("ceiling", Text(f"Dice {ceiling:.4f}  a perfect model at this image size")))
    return lines + _rungs(snapshot)


def _epochs(snapshot: StudySnapshot, estimate: Estimate | None) -> Text:
    done, planned = snapshot.state.meter.epochs, snapshot.planned_epochs()
    if not planned:
        return Text("nothing is trained: each trial is one validation")
    expected = done + estimate.epochs if estimate else planned
    about = f" of about {expected:.0f}" if estimate and expected else ""
    return _bar(done / expected if expected else 0, 20) + Text(
        f"  {done}{about}, at most {planned}"
    )


def _spent(snapshot: StudySnapshot, now: float | None) -> str:
    """Return what was spent, and of which budget."""
    study, meter = snapshot.study, snapshot.state.meter
    spent, budget = meter.spent(study.trials, now), study.budget.model_dump()
    cost, parts = cost_key(study.trials), []
    for what, amount in spent.items():
        limit = budget.get(what)
        if limit is None and what not in (cost, "wall_hours"):
            continue
        unit = TIMES.get(what, UNITS[what])
        words = _words_of(what)
        of = "" if limit is None else f" of {words(limit)}"
        parts.append(f"{words(amount)}{of} {unit}")
    return ", ".join(parts)


def _words_of(what: str) -> Callable[[float], str]:
    """Return how an amount of what is spent is written."""
    if what == "wall_hours":
        return lambda amount: duration(3600 * amount)
    return hours_of if what in TIMES else "{:.0f}".format


def _end(estimate: Estimate, finished: bool, now: float) -> str:
    if finished:
        return "all trials have ended"
    if estimate.seconds is None:
        return "not known before an epoch was reported"
    at = time.localtime(now + estimate.seconds)
    clock = time.strftime("%H:%M" if estimate.seconds < 12 * 3600 else "%a %d %b %H:%M", at)
    why = f", when the {UNITS[estimate.limit]} are spent" if estimate.limit else ""
    return f"about {duration(estimate.seconds)} ({clock}){why}"


def _best(study: StudyConfig, state: StudyState, number: int) -> list[Line]:
    """Return a line for each of the best trials, what their numbers are, and the control."""
    best, lines = ranked(study, state.searched())[:number], list[Line]()
    for place, trial in zip(PLACES, best, strict=False):
        settings = "  ".join(settings_words([*study.space], trial.params).values())
        style = "bold cyan" if trial is best[0] else ""
        lines.append((place, _score(study, trial, style, f"  {settings}")))
    if not best:
        lines.append(("best", _score(study, None, "", "")))
    lines.append(("", Text(label_of(study, state), style="dim")))
    if study.has_control:
        control, lead = state.control(), ""
        values = [value_of(study, trial) for trial in (*best[:1], control) if trial]
        if len(values) == 2 and values[0] is not None and values[1] is not None:
            lead = f"  (best {values[0] - values[1]:+.4f})"
        lines.append(("control", _score(study, control, "", lead)))
        if best and control and (found := far_below(best[0], control)):
            said = "{:.2f} where the control reaches {:.2f}: the data is not the reason"
            lines.append(("", Text(said.format(*found))))
    return lines


def _score(study: StudyConfig, trial: TrialState | None, style: str, more: str) -> Text:
    mean = standing(study, trial) if trial else None
    if trial is None or mean is None:
        return Text("nothing reported yet", style="dim")
    metric, where = study.objective.metric, f"  {mean.where}, trial {trial.number}"
    return Text.assemble(f"{metric} ", (f"{mean.value:.4f}", style), where, (more, "dim"))


def _rungs(snapshot: StudySnapshot) -> list[Line]:
    """Return a line of epochs and one for each bracket: how many reached it and how many passed."""
    rungs = snapshot.rungs
    epochs = sorted({epoch for levels in rungs.levels for epoch in levels})
    if len(epochs) < 2:
        return []
    cells = {(row.bracket, row.epoch): row for row in rungs.rows()}
    heading = "".join(f"{f'epoch {epoch}':<11}" for epoch in epochs) + "judged → went on"
    lines = [("rungs", Text(heading, "dim"))]
    several = len(rungs.levels) > 1
    for bracket, levels in enumerate(rungs.levels):
        text = Text()
        for epoch in epochs:
            row = cells.get((bracket, epoch))
            said = ""
            if row and row.epoch == levels[-1]:
                said = f"{row.went_on} done"
            elif row:
                said = f"{row.reached} → {row.went_on}"
            text.append(f"{said:<11}", style="" if row and row.reached else "dim")
        lines.append((f"  bracket {bracket}" if several else "", text))
    return lines


def _running(snapshot: StudySnapshot, width: int, max_rows: int, now: float) -> list[Text]:
    """Return a row for each running trial, those that do best if not all fit."""
    study = snapshot.study
    running, hidden = snapshot.running(), 0
    if not running:
        return []
    if len(running) + 1 > max_rows:
        hidden = len(running) + 2 - max_rows
        by_value = sorted(running, key=lambda trial: _merit(study, trial))
        running = sorted(by_value[hidden:], key=lambda trial: trial.number)
    low, high = snapshot.low, snapshot.high
    bar = 12 if width >= 76 else 6
    spark = max(8, min(40, width - bar - 49))
    scale = f"{study.objective.metric} {low:.2f} to {high:.2f}" if low <= high else ""
    heading = f"{'running':<16}{'epochs':<{bar + 10}}{scale[:spark]:<{spark}}"
    heading += f"{'mean' if study.scheduler.smoothing > 1 else 'last':>7}{'reported ago':>14}"
    lines = [Text(heading, style="dim")]
    for trial in running:
        goal = trial.goal(study)
        kind = "reference" if trial.is_reference else trial.kind
        mean = standing(study, trial)
        value = f"{mean.value:.4f}" if mean else ""
        ago = duration(max(0.0, now - snapshot.last_report_s.get(trial.number, now)))
        line = Text(f"{trial.number:>5} {kind:<10}")
        line += _bar(trial.epoch / goal if goal else 0.0, bar)
        line.append(f"{trial.epoch:>4}/{goal:<5}" if goal else f"{'':10}")
        points = sparkline([r.value for r in trial.reports], low, high, spark)
        line.append(f"{points:<{spark}}", style="cyan")
        line.append(f"{value:>7}", style="bold")
        line.append(f"{ago:>14}", style="dim")
        if trial.stop_asked or trial.notes:
            line.append("  " + ("stopping" if trial.stop_asked else trial.notes[-1]), style="dim")
        lines.append(line)
    if hidden:
        lines.append(Text(f"{'':5} and {hidden} more, with lower values or none", style="dim"))
    return lines


def _bar(share: float, width: int) -> Text:
    """Return a bar of `width` characters, half of one being the smallest step."""
    halves = round(2 * width * min(1.0, max(0.0, share)))
    done = "━" * (halves // 2) + "╸" * (halves % 2)
    return Text.assemble((done, "cyan"), ("─" * (width - len(done)), "dim"))


def sparkline(values: Sequence[float], low: float, high: float, width: int) -> str:
    """Return a curve as blocks, one a value; where they are too many, one for the mean of several.

    Args:
        values: Any that is not finite becomes a cross.
        low: Drawn as the lowest block.
        high: Drawn as the full one.
        width: Characters at most.
    """
    if len(values) > width:
        edges = [len(values) * i // width for i in range(width + 1)]
        values = [fmean(values[a:b]) for a, b in pairwise(edges)]
    top, span = len(BLOCKS) - 1, high - low or 1.0
    return "".join(
        BLOCKS[min(top, max(0, round(top * (v - low) / span)))] if math.isfinite(v) else "x"
        for v in values
    )


def _merit(study: StudyConfig, trial: TrialState) -> float:
    if (value := value_of(study, trial)) is None:
        return -math.inf
    return value if study.objective.mode == "max" else -value
