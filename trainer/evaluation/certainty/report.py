"""What an evaluation says of its probabilities: means with intervals, for people and programs."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import numpy as np

from trainer.evaluation.certainty.bootstrap import Bootstrap, Estimate
from trainer.evaluation.certainty.case_certainty import BINS, CaseCertainty
from trainer.evaluation.certainty.ranking import Ranking, Values, rank

METRICS = {"dice": ("Dice", "{:.4f}"), "brier": ("Brier score", "{:.5f}"), "ece": ("ECE", "{:.5f}")}
"""Heading and format. Dice is that of cases with a lesion, the others of all."""


@dataclass(frozen=True)
class OfSize:
    """An ensemble of so many members."""

    members: int
    means: dict[str, Estimate]
    """By `METRICS`."""
    next_larger: dict[str, Estimate] | None
    """The next larger ensemble minus this one, case by case; None of the largest."""


@dataclass(frozen=True)
class Report:
    """What the probabilities of some cases are worth."""

    cases: list[CaseCertainty]
    """As the model is used, with all members."""
    ranking: Ranking | None
    """None without a case with a lesion."""
    by_size: list[OfSize]
    """The last has all members."""

    def summary(self) -> dict[str, Any]:
        """Return all but the cases, as plain values."""
        ranking = self.ranking and asdict(self.ranking) | {"verdict": self.ranking.verdict}
        return {
            "bins": BINS,
            "means": {name: asdict(each) for name, each in self.by_size[-1].means.items()},
            "ranking": ranking,
            "by_members": [asdict(each) for each in self.by_size],
        }

    def lines(self) -> list[str]:
        """Return it as lines to print."""
        means = self.by_size[-1].means
        lines = [
            f"calibration: {METRICS[name][0]} {_text(name, means[name])}, the mean of "
            f"{len(self.cases)} cases"
            for name in ("ece", "brier")
        ]
        if self.ranking:
            lines += ["", *_ranking_lines(self.ranking)]
        return lines

    def rows(self) -> list[list[str]]:
        """Return the ensembles by size as cells, head first; nothing of a single member."""
        if len(self.by_size) == 1:
            return []
        head = ["members"]
        for heading, _ in METRICS.values():
            head += [heading, "next larger minus it"]
        rows = [head]
        for size in self.by_size:
            row = [str(size.members)]
            for name in METRICS:
                more = size.next_larger and _text(name, size.next_larger[name], sign=True)
                row += [_text(name, size.means[name]), more or "-"]
            rows.append(row)
        return rows


def report(by_size: Mapping[int, Sequence[CaseCertainty]], patient_of: Mapping[str, str]) -> Report:
    """Sum up some cases.

    Args:
        by_size: The same cases, at least one, for each number of members, in rising order.
        patient_of: The patient of each case.
    """
    cases = [*by_size.values()][-1]
    patients = [patient_of[case.case_id] for case in cases]
    bootstrap = Bootstrap(patients)
    values = {size: {name: _values(of, name) for name in METRICS} for size, of in by_size.items()}
    larger = [*[*by_size][1:], None]
    lesions = [case for case in cases if case.has_lesion]
    ranking = None
    if lesions:
        ranking = rank(
            np.array([case.dice for case in lesions]),
            np.array([case.uncertainty for case in lesions]),
            [patient_of[case.case_id] for case in lesions],
        )
    return Report(
        cases=[*cases],
        ranking=ranking,
        by_size=[
            OfSize(
                members=size,
                means={name: bootstrap.mean(mine[name]) for name in METRICS},
                next_larger=None
                if next_size is None
                else {
                    name: bootstrap.mean(values[next_size][name] - mine[name]) for name in METRICS
                },
            )
            for (size, mine), next_size in zip(values.items(), larger, strict=True)
        ],
    )


def _values(cases: Sequence[CaseCertainty], name: str) -> Values:
    return np.array(
        [getattr(c, name) if name != "dice" or c.has_lesion else np.nan for c in cases], np.float64
    )


def _ranking_lines(ranking: Ranking) -> list[str]:
    found = "the Dice of all cases is the same"
    if not isnan(ranking.auroc.value):
        found = (
            f"AUROC {_ends('{:.3f}', ranking.auroc)} for a Dice below the median {ranking.cut:.3f}"
        )
    return [
        f"does uncertainty rank the cases by Dice: {ranking.verdict}: {found}",
        f"risk-coverage area {_ends('{:.4f}', ranking.aurc)}, "
        f"in random order {ranking.aurc_random:.4f}, at best {ranking.aurc_oracle:.4f}",
    ]


def _text(name: str, estimate: Estimate, *, sign: bool = False) -> str:
    form = METRICS[name][1]
    return _ends(form.replace(":", ":+") if sign else form, estimate)


def _ends(form: str, estimate: Estimate) -> str:
    if isnan(estimate.value):
        return "-"
    ends = estimate.interval
    return form.format(estimate.value) + (
        f" [{form.format(ends[0])}, {form.format(ends[1])}]" if ends else ""
    )
