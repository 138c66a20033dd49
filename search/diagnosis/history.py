"""What the ledger tells of a trial: how it ended, its series of validations, its losses."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

from search.analysis.case_scores import lesion_dice
from search.diagnosis.finding import Finding, Word
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.config import StudyConfig
from trainer.config import TrainConfig
from trainer.diagnosis.trend import chance, trend
from trainer.files.documents import strict

LOW = 0.75
"""Share of the yardstick's Dice below which a Dice is weak; below HALF it is poor."""
HALF = 0.5
JUMP = 1.5
"""Factor by which a loss rises from one validation to the next in a jump."""
STUCK = 0.95
"""Share of its first value that a loss keeps that does not fall."""
DOMINATES = 0.9
"""Share of the whole loss from which the other terms hardly count."""


@dataclass(frozen=True)
class Yardstick:
    """What a trial's Dice should reach: the better of the control and the best threshold."""

    dice: float | None
    """Of the trial: median of its last three validations."""
    reference: float | None
    name: str

    @property
    def weak(self) -> bool:
        return self._below(LOW)

    @property
    def poor(self) -> bool:
        return self._below(HALF)

    def _below(self, share: float) -> bool:
        if self.dice is None or self.reference is None:
            return False
        return self.dice < share * self.reference


def yardstick(state: StudyState, trial: TrialState) -> Yardstick:
    """Compare a trial with the control, at most as long trained, and with the best threshold."""
    recent = sorted(_dice(trial)[-3:])
    found: list[tuple[float, str]] = []
    if state.threshold and math.isfinite(state.threshold["dice"]):
        found.append((state.threshold["dice"], "the best threshold"))
    control = state.control()
    if control and control is not trial:
        before = [r for r in control.reports if r.epoch <= max(trial.epoch, 1)]
        if before and math.isfinite(dice := before[-1].metrics.get("val/dice", math.nan)):
            found.append((dice, f"the U-Net control at epoch {before[-1].epoch}"))
    reference, name = max(found, default=(None, ""))
    return Yardstick(recent[len(recent) // 2] if recent else None, reference, name)


def ending(trial: TrialState, config: TrainConfig | None) -> Finding | None:
    """Say why a trial ended before its time, as the ledger has it; None where not.

    Args:
        trial: The trial.
        config: None of another trainer.
    """
    at = f"at epoch {trial.epoch}"
    match trial.ending:
        case "diverged":
            figure = f"diverged after epoch {trial.epoch}: {trial.reason}"
            if config is None:
                return Finding("ending", "cause likely", figure)
            lr = config.optimizer.lr
            step = f"optimizer.lr={lr / 10:.2g}"
            return Finding("ending", "cause likely", figure, f"with optimizer.lr {lr:.2g}", step)
        case "failed" | "infeasible":
            return Finding("ending", "cause likely", f"{trial.ending} {at}: {trial.reason}")
        case "stopped" | "stalled":
            by = "by its rung" if trial.ending == "stopped" else "by the stall rule"
            figure = f"{trial.ending} {by}: {trial.reason}"
            if trial.stopped_by_hand:
                figure = "stopped by hand"
            return Finding("ending", "ok", figure, "a comparison with other trials, no cause")
    return None


def course(
    study: StudyConfig,
    trial: TrialState,
    run_dir: Path,
    sampling_noise: float | None,
    yard: Yardstick,
) -> Finding:
    """Judge the series of validations.

    Args:
        study: Its study.
        trial: The trial.
        run_dir: Where its cases may be.
        sampling_noise: Standard deviation of the mean Dice that fresh noise alone makes, where it
            was measured.
        yard: What its Dice should reach.
    """
    metric = study.objective.metric if study.trainer else "val/dice"
    name = "Dice" if metric == "val/dice" else metric
    finite = [r for r in trial.reports if math.isfinite(r.metrics.get(metric, math.nan))]
    less = study.trainer is not None and study.objective.mode == "min"
    better, worse, rose = ("falling", "rising", "fell") if less else ("rising", "falling", "rose")
    epochs, values = [r.epoch for r in finite], [r.metrics[metric] for r in finite]
    expected = _expected(run_dir, epochs) or sampling_noise or 0.0
    found = trend(epochs, values, expected=expected)
    values_of = strict(asdict(found) | {"expected_noise": expected or None})
    if found.word == "too short":
        figure = f"{found.num} validations: too few to tell a trend from noise"
        return Finding("trend", "not measured", figure, values=values_of)
    figure = (
        f"{found.word}: {name} {found.slope:+.4f} an epoch [{found.low:+.4f}, {found.high:+.4f}] "
        f"over epochs {found.first:g}-{found.last:g}, scatter {found.noise:.3f} around it"
    )
    compared = f"chance alone scatters by {expected:.3f}" if expected else ""
    word: Word = "ok"
    step = ""
    match found.word:
        case trending if trending == better and trial.ending:
            word = "suspicious"
            compared = f"it ended while it still {rose}"
            to_go = 0.0 if yard.reference is None else max(0.0, yard.reference - found.level)
            left = to_go / abs(found.slope)
            if left <= 2 * trial.epoch:
                step = f"segtune resume {study.study}:{trial.number} --epochs {3 * trial.epoch}"
            else:
                compared += f", too slowly: {left:.0f} more epochs to {yard.name}"
        case trending if trending == worse:
            word = "suspicious"
            if _falls(trial):
                compared = "while the training loss falls: over-fitting; earlier weights did better"
                step = "data.augment=heavy" if _can_augment(study, trial) else ""
        case "oscillating":
            word = "suspicious"
            compared += ": the weights swing, all cases together"
            constant = not study.trainer and trial.config(study).optimizer.lr_schedule == "constant"
            if constant:
                step = "optimizer.lr_schedule=cosine"
    return Finding("trend", word, figure, compared, step, values_of)


def losses(trial: TrialState) -> Finding:
    """Say what the loss is made of, whether it falls, and where it jumps."""
    history = [(r.epoch, _terms(r.metrics), r.metrics.get("train/loss")) for r in trial.reports]
    history = [(epoch, terms, loss) for epoch, terms, loss in history if terms]
    if not history:
        return _whole_loss(trial)
    (first, before, _), (last, now, total) = history[0], history[-1]
    size = sum(abs(weighted) for _, weighted in now.values()) or 1.0
    shares = {name: abs(weighted) / size for name, (_, weighted) in now.items()}
    told = ", ".join(
        f"{name} {before[name][0]:.3g} -> {raw:.3g} ({shares[name]:.0%})"
        for name, (raw, _) in sorted(now.items(), key=lambda item: -shares[item[0]])
        if name in before
    )
    jumps = [
        f"{name} x{new[name][0] / old[name][0]:.1f} at epoch {epoch}"
        for (_, old, _), (epoch, new, _) in pairwise(history)
        for name in new
        if name in old and 0 < JUMP * old[name][0] < new[name][0]
    ]
    stuck = len(history) > 2 and all(
        raw > STUCK * before[name][0] for name, (raw, _) in now.items() if name in before
    )
    top = max(shares, key=lambda name: shares[name])
    word: Word = "ok"
    compared = ""
    if stuck:
        word, compared = "suspicious", "no term falls"
    elif jumps:
        word, compared = "suspicious", f"jumps: {', '.join(jumps[:3])}"
    elif len(shares) > 1 and shares[top] > DOMINATES:
        word, compared = "suspicious", f"{top} drowns the others"
    values = {
        "first_epoch": first,
        "last_epoch": last,
        "loss": total,
        "jumps": jumps,
        "shares": shares,
        "terms": {name: {"raw": raw, "weighted": value} for name, (raw, value) in now.items()},
    }
    figure = f"raw, epoch {first} -> {last} (share of the weighted sum): {told}"
    return Finding("loss", word, figure, compared, values=strict(values))


def _whole_loss(trial: TrialState) -> Finding:
    """Say whether a loss falls of which no terms are known, as of another trainer."""
    known = [(r.epoch, r.metrics["train/loss"]) for r in trial.reports if "train/loss" in r.metrics]
    known = [(epoch, loss) for epoch, loss in known if math.isfinite(loss)]
    if not known:
        return Finding("loss", "not measured", "no training loss is recorded")
    (first, before), (last, now) = known[0], known[-1]
    stuck = len(known) > 2 and all(loss > before - (1 - STUCK) * abs(before) for _, loss in known)
    figure = f"train/loss, epoch {first} -> {last}: {before:.3g} -> {now:.3g}"
    values = {"first_epoch": first, "last_epoch": last, "loss": now}
    if stuck:
        return Finding("loss", "suspicious", figure, "it does not fall", values=values)
    return Finding("loss", "ok", figure, values=values)


def _terms(metrics: Mapping[str, float]) -> dict[str, tuple[float, float]]:
    """Return each loss term's raw and weighted value."""
    suffix = "_weighted"
    return {
        (name := key.removeprefix("train/").removesuffix(suffix)): (metrics[f"train/{name}"], value)
        for key, value in metrics.items()
        if key.startswith("train/") and key.endswith(suffix)
    }


def _dice(trial: TrialState) -> list[float]:
    values = [report.metrics.get("val/dice", math.nan) for report in trial.reports]
    return [value for value in values if math.isfinite(value)]


def _expected(run_dir: Path, epochs: Sequence[int]) -> float:
    """Return the scatter of the mean Dice that the cases' own scatter makes; 0 if not known."""
    import numpy as np

    tables = [lesion_dice(run_dir, epoch) for epoch in epochs[-max(8, len(epochs) // 2) :]]
    known = [list(table.values()) for table in tables if table]
    if len(known) < 5 or len({len(table) for table in known}) > 1 or len(known[0]) < 3:
        return 0.0
    return chance(np.array(known))


def _falls(trial: TrialState) -> bool:
    losses = [r.metrics["train/loss"] for r in trial.reports if "train/loss" in r.metrics]
    return len(losses) > 2 and losses[-1] < losses[len(losses) // 2]


def _can_augment(study: StudyConfig, trial: TrialState) -> bool:
    return not study.trainer and trial.config(study).data.augment != "heavy"
