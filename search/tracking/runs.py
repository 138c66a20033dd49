"""A study in MLflow: an experiment, a run of the study, and below it one run a trial for ever.

What is fixed about a run is in its parameters, what was measured in its metrics by epoch, and how
it stands in tags, which are written from the state of the study after the events that are shown.
So events may be shown again, in pieces of any size, and leave the same behind.
"""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from search.analysis.first_weights import warning
from search.analysis.mask_references import scored_masks
from search.analysis.ranking import best_of
from search.ledger.journal import Event
from search.ledger.session import StudySession
from search.ledger.state import StudyState, threshold_rule
from search.ledger.trial_state import TrialState
from search.storage.data_facts import data_in_words
from search.storage.outbox import reason
from search.storage.run_folders import log_of
from search.tracking import artifacts, descriptions
from search.tracking.address import is_sqlite, linked_runs, without_credentials
from search.tracking.client import connect, log
from search.tracking.event_batch import EventBatch, TrialChanges
from trainer.configfile import flatten

STATUS = {
    "completed": "FINISHED",
    "stopped": "FINISHED",
    "stalled": "FINISHED",
    "infeasible": "KILLED",
}
"""MLflow's word for an ending; FAILED for the others.

A trial that a rung or the stall rule ended did what it was for: the tag `ending` tells it apart.
"""


T = TypeVar("T")


