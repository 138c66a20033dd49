"""An evaluation to read: a table for people, `cases.csv` and `summary.json` for programs."""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from trainer.configfile import ConfigError
from trainer.evaluation.certainty.case_certainty import CaseCertainty
from trainer.evaluation.certainty.report import Report
from trainer.evaluation.evaluate import Evaluation
from trainer.evaluation.masks import MaskEvaluation
from trainer.evaluation.metrics import CaseScore, by_volume
from trainer.evaluation.validate import means
from trainer.files.atomic import write_atomically
from trainer.files.csv_cells import csv_cell
from trainer.files.documents import to_json

COLUMNS = {
    "dice": ("Dice", "{:.3f}"),
    "dice_official": ("Dice, all", "{:.3f}"),
    "avd_ml": ("AVD mL", "{:.1f}"),
    "lesion_f1": ("lesion F1", "{:.3f}"),
    "lesion_count_diff": ("count diff", "{:.1f}"),
    "hd95_mm": ("HD95 mm", "{:.1f}"),
    "false_positive_ml": ("false pos. mL", "{:.2f}"),
}
"""Averages: heading and format."""
CERTAINTY = ("brier", "ece", "uncertainty")
"""Columns of cases.csv that do not depend on a row's threshold; the last is of the configured."""


def table(evaluation: Evaluation) -> str:
    """Lay out an evaluation: a row a case at the calibrated thresholds, averages, subgroups."""
    cases = [["case", "lesion mL", "predicted mL", "Dice", "AVD mL", "lesion F1", "count diff",
              "HD95 mm", "threshold", f"Dice at {evaluation.fixed_threshold:g}"]]  # fmt: skip
    for fixed, score, threshold in zip(
        evaluation.fixed, evaluation.calibrated, evaluation.thresholds, strict=True
    ):
        cases.append(
            [score.case_id, f"{score.lesion_ml:.2f}", f"{score.predicted_ml:.2f}",
             f"{score.dice:.3f}", f"{score.avd_ml:.2f}", f"{score.lesion_f1:.3f}",
             f"{score.lesion_count_diff}", f"{score.hd95_mm:.1f}", f"{threshold:.2f}",
             f"{fixed.dice:.3f}"]
        )  # fmt: skip
    averages = [["mean", "cases", *(heading for heading, _ in COLUMNS.values())]]
    averages.append(_averages(f"at {evaluation.fixed_threshold:g}", evaluation.fixed))
    averages.append(_averages(evaluation.calibration, evaluation.calibrated))
    for name, group in by_volume(evaluation.calibrated).items():
        averages.append(_averages(f"  {name}", group))
    frozen = evaluation.frozen
    return "\n".join(
        [
            evaluation.label,
            "",
            *_aligned(cases),
            "",
            *_aligned(averages),
            "",
            f"frozen threshold: {frozen.threshold:.2f}, the best for all {frozen.num_cases} "
            "validation cases with lesion",
            *_certainty(evaluation.certainty),
            f"sampling: {evaluation.case_s:.2f} s a case, "
            f"{evaluation.certainty.by_size[-1].members} masks",
        ]
    )


def _certainty(certainty: Report) -> list[str]:
    rows = certainty.rows()
    return [*certainty.lines(), *(["", *_aligned(rows), ""] if rows else [])]


def masks_table(evaluation: MaskEvaluation) -> str:
    """Lay out how masks score: a row a case, averages, subgroups, and how they were read."""
    cases = [["case", "lesion mL", "predicted mL", "Dice", "AVD mL", "lesion F1", "count diff",
              "HD95 mm"]]  # fmt: skip
    for score in evaluation.scores:
        cases.append(
            [score.case_id, f"{score.lesion_ml:.2f}", f"{score.predicted_ml:.2f}",
             f"{score.dice:.3f}", f"{score.avd_ml:.2f}", f"{score.lesion_f1:.3f}",
             f"{score.lesion_count_diff}", f"{score.hd95_mm:.1f}"]
        )  # fmt: skip
    averages = [["mean", "cases", *(heading for heading, _ in COLUMNS.values())]]
    averages.append(_averages("masks", evaluation.scores))
    for name, group in by_volume(evaluation.scores).items():
        averages.append(_averages(f"  {name}", group))
    lines = [evaluation.label, "", *_aligned(cases), "", *_aligned(averages), ""]
    unknown = ["calibration: not known: the masks are labels, no probabilities"]
    lines += _certainty(evaluation.certainty) if evaluation.certainty else unknown
    return "\n".join(lines)


