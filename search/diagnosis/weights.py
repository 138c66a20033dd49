"""What a trial's weights tell: how far they moved, what they average, where the lesion is lost."""

from collections import Counter
from dataclasses import asdict
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from search.diagnosis.finding import Finding, Word
from search.diagnosis.history import Yardstick
from search.ledger.trial_state import TrialState
from trainer.config import TrainConfig
from trainer.evaluation.metrics import VOLUME_GROUPS
from trainer.files.documents import strict

if TYPE_CHECKING:
    from trainer.diagnosis.measure import AtTimestep, Measured

FAR, VERY_FAR = 1.5, 3.0
"""Distance from the initial weights, over their norm, that is suspicious and that is a cause."""
SHORT, VERY_SHORT = 0.05, 0.02
"""Likewise of weights that hardly moved."""
GAP = 0.05
"""Dice that is worth a finding, if it is also beyond twice the noise."""
LAG, LAG_SHARE = 0.03, 0.15
"""Dice, and share of the raw weights' Dice, by which an average falls behind that lags."""
RESCUED = 0.15
"""By so much the average is better than the weights that it averages where these swing."""
COPIES = 0.3
"""Dice by which x_start is better from half-noised truth than from noise alone, where a network
looks at the mask that shows through the noise rather than at the image."""
MISSED = 0.5
"""Share of the lesions of 5 mL or more."""
CASES = 3
"""Cases from which a threshold that is chosen on them says something."""


def learning_rate(
    measured: "Measured | None", trial: TrialState, config: TrainConfig, yard: Yardstick
) -> Finding:
    """Say how far the optimizer moved the weights, and how large its steps are."""
    optimizer = config.optimizer
    lr = optimizer.lr
    word: Word
    parts, values = [f"optimizer.lr {lr:.2g}"], {"lr": lr, "clip_norm": optimizer.clip_norm}
    metrics = trial.reports[-1].metrics if trial.reports else {}
    if (norm := metrics.get("train/grad_norm")) is not None:
        norms = [r.metrics.get("train/grad_norm", 0.0) for r in trial.reports]
        clipped = sum(n > optimizer.clip_norm for n in norms) / len(norms)
        parts.append(
            f"gradient norm {norm:.2g} (clipped at {optimizer.clip_norm:g}; mean above it in "
            f"{clipped:.0%} of the epochs)"
        )
        values |= {"grad_norm": norm, "epochs_above_clip": clipped}
    motion = measured and measured.motion
    if not motion:
        word = "ok" if norm is not None else "not measured"
        return Finding("learning rate", word, ", ".join(parts), values=strict(values))
    parts.insert(1, f"weights are {motion.travel:.2g} x their initial norm from where they began")
    values |= asdict(motion)
    word = "ok"
    compared = f"usual 0.05 to {FAR:g}; a step at the peak is {motion.step:.2%} of them"
    step = ""
    if motion.travel > FAR:
        word = "cause likely" if motion.travel > VERY_FAR and yard.weak else "suspicious"
        compared += ": far too large steps" if word == "cause likely" else ""
        step = f"optimizer.lr={lr / 10:.2g}" if yard.weak else ""
    elif motion.travel < SHORT and yard.weak:
        word = "cause likely" if motion.travel < VERY_SHORT else "suspicious"
        compared += ": they hardly moved"
        step = f"optimizer.lr={lr * 10:.2g}"
    return Finding("learning rate", word, ", ".join(parts), compared, step, strict(values))


def averaging(measured: "Measured", config: TrainConfig) -> Finding:
    """Compare the averaged weights, which are judged, with the raw ones."""
    if measured.raw_dice is None or measured.images is None or measured.half_life_images is None:
        return Finding("averaging", "not measured", "raw weights are not here, only averaged ones")
    ema, raw = float(measured.dice[0].mean()), float(measured.raw_dice.mean())
    gap, half_life = raw - ema, measured.half_life_images
    figure = f"Dice {ema:.3f} averaged (EMA), {raw:.3f} raw: {gap:+.3f}"
    asked = config.optimizer.ema_half_life_images
    ramp = f", ramped down from {asked:,}" if asked > half_life else ""
    compared = (
        f"sampling noise {measured.noise:.3f}; half-life {half_life:,.0f} of {measured.images:,} "
        f"images seen{ramp}"
    )
    word: Word = "ok"
    step = ""
    if gap > max(LAG, LAG_SHARE * raw, 2 * measured.noise):
        word = "cause likely"
        compared += ": the average lags behind"
        step = f"optimizer.ema_half_life_images={max(1, round(half_life / 4))}"
    elif gap < -max(RESCUED, 2 * measured.noise):
        word = "suspicious"
        compared += ": the raw weights swing, and their average is what holds"
        if config.optimizer.lr_schedule == "constant":
            step = "optimizer.lr_schedule=cosine"
    values = {"ema_dice": ema, "raw_dice": raw, "half_life_images": half_life,
              "images": measured.images, "noise": measured.noise}  # fmt: skip
    return Finding("averaging", word, figure, compared, step, strict(values))


