"""What a simulated search was worth: regret chosen and regret sampled, and wrong kills."""

import math
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy.stats import rankdata, wilcoxon

from tests.bench.search.problems import EPOCHS, Problem
from tests.bench.search.simulate import SHARES, Run

TOP = 0.1
"""Of the sampled trials: those that should not be stopped."""


class Outcome(NamedTuple):
    """One search, measured."""

    regret: list[float]
    """Of the model in hand at SHARES of the budget; that of the median configuration before the
    first report."""
    sampled: list[float]
    """At the same times, of the best configuration that was tried, were it trained to its end; that
    of the median configuration before the first trial."""
    trials: int
    stopped: int
    wrong_kills: float
    """Share of the stopped trials that would have ended in the top tenth of those sampled."""
    lost: float
    """Share of that top tenth that was stopped."""


def measure(problem: Problem, run: Run, *, smoothing: int, until_s: float) -> Outcome:
    """Measure a search.

    Args:
        problem: Knows the truth.
        run: What happened.
        smoothing: The model in hand is the trial with the best mean of so many last reports, where
            the method does not choose itself.
        until_s: The budget.
    """
    finals = {trial: problem.regret(params, EPOCHS) for trial, params in run.params.items()}
    limit = np.quantile(list(finals.values()), TOP)
    top = {trial for trial, final in finals.items() if final <= limit}
    killed = top & run.stopped.keys()
    regret, sampled = _course(problem, run, finals, smoothing, until_s)
    return Outcome(
        regret=regret,
        sampled=sampled,
        trials=len(finals),
        stopped=len(run.stopped),
        wrong_kills=len(killed) / max(1, len(run.stopped)),
        lost=len(killed) / len(top),
    )


def _course(
    problem: Problem, run: Run, finals: Mapping[int, float], smoothing: int, until_s: float
) -> tuple[list[float], list[float]]:
    """Return the regret chosen and the best one sampled, at SHARES of the time."""
    sign = 1 if problem.metric == "val/dice" else -1
    recent: dict[int, deque[float]] = defaultdict(lambda: deque(maxlen=smoothing))
    seen: dict[int, tuple[float, int]] = {}
    regrets, sampled, steps = [], [], iter([*run.steps, None])
    step = next(steps)
    for index, share in enumerate(SHARES):
        while step is not None and step.time_s <= share * until_s:
            recent[step.trial].append(sign * step.value)
            value = sum(recent[step.trial]) / len(recent[step.trial])
            seen[step.trial] = (value if math.isfinite(value) else -math.inf, step.epoch)
            step = next(steps)
        best = run.chosen[index] if run.chosen else max(seen, key=seen.__getitem__, default=None)
        assert best is None or best in seen, f"trial {best} is chosen, but has no report"
        regrets.append(1.0 if best is None else problem.regret(run.params[best], seen[best][1]))
        sampled.append(min((finals[trial] for trial in seen), default=1.0))
    return regrets, sampled


Outcomes = Mapping[str, Mapping[str, Sequence[Outcome]]]
"""By problem and method; of every method the same seeds."""


def regrets(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Return the regret as (seeds, times)."""
    return np.array([outcome.regret for outcome in outcomes])


def sampled(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Return the best regret sampled as (seeds, times)."""
    return np.array([outcome.sampled for outcome in outcomes])


def mean_ranks(outcomes: Outcomes) -> dict[str, tuple[float, float]]:
    """Return each method's mean rank (1 is best) over all times, and that at the end."""
    ranks = []
    for methods in outcomes.values():
        stacked = np.stack([regrets(found) for found in methods.values()])
        ranks.append(rankdata(stacked.round(9), axis=0))
    anytime = np.mean([r.mean(axis=(1, 2)) for r in ranks], axis=0)
    final = np.mean([r[:, :, -1].mean(axis=1) for r in ranks], axis=0)
    names = next(iter(outcomes.values()))
    return {name: (float(a), float(f)) for name, a, f in zip(names, anytime, final, strict=True)}


def wilcoxon_p(outcomes: Outcomes, ours: str, theirs: str) -> tuple[float, float, float]:
    """Compare two methods over all problems and seeds, by the mean regret over all times.

    Returns:
        Two-sided p of the signed-rank test, the share of the pairs that `ours` wins, and p at the
        end of the budget.
    """
    mine, other = (
        np.concatenate([regrets(methods[name]) for methods in outcomes.values()])
        for name in (ours, theirs)
    )
    anytime = mine.mean(axis=1) - other.mean(axis=1)
    final = mine[:, -1] - other[:, -1]
    wins = float(np.mean(anytime < 0) + 0.5 * np.mean(anytime == 0))
    p, p_final = (float(wilcoxon(d).pvalue) if d.any() else 1.0 for d in (anytime, final))
    return p, wins, p_final


def earlier(
    found: Sequence[Outcome],
    random: Sequence[Outcome],
    middle: Callable[..., np.ndarray] = np.mean,
) -> float:
    """Return how many times earlier the final regret of `random` is reached; 0 for never.

    Args:
        found: One search a seed.
        random: Those of random search.
        middle: Of the seeds: np.mean, or np.median, which lets a few unlucky ones count less.
    """
    course, goal = middle(regrets(found), axis=0), middle(regrets(random), axis=0)[-1]
    reached = np.flatnonzero(course <= goal + 1e-12)
    return float(1 / SHARES[reached[0]]) if len(reached) else 0.0


def earlier_each(found: Sequence[Outcome], random: Sequence[Outcome]) -> list[float]:
    """Return, for each seed, how many times earlier the median end of random search is reached.

    0 where it never is.
    """
    goal = np.median(regrets(random)[:, -1])
    reached = regrets(found) <= goal + 1e-12
    return [float(1 / SHARES[row.argmax()]) if row.any() else 0.0 for row in reached]


def gain(outcomes: Outcomes, label: str, middle: Callable[..., np.ndarray]) -> float:
    """Return `earlier` as its geometric mean over the problems; one not reached counts as 1."""
    factors = [earlier(methods[label], methods["random"], middle) for methods in outcomes.values()]
    return float(np.exp(np.mean(np.log(np.maximum(factors, 1)))))
