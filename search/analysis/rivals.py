"""Which trials are not told from the best: what looks best of many is partly so by chance.

Of the differences of both, case by case, over the last `smoothing` epochs that both have, Student's
t, one-sided, at ALPHA divided by the number of trials that are compared. So the truly best one, of
these seeds and at the epochs that are compared, is the first or a rival in 95 % of studies,
whichever looks best (subset selection, Gupta 1965, Technometrics 7:225). At the same epochs both
drew the same noise, and of their cases only what differs counts.

Where the ledger has no cases, by the noise of the validations alone at the last epoch that both
have, which says nothing of other cases: from second differences of the curves (Gasser, Sroka &
Jennen-Steinmetz 1986, Biometrika 73:625), their median over all trials. What that names is measured
in docs/benchmarks.md.
"""

import math
from collections.abc import Sequence
from itertools import islice
from statistics import NormalDist
from typing import Any

import numpy as np

from search.analysis.intervals import ALPHA, student_quantile
from search.analysis.ranking import standing
from search.ledger.trial_state import Report, TrialState
from search.study.config import StudyConfig

MIN_DIFFERENCES = 12
"""With fewer second differences, of all trials together, the noise is not known."""
MIN_CASES = 3


def rivals(study: StudyConfig, best_first: Sequence[TrialState]) -> dict[str, Any] | None:
    """Return which trials cannot be told from the first; None where nothing tells.

    Args:
        study: Its settings.
        best_first: The ranked trials.

    Returns:
        `trials`, the best of them first; `by`, `cases` where all were compared case by case, `some
        cases` where some were, else `noise`.
    """
    if len(best_first) < 2:
        return None
    first, *others = best_first
    sign = 1.0 if study.objective.mode == "max" else -1.0
    noise = noise_sd([[report.value for report in trial.reports] for trial in best_first])
    alpha, found, by_case = ALPHA / len(others), list[int](), list[bool]()
    for other in others:
        lead = paired_lead(first.reports, other.reports, study.scheduler.smoothing)
        by_case.append(lead is not None)
        if lead is None and not noise:
            return None
        mean, error, df = lead or _by_noise(study, first, other, noise)
        if sign * mean <= _quantile(df, alpha) * error:
            found.append(other.number)
    by = "cases" if all(by_case) else "some cases" if any(by_case) else "noise"
    return {"trials": found, "by": by}


def noise_sd(curves: Sequence[Sequence[float]]) -> float:
    """Return the standard deviation of one validation's noise, 0 where it is not known."""
    bends = [np.diff(np.asarray(curve, dtype=float), n=2) for curve in curves if len(curve) > 2]
    bent = np.concatenate(bends) if bends else np.empty(0)
    bent = bent[np.isfinite(bent)]
    if len(bent) < MIN_DIFFERENCES:
        return 0.0
    return float(1.4826 * np.median(np.abs(bent)) / math.sqrt(6))


def paired_lead(
    mine: Sequence[Report], theirs: Sequence[Report], smoothing: int
) -> tuple[float, float, float] | None:
    """Return by how much one trial has more, its standard error and degrees of freedom.

    Of a longer one, where the shorter ended. None where they have no epoch with the same cases, or
    too few of these.

    Args:
        mine: Its reports.
        theirs: The other's.
        smoothing: So many epochs, the last that both have.
    """
    epochs = {report.epoch: report for report in mine if report.scores}
    shared = ((epochs[r.epoch], r) for r in reversed(theirs) if r.scores and r.epoch in epochs)
    newest = list(islice(((a, b) for a, b in shared if a.cases == b.cases), smoothing))
    if not newest or len(newest[0][0].scores or ()) < MIN_CASES:
        return None
    alike = [(a.scores, b.scores) for a, b in newest if a.cases == newest[0][0].cases]
    one, other = np.array(alike).mean(axis=0)
    by_case = one - other
    error = float(by_case.std(ddof=1)) / math.sqrt(len(by_case))
    return float(by_case.mean()), error, len(by_case) - 1


def _by_noise(
    study: StudyConfig, one: TrialState, other: TrialState, noise: float
) -> tuple[float, float, float]:
    last = min(one.reports[-1].epoch, other.reports[-1].epoch)  # what more training adds is no lead
    mine, theirs = (standing(study, trial, epoch=last) for trial in (one, other))
    assert mine and theirs, "a ranked trial has reported"
    error = noise * math.sqrt(1 / len(mine.epochs) + 1 / len(theirs.epochs))
    return mine.value - theirs.value, error, math.inf


def _quantile(df: float, alpha: float) -> float:
    """Return Student's upper quantile."""
    if math.isinf(df):
        return NormalDist().inv_cdf(1 - alpha)
    return student_quantile(df, alpha)
