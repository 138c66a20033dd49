"""The Markdown tables of a comparison."""

from itertools import chain

import numpy as np

from tests.bench.search.measure import (
    SHARES,
    Outcomes,
    earlier,
    earlier_each,
    gain,
    mean_ranks,
    regrets,
    sampled,
    wilcoxon_p,
)

READ = (0.1, 0.2, 0.5, 1.0)
"""Shares of the budget."""


def report(outcomes: Outcomes, ours: str) -> str:
    """Return the tables: regret over time, random search's end reached earlier, and a summary.

    Args:
        outcomes: Those of "random" among them.
        ours: The method that is compared with each other one.
    """
    return "\n\n".join([_regret(outcomes), _earlier(outcomes), _summary(outcomes, ours)])


def _regret(outcomes: Outcomes) -> str:
    """Return a row for each problem and share: regret chosen, and in brackets sampled."""
    labels = list(next(iter(outcomes.values())))
    lines = [_row("regret chosen (sampled)", "after", *labels), _rule(len(labels) + 2)]
    for name, methods in outcomes.items():
        for share in READ:
            cells = [
                f"{_at(regrets(found), share):.3f} ({_at(sampled(found), share):.3f})"
                for found in methods.values()
            ]
            lines.append(_row(name, f"{100 * share:.0f} %", *cells))
    return "\n".join(lines)


def _earlier(outcomes: Outcomes) -> str:
    labels = list(next(iter(outcomes.values())))
    lines = [_row("random's end, earlier by", "of the seeds", *labels), _rule(len(labels) + 2)]
    for middle in (np.mean, np.median):
        for name, methods in outcomes.items():
            factors = [earlier(found, methods["random"], middle) for found in methods.values()]
            cells = [f"{factor:.1f}" if factor else "not reached" for factor in factors]
            lines.append(_row(name, middle.__name__, *cells))
        cells = [f"{gain(outcomes, label, middle):.2f}" for label in labels]
        lines.append(_row("geometric mean, not reached as 1", middle.__name__, *cells))
    each = [
        [earlier_each(methods[label], methods["random"]) for methods in outcomes.values()]
        for label in labels
    ]
    cells = [f"{np.median(list(chain(*factors))):.1f}" for factors in each]
    lines.append(_row("median over problems and seeds", "each", *cells))
    return "\n".join(lines)


def _summary(outcomes: Outcomes, ours: str) -> str:
    lines = [
        _row(
            *("method", "mean rank", "at the end", f"{ours} wins"),
            *("chosen by sampled at a fifth", "trials", "stopped"),
            *("stopped wrongly", "top tenth stopped"),
        ),
        _rule(9),
    ]
    for label, ranks in mean_ranks(outcomes).items():
        found = [outcome for methods in outcomes.values() for outcome in methods[label]]
        wrong = [outcome.wrong_kills for outcome in found if outcome.stopped] or [0.0]
        cells = [
            *(f"{rank:.2f}" for rank in ranks),
            "" if label == ours else _against(outcomes, ours, label),
            f"{_at(regrets(found), 0.2) / max(_at(sampled(found), 0.2), 1e-9):.2f}",
            f"{np.mean([outcome.trials for outcome in found]):.0f}",
            f"{np.mean([outcome.stopped for outcome in found]):.0f}",
            f"{100 * np.mean(wrong):.1f} %",
            f"{100 * np.mean([outcome.lost for outcome in found]):.0f} %",
        ]
        lines.append(_row(label, *cells))
    return "\n".join(lines)


def _at(courses: np.ndarray, share: float) -> float:
    """Return the mean over the seeds at a share of the budget."""
    return float(courses[:, int(np.argmin(abs(SHARES - share)))].mean())


def _against(outcomes: Outcomes, ours: str, theirs: str) -> str:
    p, wins, p_final = wilcoxon_p(outcomes, ours, theirs)
    return f"{100 * wins:.0f} %, p {p:.1g} (at the end {p_final:.1g})"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _rule(columns: int) -> str:
    return "|---" * columns + "|"
