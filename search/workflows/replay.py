"""`segtune replay`: train one trial again, and see whether it gives the same numbers.

On the same kind of CPU, with the same code, store, versions and number of threads, a trial gives
the same bits again, however often it was interrupted or resumed; so it does with `deterministic` on
the same model of GPU. Where it does not, one of these is not the same, and which is said first.
Elsewhere on GPUs sums are rounded in another order, and TOLERANCE is what two trainings may differ
by. Between a CPU and a GPU the noise is another too.
"""

import importlib
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from search.execution.environment import code_commit, package_versions
from search.execution.hardware import cpu_model
from search.ledger.journal import Event, Ledger
from search.ledger.trial_state import Attempt, Report, TrialState
from search.storage.archives.opened import is_archived, refuse
from search.storage.dataset_cache import content_hash, open_store
from search.storage.studies import read_study
from search.storage.trials.names import trial_name, trial_of
from search.study import semantics
from search.study.config import StudyConfig
from search.study.frozen import frozen_of
from search.study.load import with_its_trainer
from search.workflows import replay_own
from trainer.config import TrainConfig, absolute
from trainer.configfile import ConfigError

TOLERANCE = 0.05
"""Where bits are not promised: a metric's difference, as a share of the larger of the two, or in
itself where both are below 1, unless it is one of the training's, such as a loss, which is small.
For the same noise: differences of the last bit grow with every step, on a CPU in fp32 to 8e-6 of a
gradient, 4e-7 of a loss and no Dice in four epochs of 50 steps. bf16 rounds 65,536 times as
coarsely, and a Dice may turn on a voxel."""
UNKNOWN = {"gpu": "none", "cpu": "none"}
"""What an empty text is called; elsewhere it is unknown."""


@dataclass(frozen=True)
class TrainedSegment:
    """Epochs that were trained towards one number of epochs."""

    config: TrainConfig
    reports: list[Report]
    """In the ledger, at least one."""

    def on_cpu(self) -> "TrainedSegment":
        """Return it as a trial trained it that had no GPU."""
        if self.config.device != "auto":
            return self
        return replace(self, config=self.config.model_copy(update={"device": "cpu"}))


def replay(
    folder: Path,
    number: int,
    *,
    epochs: int | None = None,
    store: str | None = None,
    fit: str = "trainer.loop:fit",
) -> bool:
    """Train a trial again in a temporary folder, and print how its metrics compare.

    Args:
        folder: The study's.
        number: The trial.
        epochs: Only those that were reported up to here.
        store: Where the study's data are now, if not where they were.
        fit: `module:function` with the contract of `trainer.loop.fit`.

    Returns:
        Whether every metric of every epoch, except times, is the same: to the last bit, or within
        TOLERANCE where bits are not promised.

    Raises:
        ValueError: There is no such trial, nothing to compare with, or the store has other data.
        OSError: The ledger cannot be read.
    """
    study, state = read_study(folder)
    trial = trial_of(folder, state, number)
    assert state.study is not None
    if store is not None:
        study = _with_store(study, store, state.study)
    if study.trainer:
        if is_archived(folder):
            refuse(folder, f"trained by {study.trainer.name}, which no archive may start")
        name, study = study.trainer.name, with_its_trainer(study, folder)
        print(
            f"note       trained by {name}: whether the same seed gives the same "
            "numbers is its own affair",
            flush=True,
        )
        for line in replay_own.environment(trial):
            print(f"note       {line}", flush=True)
        return _compared(replay_own.train_again(study, folder, trial, epochs), TOLERANCE)
    parts = trained_segments(study, trial, math.inf if epochs is None else epochs)
    if not parts:
        name = trial_name(folder, number)
        raise ConfigError([f"{name}: no epoch of it was reported so far"])
    started = [
        event
        for event in Ledger.open(folder / "ledger.jsonl", writer=False).events
        if event["event"] in ("started", "reported") and event["trial"] == number
    ]
    if not study.trials.gpus:
        parts = [part.on_cpu() for part in parts]
    for line in environment(state.study, trial.attempts, started, parts[0].config):
        print(f"note       {line}", flush=True)
    tolerance = 0.0 if promises_bits(parts[0].config, _gpus(started)) else TOLERANCE
    if tolerance:
        print(
            f"note       on GPUs bits are the same only with `deterministic` and the same model: "
            f"here differences of up to {tolerance:.0%} pass, and in a validation {tolerance:g} "
            "below 1",
            flush=True,
        )
    here = _gpu(parts[0].config)
    if any(bool(gpu) != bool(here) for gpu in _gpus(started)):
        print("note       the noise is another on a GPU: only the size of the numbers compares")
    if study.trials.workers_per_trial > 1:
        print("note       1 worker now: sums over several are rounded otherwise")
    return _compared(train_again(parts, number, fit), tolerance)


def _with_store(study: StudyConfig, store: str, begun: Event) -> StudyConfig:
    """Return a study whose data lie elsewhere now.

    Raises:
        ConfigError: They are others than it was begun with, or none.
    """
    if (found := content_hash(store)) != begun["store_hash"]:
        rule = f"but the study was begun with {begun['store_hash'][:12]}"
        raise ConfigError([f"--store {store}: has the content {found[:12]}, {rule}"])
    return study.model_copy(
        update={"data": study.data.model_copy(update={"store": absolute(store)})}
    )


