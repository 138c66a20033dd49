"""All trials of studies as one flat table, for pandas or a spreadsheet."""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

from trainer.files.csv_cells import csv_cell

PLAIN = (
    "trial", "kind", "rank", "rank_at_equal", "status", "ending", "epochs", "goal", "seed", "fold",
    "value", "last_value", "value_at_equal", "dice", "num_cases",
)  # fmt: skip
"""Values of a row that are columns as they are."""


def csv_table(studies: Iterable[Mapping[str, Any]]) -> str:
    """Return a line a trial, the control and the references, masks too, included.

    What a trial has not is empty; a list is JSON, null and truth as in YAML. The parameters have
    their dotted names, the metrics of the last epoch their keys (`val/hd95_mm`). `value`, by which
    trials are ranked, is the mean from `value_first_epoch` to `value_last_epoch`; `last_value` is
    the last epoch's. Text that a spreadsheet would compute begins with an apostrophe.

    Args:
        studies: As `search.analysis.results.compare` returns them.
    """
    rows = [flat(study, row) for study in studies for row in _trials(study)]
    # Parameters last, since studies differ in them.
    names = [*dict.fromkeys(name for about, _ in rows for name in about)]
    params = [*dict.fromkeys(name for _, params in rows for name in params)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([csv_cell(name) for name in (*names, *params)])
    for about, own in rows:
        writer.writerow(
            [_cell(about[name]) if about.get(name) is not None else "" for name in names]
            + [_cell(own[name]) if name in own else "" for name in params]
        )
    return text.getvalue()


def _trials(study: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*study["trials"], *study["references"], *study["masks"]]


def flat(
    study: Mapping[str, Any], row: Mapping[str, Any]
) -> tuple[dict[str, Any], Mapping[str, Any]]:
    """Return what is known of a trial, and its parameters."""
    difference = row["difference_to_best"] or {}
    flat = {"study": study["study"]} | {name: row.get(name) for name in PLAIN}
    epochs = row["value_epochs"] or [None]
    flat |= {"value_first_epoch": epochs[0], "value_last_epoch": epochs[-1]}
    flat |= _ends("dice", row["dice_interval"])
    flat |= {"avd_ml": row["avd_ml"], "lesion_f1": row["lesion_f1"]}
    flat |= {"difference_to_best": difference.get("mean")}
    flat |= _ends("difference_to_best", difference.get("interval"))
    flat |= {"difference_to_best_epoch": difference.get("epoch")}
    flat |= {"gpu_hours": row["gpu_hours"], "cpu_hours": row["cpu_hours"]}
    flat |= {"hosts": " ".join(row["hosts"]), "label": study["label"]}
    flat |= {"first_weights": row["first_weights"], "reference": row.get("name")}
    flat |= {"masks": row.get("masks"), "unseen": row.get("unseen")}
    flat["notes"] = "; ".join(row.get("notes", ())) or None
    flat |= {"reason": row.get("reason"), "log": row.get("log")}
    return flat | row["metrics"], row["params"]


def _ends(name: str, interval: Any) -> dict[str, Any]:
    low, high = interval or (None, None)
    return {f"{name}_low": low, f"{name}_high": high}


def _cell(value: Any) -> str:
    return csv_cell(value) if isinstance(value, str) else json.dumps(value)
