"""`segtune explain STUDY:7`: why does this Dice stall? Findings, the likely causes first.

What the ledger tells is always there. What the store tells needs the store, and what the weights
tell needs a checkpoint: where they are not at hand, one line says so.
"""

import math
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from search.analysis.first_weights import label
from search.diagnosis import history, inputs, weights
from search.diagnosis.finding import WORDS, Finding, in_order
from search.diagnosis.neighbors import neighbours
from search.execution.gpus import device_for
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.storage.dataset_cache import open_store
from search.storage.run_folders import (
    WEIGHTS_FILES,
    checkpoints_of,
    fetch_cases,
    log_of,
    trial_files,
)
from search.storage.studies import is_driven, read_study
from search.storage.trials.names import trial_of
from search.study.config import StudyConfig
from trainer.config import TrainConfig
from trainer.configfile import ConfigError

if TYPE_CHECKING:
    from trainer.data.store import Store
    from trainer.diagnosis.measure import Measured

WIDTH = 100
"""Columns of the text."""
MARKS = {"cause likely": "!!", "suspicious": "!", "ok": "", "not measured": "-"}


def explain(folder: Path, number: int, store: str | None = None) -> dict[str, Any]:
    """Say why a trial's Dice is not higher.

    Args:
        folder: The study's.
        number: The trial's.
        store: Where its store is now; None where the study says.

    Returns:
        `answer`, a sentence; `findings`, the likely causes first, each with `name`, `word` (cause
        likely, suspicious, ok or not measured), `figure`, `compared`, `next_step` and its `values`;
        `notes`, what people say of it, what could not be looked at and why, and what was.

    Raises:
        ConfigError: There is no such trial.
    """
    study, state = read_study(folder)
    trial = trial_of(folder, state, number)
    notes = [f"noted by hand: {text}" for text in trial.notes]
    run_dir = folder / "trials" / f"{number:04d}"
    config: TrainConfig | None = None
    data, measured = None, None
    if study.trainer:
        notes.append(
            f"trained by {study.trainer.name}: only what the ledger tells; inputs and weights are "
            "its own affair"
        )
        with suppress(OSError):
            fetch_cases(folder)
    else:
        config = trial.config(study)
        data = _store(store or config.data.store, state, notes)
        with _weights_here(run_dir, notes) as here:
            measured = _measured(here, data, study.trials.gpus, notes)
    yard = history.yardstick(state, trial)
    findings = _findings(study, state, trial, config, run_dir, data, measured, yard)
    dice = trial.reports[-1].metrics.get("val/dice") if trial.reports else None
    return {
        "study": study.study,
        "trial": number,
        "kind": trial.kind,
        "reference": state.reference_name(study, trial),
        "status": trial.status(driven=trial.running and is_driven(folder)),
        "ending": trial.ending,
        "log": log_of(folder, number) if trial.attempts else "",
        "epoch": trial.epoch,
        "goal": trial.goal(study),
        "dice": dice if dice is not None and math.isfinite(dice) else None,
        "dice_median_of_last_3": yard.dice,
        "yardstick": {"name": yard.name, "dice": yard.reference},
        "label": label(study, state, trial.params),
        "answer": _answer(findings, yard),
        "findings": [asdict(finding) for finding in findings],
        "notes": notes,
        "numbers": "these numbers" if study.trainer else "Dice is of the validation fold",
    }


def _findings(
    study: StudyConfig,
    state: StudyState,
    trial: TrialState,
    config: TrainConfig | None,
    run_dir: Path,
    data: "Store | None",
    measured: "Measured | None",
    yard: history.Yardstick,
) -> list[Finding]:
    noise = measured.noise if measured else None
    found: list[Finding | None] = [
        history.ending(trial, config),
        history.course(study, trial, run_dir, noise, yard),
        history.losses(trial),
        weights.learning_rate(measured, trial, config, yard) if config else None,
        neighbours(study, state, trial, noise),
    ]
    if config is None:
        return in_order(finding for finding in found if finding)
    if data is not None:
        from trainer.diagnosis.training_data import foreground, windowed_modalities

        images = (measured.images if measured else None) or trial.epoch * config.epoch_images
        drawn = foreground(data, config, max(images, 1))
        found.append(inputs.inputs(windowed_modalities(data, config)))
        found.append(inputs.foreground(drawn, yard.weak))
    if measured is not None:
        found += [
            weights.averaging(measured, config),
            weights.timesteps(measured, config, yard),
            weights.threshold(measured, yard),
            weights.missed(measured),
        ]
    return in_order(finding for finding in found if finding)


