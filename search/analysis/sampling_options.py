"""Ways to sample one model: what each scored and cost, and which of them to take."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.analysis.case_scores import DICE, lesion_dice, paired_difference
from search.analysis.intervals import TOO_FEW, mean_interval
from search.analysis.ranking import pareto
from search.storage.run_folders import fetch_cases
from search.storage.studies import read_study
from trainer.config import SamplingConfig
from trainer.configfile import ConfigError


@dataclass(frozen=True)
class Setting:
    """A way to sample, evaluated on the validation fold."""

    trial: int
    sampling: SamplingConfig
    dice: float
    """Mean over the cases with a lesion."""
    interval: tuple[float, float] | None
    """Of the mean, 95 %; None where the cases are not at hand, or too few to tell."""
    case_s: float
    """Seconds that sampling a case took."""
    is_pareto: bool
    """No other is better without being slower, or faster without being worse."""
    difference_to_best: dict[str, Any] | None
    """From the best, case by case, as `paired_difference` returns it; None where the cases are not
    at hand."""

    def is_as_good(self, margin: float) -> bool:
        """Return whether it is as good as the best, as far as these cases tell.

        Within one standard error of the best (Breiman et al. 1984, sec. 3.4.3), or within a margin
        that does not matter. What an interval cannot tell apart would not do: of few cases that is
        nearly everything. False where the cases are not at hand.
        """
        if self.difference_to_best is None:
            return False
        std_error = self.difference_to_best["std_error"] or 0.0
        return bool(self.difference_to_best["mean"] >= -max(margin, std_error))

    @property
    def words(self) -> str:
        """For example `ddim, eta 0.5, 2 steps, 4 masks`."""
        s = self.sampling
        eta = f", eta {s.eta:g}" if s.method == "ddim" else ""
        steps = f"{s.timestep_respacing} step{'s' * (s.timestep_respacing != 1)}"
        return f"{s.method}{eta}, {steps}, {s.num_ensemble} mask{'s' * (s.num_ensemble != 1)}"


def evaluated(folder: Path) -> list[Setting]:
    """Return the settings of a zero-epoch study that were evaluated, best first.

    Args:
        folder: The study's.

    Raises:
        ValueError: The ledger is damaged.
        OSError: There is none, or S3 does not answer.
    """
    fetch_cases(folder)
    study, state = read_study(folder)
    front = {trial.number for trial in pareto(study, state.searched())}
    done = [trial for trial in state.searched() if trial.ending == "completed"]
    done.sort(
        key=lambda t: (-t.reports[-1].metrics["val/dice"], t.reports[-1].metrics["time/case_s"])
    )
    cases = {t.number: lesion_dice(folder / "trials" / f"{t.number:04d}", 0) for t in done}
    best = cases[done[0].number] if done else None
    found = []
    for trial in done:
        mine, metrics = cases[trial.number], trial.reports[-1].metrics
        low_high = mean_interval([*mine.values()], DICE.scale) if mine else None
        found.append(
            Setting(
                trial=trial.number,
                sampling=trial.config(study).sampling,
                dice=metrics["val/dice"],
                interval=(low_high[0], low_high[1]) if low_high else None,
                case_s=metrics["time/case_s"],
                is_pareto=trial.number in front,
                difference_to_best=paired_difference(mine, best),
            )
        )
    return found


def choose(settings: Sequence[Setting], how: str, margin: float, where: str) -> Setting:
    """Return the setting to take.

    Args:
        settings: From `evaluated`, not empty.
        how: `fast`: the fastest of the Pareto set that is as good as the best, case by case (see
            `Setting.is_as_good`). `best`: the one with the best Dice. Or the number of a trial.
        margin: Of Dice that does not matter, for `fast`.
        where: For errors.

    Raises:
        ConfigError: There is no such trial.
    """
    if how == "best":
        return settings[0]
    if how == "fast":
        able = [s for s in settings if s.is_pareto and s.is_as_good(margin)]
        return min(able, key=lambda setting: setting.case_s, default=settings[0])
    for setting in settings:
        if str(setting.trial) == how:
            return setting
    numbers = ", ".join(str(setting.trial) for setting in settings)
    raise ConfigError([f"--choose {how}: {where} has no such setting: it has {numbers}"])


def difference_text(setting: Setting) -> str:
    """Return a setting's difference to the best with its interval, empty without one."""
    if setting.difference_to_best is None:
        return ""
    ends = setting.difference_to_best["interval"]
    text = "[{:+.3f}, {:+.3f}]".format(*ends) if ends else TOO_FEW
    return f"{setting.difference_to_best['mean']:+.4f} {text}"


def reason(chosen: Setting, best: Setting, how: str, margin: float) -> str:
    """Return in words why a setting was chosen; arguments as for `choose`."""
    took = f"Dice {chosen.dice:.4f} in {chosen.case_s:.2f} s a case"
    if chosen is best:
        return f"{took}, the best"
    other = f"the best, trial {best.trial}, has {best.dice:.4f} in {best.case_s:.2f} s"
    if how != "fast":
        return f"{took}; {other}"
    rule = f"within a standard error of the best, or within {margin:g} of it"
    return f"{took}, the fastest of the Pareto set that is\n   {rule}; {other}"