class StudyInMlflow:
    """Sends a study's events; opening it finds or creates the experiment and the study's run.

    Args:
        session: The study; only what never changes of it is read, for a driver changes the rest.
        uri: MLflow's, perhaps with a password.
        link: Takes `mlflow` events for the ledger.
        say: Tells a person what could not be made.
        check_time: Raises TimeoutError when nobody waits any longer.

    Attributes:
        is_new: Nothing that was delivered before counts: the study's run was not linked, or is
            gone.
    """

    def __init__(
        self,
        session: StudySession,
        uri: str,
        link: Callable[[Event], None],
        say: Callable[[str], None],
        check_time: Callable[[], None] = lambda: None,
    ):
        self._study = session.study
        self._folder = session.folder
        self._say = say
        self._check_time = check_time
        self._begun = next(e for e in reversed(session.ledger.events) if e["event"] == "study")
        self._uri = without_credentials(uri)
        self._link = link
        self._client = connect(uri)
        self._batch = EventBatch(session.study)
        self._is_running = False
        self._failed: set[Callable[..., Any]] = set()
        self._experiment_id = self._open_experiment()
        self._runs = linked_runs(list(session.ledger.events), self._uri)
        self.is_new = not self._is_there(self._runs.get(None))
        if self.is_new:
            self._runs = {}
            self._open_parent()

    def _open_experiment(self) -> str:
        name = self._study.study
        experiment = self._client.get_experiment_by_name(name)
        if experiment is None:
            local = is_sqlite(self._uri)
            artifacts = self._folder.parent / "mlflow-artifacts" / name if local else None
            id_ = self._client.create_experiment(name, artifacts.as_uri() if artifacts else None)
            there: dict[str, str] = {}
        elif experiment.lifecycle_stage == "deleted":
            raise ValueError(f"its experiment {name!r} was deleted; restore or rename it there")
        else:
            id_, there = experiment.experiment_id, experiment.tags
        for key, value in descriptions.experiment_tags(self._study, self._begun["time"]).items():
            if key not in there:  # a person may have edited it
                self._client.set_experiment_tag(id_, key, value)
        return str(id_)

    def _is_there(self, run_id: str | None) -> bool:
        from mlflow.exceptions import MlflowException

        if run_id is None:
            return False
        try:
            run = self._client.get_run(run_id)
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise
        return bool(run.info.lifecycle_stage == "active")

    def _open_parent(self) -> None:
        tags = {"study_uid": self._begun["uid"], "kind": "study"} | self._provenance()
        tags["objective"] = self._study.objective.metric
        if self._study.has_data:
            tags["fold"] = str(self._study.data.fold)
        if self._study.trainer:
            tags["trainer"] = self._study.trainer.name
        begun_ms = int(self._begun["time"] * 1000)
        self._open_run(None, tags, begun_ms, self._study.study, "study_uid")

    def _provenance(self) -> dict[str, str]:
        origin = {"store_hash": self._begun["store_hash"], "mlflow.source.name": "segtune"}
        return origin | _commit(self._begun["commit"])

    def _open_run(
        self, trial: int | None, tags: dict[str, str], time_ms: int, name: str, key: str
    ) -> str:
        """Return a trial's or the study's run: the one that is linked, found by a tag, or new."""
        run_id = self._runs.get(trial) or self._find(key, tags[key])
        if run_id is None:
            run = self._client.create_run(self._experiment_id, time_ms, tags, name)
            run_id = str(run.info.run_id)
        else:  # an earlier segtune may have begun it
            log(self._client, run_id, tags=tags | {"mlflow.runName": name})
        if trial not in self._runs:
            self._runs[trial] = run_id
            which = {"experiment_id": self._experiment_id} if trial is None else {"trial": trial}
            self._link({"event": "mlflow", **which, "run_id": run_id, "uri": self._uri})
        return run_id

    def _find(self, key: str, value: str) -> str | None:
        found = self._client.search_runs([self._experiment_id], f"tags.{key} = '{value}'")
        return found[0].info.run_id if found else None

    def skip(self, events: Sequence[Event], stop: int) -> None:
        """Take note of the events before `stop`, which MLflow has."""
        self._batch.add(events, stop)
        self._batch.clear()

    def send(self, events: Sequence[Event], stop: int) -> None:
        """Send all events before `stop`, whether or not MLflow has some of them already.

        After a failure, the same call shows what is left.
        """
        self._batch.add(events, stop)
        if any(changes.ended_ms for changes in self._batch.trials.values()):
            artifacts.fetch_newest_files(self._folder, self._say)
        self._send_study()
        for number, changes in [*self._batch.trials.items()]:
            self._check_time()
            self._send_trial(self._state.trials[number], changes)
            del self._batch.trials[number]

    @property
    def _state(self) -> StudyState:
        return self._batch.state

    def _send_study(self) -> None:
        run_id = self._runs[None]
        tags = {"trials": str(len(self._state.trials))}
        if best := best_of(self._study, self._state):
            tags["best_trial"] = str(best.number)
        if first_weights := warning(self._study, self._state):
            tags["first_weights"] = first_weights
        if self._state.threshold:
            tags["threshold"] = threshold_rule(self._state.threshold)
        for masks in scored_masks(self._study, self._state):
            name = masks["name"]
            tags[f"masks.{name}"] = masks["folder"]
            tags[f"masks.{name}.unseen"] = masks["unseen"]
        if data := self._state.data:
            tags |= {f"data.{name}": value for name, value in data_in_words(data)}
        log(self._client, run_id, self._batch.points, tags)
        self._batch.points.clear()
        if not self._is_running:
            self._client.update_run(run_id, "RUNNING")
            self._is_running = True

    def _send_trial(self, trial: TrialState, changes: TrialChanges) -> None:
        if changes.proposed:
            self._begin(trial, changes.proposed)
        run_id = self._runs[trial.number]
        said = "\n\n".join(map(descriptions.markdown, trial.notes))
        noted = {"mlflow.note.content": said} if changes.noted else {}
        log(self._client, run_id, changes.points, self._status_tags(trial) | noted)
        self._send_files(run_id, trial, changes)
        if changes.ended_ms and trial.ending:
            status = STATUS.get(trial.ending, "FAILED")
            self._client.set_terminated(run_id, status, changes.ended_ms)
        elif not trial.ending:
            self._client.update_run(run_id, "RUNNING" if trial.running else "SCHEDULED")

    def _begin(self, trial: TrialState, event: Event) -> None:
        """Find a trial's run again, or create it; then give it all that is fixed."""
        settings = self._study.settings(
            event["params"],
            epochs=event.get("epochs"),  # these three are a confirming trial's
            seed=event.get("seed"),
            fold=event.get("fold"),
        )
        tags = self._provenance() | {
            "trial_uid": f"{self._begun['uid']}/{trial.number:04d}",
            "mlflow.parentRunId": self._runs[None],
            "kind": trial.kind,
            "protected": str(trial.protected).lower(),
            "searched": " ".join(trial.params),
            "seed": str(settings["seed"]),
        }
        if self._study.has_data:
            tags["fold"] = str(settings["data"]["fold"])
        if trial.of is not None:
            tags["confirms"] = str(trial.of)
        if reference := self._state.reference_name(self._study, trial):
            tags["reference"] = reference
        if settings.get("init_from") and self._study.trainer is None:
            tags["init_from"] = str(settings["init_from"])
            tags["first_weights"] = warning(self._study, self._state, trial.params)
        of = None if trial.of is None else self._state.trials[trial.of]
        confirmed = self._state.reference_name(self._study, of) if of else None
        name = descriptions.run_name(trial, reference, of, confirmed)
        run_id = self._open_run(trial.number, tags, int(event["time"] * 1000), name, "trial_uid")
        params = flatten(settings)
        first = {name: params[name] for name in self._study.space if name in params}
        log(self._client, run_id, params=first | params)

    def _status_tags(self, trial: TrialState) -> dict[str, str]:
        """Return the tags that change in the course of a trial."""
        tags = {
            "status": trial.status(),
            "ending": trial.ending or "",
            "reason": trial.reason,
            "log": log_of(self._folder, trial.number) if trial.attempts else "",
            "attempts": str(len(trial.attempts)),
            "hosts": " ".join(trial.hosts),
        }
        if attempt := trial.attempt_at():
            tags |= _commit(attempt.commit)
        if (rung := self._batch.rungs.get(trial.number)) is not None:
            tags["rung"] = str(rung)
        if trial.deleted:
            tags["deleted"] = trial.deleted.in_words()
        if trial.segments:
            segments = [f"epoch {segment.after} to {segment.epochs}" for segment in trial.segments]
            tags["resumed_from"] = ", ".join(segments)
        verdicts = {event["on"]: event for event in self._state.verdicts}
        for on, event in verdicts.items():
            for row in event["comparisons"]:
                if row["trial"] == trial.number:
                    tags[f"verdict.{on}.{row['family']}.{row['other']}"] = row["verdict"]
        if (found := self._state.confirmed) and found.get("best") == trial.number:
            tags["confirmed"] = "told from the others" if found["told"] else "not told apart"
        return tags

    def _send_files(self, run_id: str, trial: TrialState, changes: TrialChanges) -> None:
        run_dir = self._folder / "trials" / f"{trial.number:04d}"
        with tempfile.TemporaryDirectory(prefix="segtune-") as folder:
            out = Path(folder)
            if changes.configured:
                artifacts.write_config(self._study, trial, out)
            if changes.ended_ms:
                self._made(artifacts.write_cases, trial, run_dir, out)
                self._made(artifacts.draw, self._study, trial, out)
            if changes.painted:
                self._made(artifacts.copy_pictures, trial, run_dir, out)
            if any(out.iterdir()):
                self._client.log_artifacts(run_id, folder)

    def send_report(self, found: artifacts.Found | None, *, last: bool) -> None:
        """Send what the study has found so far.

        Args:
            found: That, where it is known already.
            last: Nothing follows soon.
        """
        run_id = self._runs[None]
        with tempfile.TemporaryDirectory(prefix="segtune-") as folder:
            out = Path(folder)
            for make in artifacts.STUDY_FILES:
                self._check_time()
                self._made(make, self._folder, self._study, self._state, out)
            self._check_time()
            if found := found or self._made(artifacts.look, self._folder):
                self._made(artifacts.write_results, found, out)
                self._check_time()
                if last:
                    self._made(artifacts.write_study_page, self._folder, found, out)
            self._client.log_artifacts(run_id, folder)
            note = artifacts.note(out)
        log(self._client, run_id, tags={"mlflow.note.content": note})
        if last and self._state.finished(self._study):
            status = "FAILED" if self._state.failed() else "FINISHED"
            self._client.set_terminated(run_id, status, self._batch.last_ms)
        elif last:
            self._client.update_run(run_id, "SCHEDULED")
        self._is_running = not last

    def _made(self, make: Callable[..., T], *args: Any) -> T | None:
        """Make a file; what cannot be made is told once, and is no reason to try for ever."""
        try:
            return make(*args)
        except Exception as error:
            if make not in self._failed:
                self._failed.add(make)
                self._say(f"MLflow lacks a file ({make.__name__}): {reason(error, length=160)}")
            return None


def _commit(commit: str) -> dict[str, str]:
    return {"git_commit": commit, "mlflow.source.git.commit": commit}
