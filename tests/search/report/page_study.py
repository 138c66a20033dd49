"""A study as large as one likes for the tests of its page: curves, cases, pictures, no training."""

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from search.ledger.journal import Event, Ledger
from search.study.config import StudyConfig
from trainer.evaluation.metrics import CaseScore

SPACE = {
    "optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-2, "log": True},
    "batch.effective": {"type": "categorical", "choices": [4, 8, 16, 32]},
    "diffusion.target": {"type": "categorical", "choices": ["x_start", "v", "eps"]},
    "loss.weighting": {"type": "categorical", "choices": ["fixed", "warm_in"]},
    "loss.warm_in_fraction": {
        "type": "float",
        "low": 0.1,
        "high": 0.5,
        "when": {"loss.weighting": ["warm_in"]},
    },
}
HOSTILE = "<script>document.title='hacked'</script><img src=x onerror=\"document.title='hacked'\">"
"""A name that takes over a page which does not escape it."""


def write_study(
    folder: Path,
    *,
    num_trials: int = 12,
    max_t: int = 9,
    num_cases: int = 8,
    pictured: int = 3,
    hostile: str = "",
) -> Path:
    """Write a study's ledger and the folders of its trials; trial 0 is the control, 1 a reference.

    Args:
        folder: Of the study.
        num_trials: Searched ones.
        max_t: Epochs of those that the first rung, at a third, does not stop: every second one.
        num_cases: Validation cases; the last has no lesion.
        pictured: The best searched trials, and the control, have pictures.
        hostile: Ends case ids, reasons, hosts and file names.
    """
    config = StudyConfig.model_validate(
        {
            "study": folder.name,
            "data": {"store": "store"},
            "space": SPACE,
            "scheduler": {"grace_period": max_t // 3, "max_t": max_t},
            "trials": {"num_trials": num_trials},
            "enqueue": [{"optimizer.lr": 1e-4, "protected": True}],
        }
    )
    threshold = {"modality": "tmax", "above": True, "threshold": 6.0, "dice": 0.3}
    with Ledger.open(folder / "ledger.jsonl", writer=True) as ledger:
        ledger.append(
            {
                "event": "study",
                "uid": "0" * 32,
                "config": config.model_dump(mode="json"),
                "config_hash": "1" * 64,
                "store_hash": "2" * 64,
                "commit": "3" * 40,
                "versions": {"segtune": "0.1.0", "torch": "2.13.0"},
            },
            {"event": "threshold", **threshold},
        )
        draw = random.Random(0)
        best = range(2 + num_trials - pictured, 2 + num_trials)
        for number in range(2 + num_trials):
            paints = number == 0 or number in best
            ledger.append(
                *_trial(folder, draw, number, num_trials, max_t, num_cases, paints, hostile)
            )
    return folder


def _trial(
    folder: Path,
    draw: random.Random,
    number: int,
    num_trials: int,
    max_t: int,
    num_cases: int,
    paints: bool,
    hostile: str,
) -> Iterator[Event]:
    about = {"trial": number}
    kind = {0: "control", 1: "enqueued"}.get(number, "sampled")
    params = _params(draw, number)
    yield {"event": "proposed", **about, "kind": kind, "protected": number < 2, "params": params}
    host = f"node{number % 3}{hostile}"
    yield {"event": "started", **about, "attempt": 1, "host": host, "pid": 1}
    stopped = number >= 2 and number % 2 == 0
    last = max_t // 3 if stopped else max_t
    # The later its number, the better a trial.
    level = 0.2 + 0.4 * number / (2 + num_trials)
    values = [round(level * (1 - 0.5**epoch) + draw.gauss(0, 0.01), 4) for epoch in range(last)]
    for epoch, value in enumerate(values, start=1):
        metrics = {"val/dice": value, "val/avd_ml": 5.0, "val/lesion_f1": value, "train/loss": 0.5}
        yield {"event": "reported", **about, "epoch": epoch, "value": value, "metrics": metrics}
    rung = max_t // 3
    action = "stop" if stopped else "continue"
    reason = f"rung {rung}: judged{hostile}"
    decided = {"event": "decided", **about, "epoch": last, "action": action, "reason": reason}
    yield decided | {"rung": rung}
    ending = "stopped" if stopped else "completed"
    yield {"event": "ended", **about, "ending": ending, "epoch": last, "reason": reason}
    run_dir = folder / "trials" / f"{number:04d}"
    (run_dir / "samples").mkdir(parents=True)
    _write_cases(run_dir, values, num_cases, hostile)
    if paints:
        names = [f"epoch{last:04d}-case{case}.png" for case in range(2)]
        names.append(f"epoch{last:04d}-case0-path.png")
        for name in names:
            _picture(number, noisy="path" in name).save(run_dir / "samples" / name)
        files = [f"samples/{name}" for name in names]
        yield {"event": "painted", **about, "epoch": last, "files": files, "seconds": 1.0}


def _params(draw: random.Random, number: int) -> dict[str, Any]:
    if number == 0:
        return {"model.family": "unet"}
    if number == 1:
        return {"optimizer.lr": 1e-4}
    weighting = draw.choice(["fixed", "warm_in"])
    conditional = {"loss.warm_in_fraction": draw.uniform(0.1, 0.5)}
    return {
        "optimizer.lr": 10 ** draw.uniform(-5, -2),
        "batch.effective": draw.choice([4, 8, 16, 32]),
        "diffusion.target": draw.choice(["x_start", "v", "eps"]),
        "loss.weighting": weighting,
        **(conditional if weighting == "warm_in" else {}),
    }


def _write_cases(run_dir: Path, values: list[float], num_cases: int, hostile: str) -> None:
    rows = []
    for epoch, value in enumerate(values, start=1):
        for case in range(num_cases):
            row: dict[str, Any] = dict.fromkeys(CaseScore.__dataclass_fields__, 1.5)
            has_lesion = case < num_cases - 1
            spread = 0.1 * (case - (num_cases - 2) / 2) / num_cases
            row |= {"case_id": f"case{case}{hostile}", "has_lesion": has_lesion, "epoch": epoch}
            row |= {"dice": value + spread, "lesion_ml": 1.7**case if has_lesion else 0.0}
            row |= {"lesion_count_diff": 1}
            rows.append(row)
    pq.write_table(pa.Table.from_pylist(rows), run_dir / "cases.parquet")


def _picture(seed: int, *, noisy: bool) -> Image.Image:
    """Return a picture of the size that painted ones have, smooth or with noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 255, (58, 111) if noisy else (6, 11), np.uint8)
    return Image.fromarray(small).resize((1110, 580), Image.Resampling.NEAREST if noisy else 3)


def data_of(page: Path) -> dict[str, Any]:
    """Return the JSON that a page holds."""
    text = page.read_text(encoding="utf-8")
    block = text.partition('<script type="application/json" id="data">')[2].partition("</script>")
    data: dict[str, Any] = json.loads(block[0])
    return data
