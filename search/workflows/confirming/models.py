"""What is measured on trained models to judge them: the sealed test set, their use, other noise.

The test set is opened nowhere else. Validation cases are predicted as a finished model is used, or
as a training's validations do it, with other noise.

Import it after `search.execution.session.before_ray`: Ray reads its switches when it is imported.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray

from search.analysis.case_scores import case_metric, case_values
from search.execution.capacity import Slots
from search.execution.session import ray_session
from search.execution.worker import check_accelerator, on_its_devices
from search.ledger.case_lists import kept_cases, listed
from search.ledger.session import StudySession
from search.ledger.trial_state import TrialState
from search.storage import sealed_readings as readings
from search.storage.dataset_cache import with_store_here
from search.storage.run_folders import hold_run_folder, on_this_node
from search.storage.trials.names import trial_name
from search.tuning.searcher import trial_spec

STOP_S = 0.5
"""Between two looks for the study's stop file."""


def read_test_set(session: StudySession, trials: Sequence[TrialState], address: str) -> None:
    """Read the test set with each trial's last weights, and record every reading.

    What the ledger has is not read again. A threshold is frozen on the trial's validation fold
    first (trainer/evaluation/evaluate.py).

    Args:
        session: The study.
        trials: Completed ones.
        address: From `search.execution.session.ray_address`.

    Raises:
        ValueError: A trial's weights are not at hand, or they do not suit the store.
        OSError: The ledger cannot be written.
    """
    known = {event["trial"] for event in session.state.test_readings}
    unread = [trial for trial in trials if trial.number not in known]
    print(
        f"\ntest set   read by {len(trials) - len(unread)} of {len(trials)} models before, which "
        "do not read it again",
        flush=True,
    )
    if not unread:
        return
    for trial, reading in _of_each(session, unread, address, _read, "read the test set"):
        record(session, trial, reading)


def score_as_used(session: StudySession, trials: Sequence[TrialState], address: str) -> None:
    """Score trials' last weights on their validation cases as `sampling` says, and record it.

    A training's validations measure more cheaply (trainer/config.py, `validation`). What the
    ledger has is not measured again.

    Args:
        session: The study.
        trials: Completed ones.
        address: From `search.execution.session.ray_address`.

    Raises:
        ValueError: A trial's weights are not at hand, or they do not suit the store.
        OSError: The ledger cannot be written.
    """
    left = [trial for trial in trials if trial.number not in session.state.as_used]
    for trial, found in _of_each(session, left, address, _use, "score the model as it is used"):
        session.record({"event": "used", "trial": trial.number, **found})


def redraw(
    session: StudySession, trials: Sequence[TrialState], address: str, draws: int, limit_s: float
) -> None:
    """Validate trials' last weights with other noise, as a training does, and record the scores.

    Args:
        session: The study.
        trials: Those of which the ledger does not have it.
        address: From `search.execution.session.ray_address`.
        draws: How often; the weights of a model that draws nothing are validated once.
        limit_s: Of each trial; then it has as many draws as were made, at least two.

    Raises:
        ValueError: A trial's weights are not at hand, or they do not suit the store.
        OSError: The ledger cannot be written.
    """
    how = session.study.objective.metric, draws, limit_s
    what = "validate the weights with other noise"
    for trial, found in _of_each(session, trials, address, _redraw, what, *how, stops=True):
        kept = [cases for scores in found.pop("scores") if (cases := kept_cases(scores))]
        if len(kept) < 2 or len({cases for cases, _ in kept}) > 1:
            raise ValueError(f"trial {trial.number}: not all of its cases have {how[0]}")
        event = {"event": "redrawn", "trial": trial.number, **found}
        event["draws"] = [scores for _, scores in kept]
        session.record(*listed(event, kept[0][0], session.state.case_lists))


def _of_each(
    session: StudySession,
    trials: Sequence[TrialState],
    address: str,
    task: Any,
    what: str,
    *how: Any,
    stops: bool = False,
) -> Iterator[tuple[TrialState, dict[str, Any]]]:
    """Run a task with each trial's weights, and yield the answers as they come.

    Args:
        session: The study.
        trials: Of which the weights are.
        address: From `search.execution.session.ray_address`.
        task: Takes what a trial's attempt is told, and `how`.
        what: It does, for errors.
        *how: What else it takes.
        stops: Whether the study's stop file ends it.
    """
    if not trials:
        return
    needs = session.study.trials
    with ray_session(address):
        slots = Slots(needs.cpus_per_trial, needs.gpus)
        slots.check()
        slots.say_if_full(f"to {what}")
        begin = task.options(num_cpus=needs.cpus_per_trial, num_gpus=needs.gpus)
        tasks = {
            begin.remote(asdict(trial_spec(session, trial.number, "")), *how): trial
            for trial in trials
        }
        while tasks:
            done, _ = ray.wait([*tasks], timeout=STOP_S if stops else None)
            if stops and session.asked_to_stop(session.folder):
                session.stopping = "the stop file"
                for each in tasks:
                    ray.cancel(each, force=True)
                return
            if not done:
                continue
            try:
                yield tasks.pop(done[0]), ray.get(done[0])
            except ray.exceptions.RayTaskError as error:
                cause = getattr(error, "cause", None) or error
                raise ValueError(f"could not {what}: {cause}") from error


