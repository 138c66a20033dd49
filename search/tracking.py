"""MLflow as a view of the ledger; the only module that knows MLflow.

The ledger is the spool: a thread walks along it and delivers, and a small file says how far it
came. A dead server delays nothing and loses nothing; what it missed is delivered later. Delivery
may repeat itself without doubling a point, since the points' times are the ledger's.
"""

import json
import logging
import os
import re
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from search.ledger import Event
from search.live import LiveStudy
from search.storage import mirror_id
from trainer.atomic import write_atomically
from trainer.configfile import flatten

STATUS = {"completed": "FINISHED", "stopped": "KILLED", "infeasible": "KILLED"}
"""MLflow's word for an ending; FAILED for the others."""

SWITCHES = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # we try again ourselves, for hours if need be
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
}


def tracking_uri(runs: Path) -> str:
    """Return MLFLOW_TRACKING_URI, or SQLite in the folder of all studies; never show it as it is.

    It may have a user and a password in it, which only MLflow may see.
    """
    # Two machines with mirrors of the same place have a database each, and so an address each.
    name = f"mlflow-{mirror}.db" if (mirror := mirror_id(runs)) else "mlflow.db"
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{runs / name}"


def without_credentials(text: str) -> str:
    """Return a text with the user and password of no address in it: `http://me:pw@host`."""
    return re.sub(r"://[^/\s]*@", "://", text)


def ui_command(runs: Path) -> str:
    """Return what shows the runs in a browser: a command, or the server's address."""
    uri = without_credentials(tracking_uri(runs))
    if not uri.startswith("sqlite:"):
        return uri
    return f"{Path(sys.executable).with_name('mlflow')} ui --backend-store-uri {uri}"


class Tracker:
    """Delivers a study's events to MLflow from a thread; a context manager and a listener.

    Args:
        live: The study.
        link: Takes `mlflow` events for the ledger, which only the driver may write.
        say: Tells a person, once, that the server does not answer.
    """

    GATHER_S = 2.0
    """Reports are gathered for so long and delivered together."""
    RETRY_S = (2.0, 60.0)
    """First and longest pause after a failure."""
    CLOSE_S = 30.0
    """At the end, the rest is delivered for at most so long; the next launch does what is left."""
    CHUNK = 1000
    """Events a delivery, and metrics a request: MLflow takes no more."""

    def __init__(self, live: LiveStudy, link: Callable[[Event], None], say: Callable[[str], None]):
        self._live = live
        self._events = live.ledger.events
        self._link = link
        self._say = say
        self._secret_uri = tracking_uri(live.folder.parent)
        self._uri = without_credentials(self._secret_uri)
        self._cursor_path = live.folder / "mlflow.json"
        self._cursor = self._load_cursor()
        self._view: _View | None = None
        self._failing = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)

    @property
    def behind(self) -> bool:
        """Whether there are events that MLflow does not have."""
        unseen = self._events[self._cursor :]
        return any(event["event"] not in ("mlflow", "driver") for event in unseen)

    def hear(self, event: Event) -> None:
        """Wake the thread: the event is in the ledger."""
        self._wake.set()

    def __enter__(self) -> "Tracker":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._wake.set()
        self._thread.join(0.1 if self._failing else self.CLOSE_S)
        if self.behind:
            self._say("MLflow does not have everything yet; the same command again sends the rest")

    def _run(self) -> None:
        pause_s = self.RETRY_S[0]
        while True:
            closing = self._closing.is_set()
            try:
                while self.behind:
                    self._deliver()
            except Exception as error:  # whatever MLflow raises: the study must not notice
                if not self._failing:
                    reason = f"{type(error).__name__}: {error}".splitlines()[0]
                    reason = without_credentials(reason)[:160]
                    self._say(f"MLflow at {self._uri} does not answer, events wait: {reason}")
                self._failing = True
                if self._closing.wait(pause_s):
                    return
                pause_s = min(2 * pause_s, self.RETRY_S[1])
                continue
            if self._failing:
                self._say(f"MLflow at {self._uri} answers again and has everything")
            self._failing, pause_s = False, self.RETRY_S[0]
            if closing:
                return
            self._wake.wait()
            self._wake.clear()
            self._closing.wait(self.GATHER_S)

    def _deliver(self) -> None:
        if self._view is None:
            self._view = _View(self._live, self._secret_uri, self._link, self._events)
        events = self._events[self._cursor : self._cursor + self.CHUNK]
        self._view.show(events)
        self._cursor += len(events)
        text = json.dumps({"uri": self._uri, "delivered": self._cursor})
        write_atomically(self._cursor_path, lambda temporary: temporary.write_text(text))

    def _load_cursor(self) -> int:
        try:
            saved = json.loads(self._cursor_path.read_text())
        except (OSError, ValueError):
            return 0
        if without_credentials(saved["uri"]) != self._uri:  # an earlier segtune kept them
            return 0
        # A driver may have died between a run's creation and the line that links it; from its
        # proposal on, everything is delivered again, and the run is found by its trial's name.
        linked = _linked_runs(self._events, self._uri)
        for number, event in enumerate(self._events[: saved["delivered"]]):
            if event["event"] == "proposed" and event["trial"] not in linked:
                return number
        return saved["delivered"]


def _linked_runs(events: list[Event], uri: str) -> dict[int, str]:
    """Return each trial's run at a server, as far as the ledger knows it."""
    return {
        event["trial"]: event["run_id"]
        for event in events
        if event["event"] == "mlflow"
        and "run_id" in event
        and without_credentials(event["uri"]) == uri
    }