def timesteps(measured: "Measured", config: TrainConfig, yard: Yardstick) -> Finding:
    """Say from which noise on the lesion is lost."""
    levels = measured.by_timestep
    if not levels:
        return Finding("timesteps", "not measured", "segments directly: no diffusion")
    sampled, once, half = float(measured.dice.mean()), levels[-1].dice, _at(levels, 0.5)
    told = " ".join(f"{_t(level)}:{level.dice:.2f}" for level in levels)
    figure = f"Dice of x_start in one step by t {told}; sampled {sampled:.2f}"
    compared = f"{yard.name} {yard.reference:.2f}" if yard.reference is not None else ""
    diffusion = config.diffusion
    word: Word = "ok"
    step = ""
    poor = yard.poor or (yard.reference is None and sampled < 0.5 * half)
    if poor and _at(levels, 0.25) > max(0.2, 2 * sampled):
        word = "cause likely"
        before, after = _lost(levels)
        compared = f"the lesion is lost between t {_t(before)} and {_t(after)}"
        if diffusion.target == "eps":
            compared += ": eps says nothing of where it is in noise"
            step = "diffusion.target=v"
        else:
            step = _noisier(config)
    elif once - sampled > max(GAP, 2 * measured.noise):
        word = "suspicious"
        compared = "sampling loses what its first step finds"
        step = "sampling.timestep_respacing=1"
    elif yard.weak and half - once > COPIES:
        word = "suspicious"
        compared = "it reads the mask through the noise: from noise alone it does far worse"
        step = _noisier(config)
    values = {"by_timestep": [asdict(level) for level in levels], "sampled_dice": sampled}
    return Finding("timesteps", word, figure, compared, step, values)


def threshold(measured: "Measured", yard: Yardstick) -> Finding:
    """Say what another threshold would give."""
    found = measured.calibration
    gain = found.dice_crossed - found.dice
    figure = f"Dice {found.dice:.3f} at {found.threshold:g}, {found.dice_crossed:.3f} at the best"
    compared = (
        f"each of {measured.num_cases} cases at that of the others; best for all {found.best:g}"
    )
    word: Word = "ok"
    step = ""
    if gain > max(GAP, 2 * measured.noise):
        enough = measured.num_cases >= CASES
        reaches = yard.weak and found.dice_crossed > 0.9 * (yard.reference or 0.0)
        word = "cause likely" if enough and reaches else "suspicious"
        step = f"sampling.threshold={found.best:g}" if enough else ""
    return Finding("threshold", word, figure, compared, step, strict(asdict(found)))


def missed(measured: "Measured") -> Finding:
    """Say which lesions are found, by volume, and how near those missed come to the threshold."""
    number = Counter(lesion.group for lesion in measured.lesions)
    hits = Counter(lesion.group for lesion in measured.lesions if lesion.hit)
    told = ", ".join(f"{g} {hits[g]} of {number[g]}" for g in VOLUME_GROUPS if number[g])
    peaks = [lesion.probability for lesion in measured.lesions if not lesion.hit]
    compared = ""
    if peaks:
        compared = (
            f"largest probability in a missed one: median {median(peaks):.2f}, threshold "
            f"{measured.calibration.threshold:g}"
        )
    large = sum(number[g] for g in VOLUME_GROUPS[1:])
    lost = large - sum(hits[g] for g in VOLUME_GROUPS[1:])
    word: Word = "suspicious" if large and lost > MISSED * large else "ok"
    values = {"groups": {g: {"lesions": number[g], "hit": hits[g]} for g in VOLUME_GROUPS},
              "missed_probability": peaks}  # fmt: skip
    return Finding("missed lesions", word, f"found of {told or 'no lesion'}", compared, "", values)


def _at(levels: "list[AtTimestep]", share: float) -> float:
    """Return the Dice at the timestep nearest to a share of T."""
    known = [level for level in levels if level.t is not None]
    last = known[-1].t or 1
    # The last level is 0.97 of T.
    return min(known, key=lambda level: abs((level.t or 0) / last - share)).dice


def _lost(levels: "list[AtTimestep]") -> "tuple[AtTimestep, AtTimestep]":
    """Return the two neighbouring levels between which most Dice is lost."""
    return max(pairwise(levels), key=lambda pair: pair[0].dice - pair[1].dice)


def _noisier(config: TrainConfig) -> str:
    """Return the setting that leaves less of the truth in what training shows."""
    if config.diffusion.input_scale > 0.3:
        return "diffusion.input_scale=0.15"
    if config.diffusion.target == "x_start" and not config.diffusion.recycling:
        return "diffusion.recycling=0.5"
    return ""


def _t(level: "AtTimestep") -> str:
    return "noise" if level.t is None else str(level.t)