def _compared(again: Iterator[tuple[Report, Mapping[str, float]]], tolerance: float) -> bool:
    """Print how each report compares with its metrics now; return whether all are the same."""
    same = identical = True
    try:
        for report, metrics in again:
            exact = not differences(report.metrics, metrics)
            identical = identical and exact
            found = differences(report.metrics, metrics, tolerance)
            same = same and not found
            told = [*found, "identical" if exact else "within the tolerance"]
            print(f"epoch {report.epoch:4d} {told[0]}", flush=True)
            for line in found[1:]:
                print(f"{'':10s} {line}", flush=True)
    except (ArithmeticError, MemoryError, RuntimeError) as error:  # diverged, or out of memory
        same = identical = False
        print(f"ended now, unlike then: {type(error).__name__}: {error}")
    if same and not identical:
        print("the same within the tolerance")
    else:
        print("identical" if same else "not the same" if tolerance else "not identical")
    return same


def trained_segments(study: StudyConfig, trial: TrialState, until: float) -> list[TrainedSegment]:
    """Return what a trial trained, a stretch for every number of epochs that it was to reach."""
    ends = [*(segment.after for segment in trial.segments), math.inf]
    found: list[TrainedSegment] = []
    begin = -1.0
    for end in ends:
        reports = [r for r in trial.reports if begin < r.epoch <= min(end, until)]
        if reports:
            goal = trial.goal_at(study, reports[0].epoch)
            config = study.train_config(trial.params, epochs=goal, seed=trial.seed, fold=trial.fold)
            found.append(TrainedSegment(config, reports))
        begin = end
    return found


def train_again(
    parts: list[TrainedSegment], number: int, fit: str
) -> Iterator[tuple[Report, Mapping[str, float]]]:
    """Train in a folder that is deleted; yield each report with the metrics of the new run."""
    module, _, name = fit.partition(":")
    function = getattr(importlib.import_module(module), name)
    store = open_store(parts[0].config.data.store).path
    with tempfile.TemporaryDirectory(prefix="segtune-replay-") as temporary:
        run_dir = Path(temporary) / "trials" / f"{number:04d}"
        received = -1
        for part in parts:
            data = part.config.data.model_copy(update={"store": str(store)})
            config = part.config.model_copy(update={"data": data})
            validations = function(config, run_dir, received=received)
            for report in part.reports:
                validation = next(v for v in validations if v.epoch >= report.epoch)
                assert validation.epoch == report.epoch, f"epoch {report.epoch} is not validated"
                yield report, validation.metrics
                received = report.epoch
            validations.close()


def differences(
    then: Mapping[str, float], now: Mapping[str, float], tolerance: float = 0.0
) -> list[str]:
    """Return a line for every metric that is not the same, times excepted.

    Args:
        then: Metrics.
        now: Metrics.
        tolerance: As TOLERANCE; 0 asks for the same bits.
    """
    lines = []
    for key in sorted(then.keys() | now.keys()):
        one, other = then.get(key), now.get(key)
        if key.startswith("time/") or one == other:
            continue
        least = 0.0 if key.startswith("train/") else 1.0
        if one is None or other is None:
            lines.append(f"{key}: only {'now' if one is None else 'then'}")
        elif abs(one - other) <= tolerance * max(least, abs(one), abs(other)):
            continue
        elif not (math.isnan(one) and math.isnan(other)):
            lines.append(f"{key}: {one!r} then, {other!r} now ({other - one:+.2g})")
    return lines


def environment(
    begun: Event, attempts: Sequence[Attempt], started: list[Event], config: TrainConfig
) -> list[str]:
    """Return a line for everything that decides the last bits and is not as it was.

    Args:
        begun: The study's newest `study` event.
        attempts: The trial's.
        started: Their events, and those of the trial's reports.
        config: What is trained again.
    """
    store = open_store(config.data.store).content_hash[:12]
    code = {"commit": code_commit(), **package_versions()}
    here = {"cpu": cpu_model(), "threads": config.num_threads}
    now = {"semantics": semantics.SEMANTICS, "store": store, **code, **here, "gpu": _gpu(config)}
    then: list[Mapping[str, Any]] = [
        {"semantics": frozen_of(begun).semantics, "store": begun["store_hash"][:12]},
        *({"commit": attempt.commit, **attempt.versions} for attempt in attempts),
        *({key: event[key] for key in here if key in event} for event in started),
        *({"gpu": gpu} for gpu in _gpus(started)),
    ]
    lines = []
    for key, value in now.items():
        known = sorted({str(each[key]) for each in then if key in each})
        if known and known != [str(value)]:
            told = ", ".join(each or UNKNOWN.get(key, "unknown") for each in known)
            lines.append(f"{key}: {told} then, {value or UNKNOWN.get(key, 'unknown')} now")
    if code["commit"].endswith("-dirty") and all(a.commit == code["commit"] for a in attempts):
        lines.append("commit: has changes that are not in git, which may have been others then")
    return lines


def promises_bits(config: TrainConfig, gpus: set[str]) -> bool:
    """Say whether training again gives the same bits: on CPUs, or if asked for on the same GPU.

    Args:
        config: What is trained again.
        gpus: Models on which the trial was trained; empty text for a CPU.
    """
    here = _gpu(config)
    return not (here or any(gpus)) or (config.deterministic and gpus == {here})


def _gpus(events: Sequence[Event]) -> set[str]:
    """Return the GPUs of a trial's reports; in version 0.1 `started` has them."""
    old = any("gpu" in event for event in events if event["event"] == "started")
    kind = "started" if old else "reported"
    return {event.get("gpu", "") for event in events if event["event"] == kind}


def _gpu(config: TrainConfig) -> str:
    """Return the name of the GPU on which this process would train, empty for a CPU."""
    import torch

    from trainer.devices import pick_device

    device = pick_device(config)
    return torch.cuda.get_device_name(device) if device.type == "cuda" else ""