class _View:
    """A study in MLflow: one experiment, and one run a trial for ever."""

    def __init__(
        self,
        live: LiveStudy,
        uri: str,
        link: Callable[[Event], None],
        events: list[Event],
    ):
        for name, value in SWITCHES.items():
            os.environ.setdefault(name, value)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        if uri.startswith("sqlite:///"):
            _create_database(Path(uri.removeprefix("sqlite:///")))
        self._study = live.study
        assert live.state.study is not None
        self._begun = live.state.study
        self._uri = without_credentials(uri)
        self._link = link
        self._client = MlflowClient(_logged_in(uri))
        self._experiment_id = self._open_experiment(live.folder.parent)
        self._runs = _linked_runs(list(events), self._uri)

    def _open_experiment(self, runs: Path) -> str:
        name = self._study.study
        experiment = self._client.get_experiment_by_name(name)
        if experiment:
            return experiment.experiment_id
        artifacts = runs / "mlflow-artifacts" / name if self._uri.startswith("sqlite:") else None
        id_ = self._client.create_experiment(name, artifacts.as_uri() if artifacts else None)
        self._link({"event": "mlflow", "experiment_id": id_, "uri": self._uri})
        return id_

    def show(self, events: list[Event]) -> None:
        """Make the view show events, whether or not it shows some of them already."""
        by_trial: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            if event["event"] == "threshold":
                self._show_threshold(event)
            elif event.get("trial") is not None and event["event"] != "mlflow":
                by_trial[event["trial"]].append(event)
        for trial, its_events in by_trial.items():
            self._show_trial(trial, its_events)

    def _show_threshold(self, event: Event) -> None:
        for key in ("modality", "above", "threshold", "dice"):
            self._client.set_experiment_tag(self._experiment_id, f"threshold.{key}", event[key])

    def _show_trial(self, trial: int, events: list[Event]) -> None:
        from mlflow.entities import Metric, RunTag

        metrics: list[Any] = []
        tags: dict[str, Any] = {}
        status: str | None = None
        for event in events:
            time_ms = int(event["time"] * 1000)
            match event["event"]:
                case "proposed":
                    self._begin(event, time_ms)
                case "started":
                    tags["attempts"], status = event["attempt"], "RUNNING"
                case "reported":
                    metrics += [
                        Metric(key, value, time_ms, event["epoch"])
                        for key, value in event["metrics"].items()
                    ]
                case "decided" if event.get("rung") is not None:
                    tags["rung"] = event["rung"]
                case "interrupted":
                    status = "SCHEDULED"
                case "resumed":
                    tags.pop("ending", None)
                    resumed = f"after epoch {event['epoch']}, to epoch {event['epochs']}"
                    tags |= {"resumed": resumed, "reason": ""}
                    status = "SCHEDULED"
                case "ended":
                    tags |= {"ending": event["ending"], "reason": event["reason"]}
                    status = STATUS.get(event["ending"], "FAILED")
        run_id = self._runs[trial]
        run_tags = [RunTag(key, str(value)) for key, value in tags.items()]
        for start in range(0, max(len(metrics), 1), Tracker.CHUNK):
            self._client.log_batch(run_id, metrics[start : start + Tracker.CHUNK], tags=run_tags)
        if "ending" in tags:
            self._client.set_terminated(run_id, status, time_ms)
        elif status:
            self._client.update_run(run_id, status)

    def _begin(self, event: Event, time_ms: int) -> None:
        """Find a trial's run again, or create it; then give it all that is fixed."""
        from mlflow.entities import Param

        config = self._study.train_config(
            event["params"],
            epochs=event.get("epochs"),  # these three are a confirming trial's
            seed=event.get("seed"),
            fold=event.get("fold"),
        ).model_dump(mode="json")
        trial, uid = event["trial"], f"{self._begun['uid']}/{event['trial']:04d}"
        run_id = self._runs.get(trial) or self._find(uid)
        if run_id is None:
            tags = {
                "trial_uid": uid,
                "kind": event["kind"],
                "protected": str(event["protected"]).lower(),
                "searched": " ".join(event["params"]),
                "seed": str(config["seed"]),
                "store_hash": self._begun["store_hash"],
                "git_commit": self._begun["commit"],
            }
            if event["kind"] == "confirm":
                tags["confirms"] = str(event["of"])
            run = self._client.create_run(
                self._experiment_id, time_ms, tags, f"{self._study.study}-{trial:04d}"
            )
            run_id = run.info.run_id
        if trial not in self._runs:
            self._runs[trial] = run_id
            self._link({"event": "mlflow", "trial": trial, "run_id": run_id, "uri": self._uri})
        params = [Param(key, str(value)) for key, value in flatten(config).items()]
        self._client.log_batch(run_id, params=params)
        self._client.log_text(run_id, yaml.safe_dump(config, sort_keys=False), "config.yaml")

    def _find(self, uid: str) -> str | None:
        found = self._client.search_runs([self._experiment_id], f"tags.trial_uid = '{uid}'")
        return found[0].info.run_id if found else None


def _logged_in(uri: str) -> str:
    """Hand a server's user and password over as MLflow wants them; return its address alone.

    In the address they would be good for all but the artifacts.
    """
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or parts.username is None:
        return uri
    os.environ["MLFLOW_TRACKING_USERNAME"] = unquote(parts.username)
    os.environ["MLFLOW_TRACKING_PASSWORD"] = unquote(parts.password or "")
    return without_credentials(uri)


def _create_database(path: Path) -> None:
    """Create MLflow's database complete or not at all: a half-created one can never be opened."""
    if path.exists():
        return
    from mlflow import MlflowClient

    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    try:
        MlflowClient(f"sqlite:///{unfinished}").search_experiments()
        with suppress(FileExistsError):  # another study's driver was quicker
            os.link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)