@contextmanager
def _weights_here(run_dir: Path, notes: list[str]) -> Iterator[Path]:
    """Give a folder with a trial's newest weights; where they are out of reach, a note says so."""
    with ExitStack() as stack:
        try:
            fetch_cases(run_dir.parents[1])
            wanted = [*checkpoints_of(run_dir)[-1:], *WEIGHTS_FILES]
            files = stack.enter_context(trial_files(run_dir, wanted))
        except OSError as error:
            notes.append(f"its weights are out of reach, so only what the ledger tells: {error}")
            files = Path(stack.enter_context(TemporaryDirectory(prefix="segtune-")))
        yield files


def _store(path: str, state: StudyState, notes: list[str]) -> "Store | None":
    """Open the trial's store; where it is not here or holds other data, a note says so."""
    try:
        store = open_store(path)
    except (ConfigError, OSError) as error:
        notes.append(f"inputs, foreground and weights need the store (--store): {error}")
        return None
    expected = state.study["store_hash"] if state.study and "store_hash" in state.study else None
    if expected not in (None, store.content_hash):
        notes.append(f"{path}: is not the data that the study was trained on: not looked at")
        return None
    return store


def _measured(
    run_dir: Path, store: "Store | None", gpus: float, notes: list[str]
) -> "Measured | None":
    """Measure a trial's weights, which had so many GPUs; where none are here, a note says so."""
    if store is None:
        return None
    from trainer.diagnosis.measure import measure

    try:
        measured = measure(run_dir, store, device=device_for(gpus))
    except ConfigError as error:
        notes.append(f"no weights are here, so only what the ledger and the store tell: {error}")
        return None
    part = "" if measured.complete else ", a part of them"
    place = "CPU" if measured.device == "cpu" else "GPU"
    notes.append(
        f"weights of {measured.moment} on {measured.num_slices} slices of {measured.num_cases} "
        f"validation cases with a lesion{part}, in {measured.seconds:.0f} s on the {place}; Dice "
        "here is on the store's grid, from one sampled mask"
    )
    return measured


def _answer(findings: list[Finding], yard: history.Yardstick) -> str:
    first = findings[0]
    if first.word == "cause likely":
        also = [f.name for f in findings[1:] if f.word == "cause likely"]
        more = f" (also {', '.join(also)}, which may follow from it)" if also else ""
        try_it = f"; try {first.next_step}" if first.next_step else ""
        return f"likely cause: {first.name}{more}: {first.compared or first.figure}{try_it}"
    if first.word == "suspicious":
        names = ", ".join(f.name for f in findings if f.word == "suspicious")
        return f"no clear cause; to look at: {names}"
    return "nothing wrong found" + (f", but {yard.name} is better" if yard.weak else "")


def render(result: dict[str, Any]) -> str:
    """Return an explanation as text, at most WIDTH columns wide."""
    goal = f" of {result['goal']}" if result["ending"] is None else ""
    kind = f"reference {result['reference']}" if result["reference"] else result["kind"]
    head = (
        f"{result['study']}:{result['trial']} ({kind}): {result['status']}, "
        f"epoch {result['epoch']}{goal}"
    )
    if result["dice"] is not None:
        yard = result["yardstick"]
        head += f", Dice {result['dice']:.3f}"
        head += f"; {yard['name']} {yard['dice']:.3f}" if yard["dice"] is not None else ""
    lines = [*_wrapped(head, "", ""), *_wrapped(result["answer"], "", ""), ""]
    indent = 2 + max(map(len, WORDS)) + 2
    for finding in result["findings"]:
        mark = f"{MARKS[finding['word']]:2}"
        title = f"{mark}{finding['word']:{indent - 2}}{finding['name']}: "
        lines += _wrapped(finding["figure"], title, " " * indent)
        if finding["compared"]:
            lines += _wrapped(finding["compared"], " " * indent, " " * indent)
        if finding["next_step"]:
            lines += _wrapped(f"try: {finding['next_step']}", " " * indent, " " * indent)
    lines.append("")
    log = [f"What it printed: {result['log']}"] if result["log"] else []
    for note in [*log, *result["notes"], f"{result['numbers']}: {result['label']}"]:
        lines += _wrapped(note, "", "")
    return "\n".join(lines)


def _wrapped(text: str, first: str, indent: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=indent,
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