def record(session: StudySession, trial: TrialState, reading: dict[str, Any]) -> None:
    """Record a reading and say so, and the louder if it was not the model's first."""
    store_hash = (session.state.study or {})["store_hash"]
    model = trial_name(session.folder, trial.number)
    counted = readings.record(session.study.data.store, store_hash, model)
    session.record({"event": "test_read", "trial": trial.number, **reading, **counted})
    again = ""
    if reading["reading"] > 1:
        again = f"; NOT A FIRST LOOK: reading {reading['reading']} of the test set by this model"
    print(
        f"test set   {trial_name(session.folder, trial.number)} (of {trial.of}): Dice "
        f"{reading['metrics']['test/dice']:.4f} at threshold {reading['threshold']:g}{again}",
        flush=True,
    )


@ray.remote
def _read(spec: dict[str, Any]) -> dict[str, Any]:
    with _model_here(spec) as (run_dir, store, device):
        return read_one(run_dir, store, device)


@ray.remote
def _use(spec: dict[str, Any]) -> dict[str, Any]:
    with _model_here(spec) as (run_dir, store, device):
        return use_one(run_dir, store, device)


@ray.remote
def _redraw(spec: dict[str, Any], metric: str, draws: int, limit_s: float) -> dict[str, Any]:
    with _model_here(spec) as (run_dir, store, device):
        return redraw_one(run_dir, store, device, metric, draws, limit_s)


@contextmanager
def _model_here(spec: dict[str, Any]) -> Iterator[tuple[Path, str, str]]:
    """Hold a trial's run folder on this node; yield it, the store on this node and the device."""
    train = on_its_devices(spec["train"], spec["gpus"])
    if spec["gpus"] and train["device"] != "cpu":
        check_accelerator()
    spec = on_this_node(spec | {"train": train})
    with hold_run_folder(spec):
        store = with_store_here(spec)["train"]["data"]["store"]
        yield Path(spec["run_dir"]), store, train["device"]


def use_one(run_dir: Path, store: str, device: str) -> dict[str, Any]:
    """Score a trial's last weights on its validation fold, sampled as `sampling` says.

    Args:
        run_dir: The trial's.
        store: Its data.
        device: As the trainer's setting.

    Returns:
        `epoch` of the weights, `sampling`, `metrics`, and `cases`, a score each.
    """
    from trainer.data.store import Store
    from trainer.evaluation.evaluate import check_data
    from trainer.evaluation.validate import Validator, means
    from trainer.evaluation.validation_noise import BATCH
    from trainer.saved.model_io import load, with_settings

    as_used = {"validation.steps": "sampling", "validation.members": 1}
    trained, data = with_settings(load(run_dir, device), as_used), Store.open(store)
    check_data(trained, data, run_dir)
    assert trained.epoch is not None
    config, held_out = trained.config, data.split(trained.config.data.fold)[1]
    validator = Validator(data, held_out, config, trained.process, trained.device)
    scores = validator.validate(
        trained.model, trained.epoch, batch_size=BATCH, autocast=trained.autocast
    )
    cases = sorted(scores, key=lambda score: score.case_id)
    return {
        "epoch": trained.epoch,
        "sampling": config.sampling.model_dump(mode="json"),
        "metrics": {f"val/{name}": value for name, value in means(cases).items()},
        "cases": [asdict(score) for score in cases],
    }


def redraw_one(
    run_dir: Path, store: str, device: str, metric: str, draws: int, limit_s: float
) -> dict[str, Any]:
    """Validate a trial's last weights with other noise; arguments as `redraw`.

    Returns:
        `epoch` of the weights, `scores`, the metric of each case for each draw, and `seconds`.
    """
    from trainer.data.store import Store
    from trainer.evaluation.evaluate import check_data
    from trainer.evaluation.validation_noise import redrawn
    from trainer.saved.model_io import load

    begun_s = time.monotonic()
    trained, data = load(run_dir, device), Store.open(store)
    check_data(trained, data, run_dir)
    held_out = data.split(trained.config.data.fold)[1]
    draws_nothing = trained.config.model.segments_directly
    found = list[dict[str, float]]()
    for scores in redrawn(trained, data, held_out, 1 if draws_nothing else draws):
        found.append(case_values([asdict(score) for score in scores], case_metric(metric)) or {})
        passed_s = time.monotonic() - begun_s
        if len(found) > 1 and passed_s * (1 + 1 / len(found)) > limit_s:
            break
    if draws_nothing:
        found *= draws
    return {"epoch": trained.epoch, "scores": found, "seconds": round(passed_s, 3)}


def read_one(run_dir: Path, store: str, device: str) -> dict[str, Any]:
    """Freeze a trial's threshold on its validation fold, then read the test set with it.

    The weights are the run's own, those of its last validation, which the verdict on the validation
    folds is about.

    Args:
        run_dir: The trial's.
        store: Its data.
        device: As the trainer's setting.

    Returns:
        `metrics` of the test cases at the frozen `threshold`, `cases`, a score each, `dice` of each
        with a lesion, and `reading`, the how-many-eth reading by this run it was.
    """
    from trainer.data.store import Store
    from trainer.evaluation.evaluate import READINGS, evaluate
    from trainer.evaluation.evaluation_table import write
    from trainer.evaluation.validate import means
    from trainer.saved.model_io import load

    trained = load(run_dir, device)
    data = Store.open(store)
    evaluate(trained, data, run_dir, split="val")
    evaluation = evaluate(trained, data, run_dir, split="test", count=False)
    write(evaluation, run_dir / "evaluate_test")
    cases = sorted(evaluation.calibrated, key=lambda score: score.case_id)
    return {
        "metrics": {f"test/{name}": value for name, value in means(cases).items()},
        "threshold": evaluation.frozen.threshold,
        "cases": [asdict(score) for score in cases],
        "dice": {score.case_id: score.dice for score in cases if score.has_lesion},
        "reading": len((run_dir / READINGS).read_text().splitlines()),
    }