def write_masks(evaluation: MaskEvaluation, folder: Path, out: Path) -> None:
    """Write how the masks of a folder score as `write` does.

    Raises:
        ConfigError: The folder `out` cannot be written.
    """
    rows: list[dict[str, Any]] = [
        {"kind": "masks", "threshold": ""} | asdict(score) for score in evaluation.scores
    ]
    certainty = evaluation.certainty
    _add_certainty(rows, certainty.cases if certainty else [])
    averages = _summary(evaluation.scores)
    about = {
        "split": evaluation.split,
        "label": evaluation.label,
        "cases": len(evaluation.scores),
        "missing": evaluation.masks.missing,
        "folder": str(folder.absolute()),
        "said": evaluation.masks.said,
        "content_hash": evaluation.masks.content_hash,
    }
    extra = {"masks": averages, "certainty": certainty and certainty.summary()}
    _write(rows, about | extra, out)


def write(evaluation: Evaluation, out: Path) -> None:
    """Write `cases.csv`, a row a case and threshold, and `summary.json` into a folder.

    Raises:
        ConfigError: The folder cannot be written.
    """
    rows: list[dict[str, Any]] = []
    fixed = [evaluation.fixed_threshold] * len(evaluation.fixed)
    for kind, thresholds, scores in (
        ("fixed", fixed, evaluation.fixed),
        (evaluation.calibration, evaluation.thresholds, evaluation.calibrated),
    ):
        for threshold, score in zip(thresholds, scores, strict=True):
            rows.append({"kind": kind, "threshold": threshold} | asdict(score))
    _add_certainty(rows, evaluation.certainty.cases)
    _write(rows, summary(evaluation), out)


def _add_certainty(rows: Sequence[dict[str, Any]], cases: Sequence[CaseCertainty]) -> None:
    by_case = {case.case_id: case for case in cases}
    for row in rows:
        if case := by_case.get(row["case_id"]):
            row |= {name: getattr(case, name) for name in CERTAINTY}


def _write(rows: Sequence[Mapping[str, Any]], about: Mapping[str, Any], out: Path) -> None:
    def write_cases(path: Path) -> None:
        names = ["kind", "threshold", *(field.name for field in fields(CaseScore)), *CERTAINTY]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows({k: csv_cell(v) for k, v in row.items()} for row in rows)

    text = to_json(about, allow_nan=True) + "\n"
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(out / "cases.csv", write_cases)
        write_atomically(out / "summary.json", lambda path: path.write_text(text))
    except OSError as error:
        raise ConfigError([f"{out}: {error.strerror}"]) from error


def summary(evaluation: Evaluation) -> dict[str, Any]:
    """Return the averages, overall and by lesion volume, as plain values."""
    return {
        "split": evaluation.split,
        "label": evaluation.label,
        "cases": len(evaluation.fixed),
        "fixed": {"threshold": evaluation.fixed_threshold} | _summary(evaluation.fixed),
        evaluation.calibration: _summary(evaluation.calibrated),
        "frozen": asdict(evaluation.frozen),
        "certainty": evaluation.certainty.summary(),
        "seconds_a_case": evaluation.case_s,
    }


def _summary(scores: Sequence[CaseScore]) -> dict[str, Any]:
    return {
        "mean": means(scores),
        "by_lesion_volume": {
            name: {"n": len(group)} | (means(group) if group else {})
            for name, group in by_volume(scores).items()
        },
    }


def _averages(name: str, scores: Sequence[CaseScore]) -> list[str]:
    values = means(scores) if scores else {}
    cells = [
        form.format(values[key]) if key in values else "-" for key, (_, form) in COLUMNS.items()
    ]
    return [name, str(len(scores)), *cells]


def _aligned(rows: list[list[str]]) -> list[str]:
    """Pad the cells of each column; the first to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0])]
            + [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        ).rstrip()
        for row in rows
    ]
