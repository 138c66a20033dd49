"""A study under chaos: what it must find out, how it is run, and what is checked after it."""

import importlib
import math
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from search.ledger.journal import Ledger
from search.ledger.state import StudyState
from search.ledger.trial_state import TrialState
from search.study.load import load_study
from tests.chaos.ahead import AHEAD_S
from tests.chaos.hosts import NETWORK, ROOT, SHARE, Process, wait_for
from tests.chaos.lan import PORT, Lan, RayHost
from tests.chaos.server import MlflowServer
from tests.search.asha_oracle import check_decisions, rungs

TOY = "tests.chaos.toy:fit"
REAL = "trainer.loop:fit"
RELAUNCH = ROOT / "cluster" / "relaunch.sh"

Curve = list[tuple[int, dict[str, float]]]


@dataclass(frozen=True)
class Plan:
    """A study that can be written down anywhere, with nothing left to chance.

    Attributes:
        name: Of the study.
        fit: `module:function` that trains.
        lrs: One trial each, after the control.
        epochs: Of each trial that nobody stops.
        asha: Settings of the rungs; without any, no trial is stopped.
        hang_timeout_s: After which a trial's process hangs.
        slow_s: Seconds of the toy's epochs.
        settings: Further ones of the trainer.
    """

    name: str
    lrs: tuple[float, ...]
    epochs: int
    fit: str = TOY
    hang_timeout_s: float = 20
    slow_s: float = 0.5
    asha: dict[str, int] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)

    def named(self, name: str) -> "Plan":
        """Return the same study under another name."""
        return replace(self, name=name)

    @property
    def scheduler(self) -> dict[str, Any]:
        """The study's section of that name."""
        return {"type": "asha" if self.asha else "none", "max_t": self.epochs, **self.asha}

    def goes_on(self, epoch: int, epochs: int = 3) -> bool:
        """Return whether a trial cannot end within so many epochs after this one."""
        ends = {self.epochs} | {rung for ladder in rungs(self.scheduler) for rung in ladder}
        return not ends & {*range(epoch + 1, epoch + 1 + epochs)} and epoch < self.epochs

    def write(self, folder: Path, store: Path) -> Path:
        """Write the study's YAML into a folder, as `study` names it, and return its path."""
        values = {
            "study": self.name,
            "data": {"store": str(store)},
            "train": {"num_threads": 1, **self.settings},
            "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-1, "log": True}},
            "scheduler": self.scheduler,
            "trials": {"num_trials": len(self.lrs), "hang_timeout_s": self.hang_timeout_s},
            "enqueue": [{"optimizer.lr": lr} for lr in self.lrs],
        }
        path = folder / f"{self.name}.yaml"
        path.write_text(yaml.safe_dump(values, sort_keys=False))
        return path

    def truth(self, folder: Path, store: Path) -> dict[int, Curve]:
        """Train all trials here, one after the other without a fault; return their curves."""
        folder.mkdir(parents=True)
        study = load_study(self.write(folder, store))
        module, _, name = self.fit.partition(":")
        fit = getattr(importlib.import_module(module), name)
        params = [study.control_params, *study.enqueue]
        return {
            number: [
                (validation.epoch, untimed(validation.metrics))
                for validation in fit(study.train_config(its), folder / self.name / str(number))
            ]
            for number, its in enumerate(params)
        }


def untimed(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are no times; NaN, which differs from itself, as -1e9."""
    return {
        key: -1e9 if math.isnan(value) else value
        for key, value in metrics.items()
        if not key.startswith("time/")
    }


class Run:
    """A study that is being carried out on a Lan by a driver which is launched again and again.

    Args:
        plan: The study.
        lan: The hosts.
        mlflow: Where the study is shown.

    Attributes:
        folder: The study's, as this process sees it.
        host: Where its driver is.
    """

    def __init__(self, plan: Plan, lan: Lan, mlflow: MlflowServer):
        self.plan = plan
        self.lan = lan
        self.host = lan.head
        self.mlflow = mlflow
        self.folder = lan.share / "runs" / plan.name
        self._size = 0
        self._events: list[dict[str, Any]] = []
        (self.folder / "toy").mkdir(parents=True)
        self.set_pace(plan.slow_s)
        self.study = load_study(plan.write(lan.share, SHARE / "store"))
        self._launch()

    def _launch(self) -> None:
        self._said_before = len(self.log())
        drive = "tests.search.drive" if self.host is self.lan.head else "tests.chaos.ahead"
        self._relauncher = self.host.start(
            "driver",
            *(RELAUNCH, "python", "-m", drive, SHARE / f"{self.plan.name}.yaml"),
            *(SHARE / "runs", f"{NETWORK}.1:{PORT}", self.plan.fit),
            MLFLOW_TRACKING_URI=self.mlflow.URI,
        )

    def move(self) -> None:
        """Launch on another host, by another clock, what nobody launches again here any more."""
        [relauncher] = [p for p in self.host.processes("driver") if "bash" in p.command.split()[0]]
        relauncher.signal(signal.SIGKILL)
        self._relauncher.wait()
        self.host = next(host for host in self.lan.hosts[:2] if host is not self.host)
        self._launch()

    def set_pace(self, epoch_s: float) -> None:
        """Let the toy's epochs take so long from now on."""
        (self.folder / "toy" / "slow").write_text(f"{epoch_s}")

    def events(self, kind: str = "") -> list[dict[str, Any]]:
        """Return the ledger's events so far, of one kind or all."""
        path = self.folder / "ledger.jsonl"
        if path.exists() and path.stat().st_size != self._size:
            self._size = path.stat().st_size
            events = Ledger.open(path, writer=False).events
            head = self.lan.head.name
            ahead = {e["fence"] for e in events if e["event"] == "driver" and e["host"] != head}
            self._events = [
                e | {"time": e["time"] - AHEAD_S * (e["fence"] in ahead)} for e in events
            ]
        return [event for event in self._events if kind in ("", event["event"])]

    def state(self) -> StudyState:
        """Return the study as the ledger tells it now."""
        return StudyState.replay(self.events())

    @property
    def ended(self) -> bool:
        """Whether the study has ended.

        Raises:
            RuntimeError: It gave up; the message has what the driver said.
        """
        status = self._relauncher.poll()
        if status:
            raise RuntimeError(f"the study ended with {status}: {self.log()[-3000:]}")
        return status == 0

    @property
    def ending(self) -> bool:
        """Whether hardly anything is left to be struck."""
        left = [t for t in self.state().live() if t.epoch < self.plan.epochs - 4]
        return self.ended or (self.state().planned(self.study) and not left)

    def log(self) -> str:
        """Return what drivers, of this and the studies before it, have printed on its host."""
        return self.host.log("driver")

    def wait(self, ready: Callable[[], Any], what: str, timeout_s: float = 720) -> Any:
        """Wait until something is true or the study has ended; return what `ready` returned.

        Raises:
            TimeoutError: With the driver's last lines.
        """
        try:
            return wait_for(lambda: ready() or self.ended, what, timeout_s) and ready()
        except TimeoutError as error:
            raise TimeoutError(f"{error}\n{self.log()[-3000:]}") from None

    def attempts(self) -> dict[int, tuple[RayHost, Process]]:
        """Return the trials that train now, each with its process and where that is."""
        state = self.state()
        where = {event["trial"]: (event["host"], event["pid"]) for event in self.events("started")}
        hosts = {host.address: host for host in self.lan if host.is_on}
        processes = {
            (address, process.inner_pid): process
            for address, host in hosts.items()
            for process in host.processes("ray")
        }
        return {
            trial.number: (hosts[where[trial.number][0]], processes[where[trial.number]])
            for trial in state.live()
            if trial.running and where[trial.number] in processes
        }

    def driver(self) -> Process | None:
        """Return the driver's process, None between two."""
        processes = self.host.processes("driver")
        return next((p for p in processes if p.command.startswith("python")), None)

    def finish(self) -> None:
        """Wait for the study's end, and until MLflow has everything."""
        self.set_pace(0)
        self.wait(lambda: False, "the study's end", 600)
        self.mlflow.wait()
        while "the same command again sends the rest" in self.log()[self._said_before :]:
            self._launch()
            wait_for(lambda: self.ended, "the rest's delivery to MLflow")

    def check(self, truth: dict[int, Curve]) -> None:
        """Check a finished study against what it must have found out.

        Raises:
            AssertionError: Something is missing, doubled or different.
        """
        state = self.state()  # refuses epochs that are doubled, or that follow an end
        check_decisions(self.events())
        endings = {n: trial.ending for n, trial in state.trials.items()}
        assert endings.keys() == truth.keys()
        assert {*endings.values()} == {"completed"} | ({"stopped"} if self.plan.asha else set())
        found = {n: reported(trial) for n, trial in state.trials.items()}
        assert found == {n: truth[n][: len(curve)] for n, curve in found.items()}
        assert self._shown(endings) == found
        wait_for(lambda: not self.left_behind(), f"the end of {self.left_behind()}", 360)

    def _shown(self, endings: Mapping[int, str | None]) -> dict[int, Curve]:
        """Return each trial's curve in MLflow, where each trial has one run that ended alike."""
        from mlflow import MlflowClient

        with tempfile.TemporaryDirectory() as folder:
            return self._curves(MlflowClient(self.mlflow.copy_to(Path(folder))), endings)

    def _curves(self, client: Any, endings: Mapping[int, str | None]) -> dict[int, Curve]:
        experiment = client.get_experiment_by_name(self.plan.name)
        assert experiment
        curves = {}
        # One more run is the study's own.
        for run in client.search_runs([experiment.experiment_id], "tags.kind != 'study'"):
            number = int(run.data.tags["trial_uid"].split("/")[1])
            assert number not in curves, f"trial {number} has two runs"
            due = "FINISHED" if endings[number] in ("completed", "stopped") else "KILLED"
            assert run.info.status == due, f"trial {number} is {run.info.status}, not {due}"
            by_epoch: dict[int, dict[str, float]] = {}
            for key in run.data.metrics:
                if key.startswith("final/"):  # of no epoch: what a table of trials shows
                    continue
                for metric in client.get_metric_history(run.info.run_id, key):
                    assert key not in by_epoch.setdefault(metric.step, {}), f"{key} is doubled"
                    by_epoch[metric.step][key] = metric.value
            curves[number] = [(epoch, untimed(by_epoch[epoch])) for epoch in sorted(by_epoch)]
        return curves

    def left_behind(self) -> list[str]:
        """Return the processes of the study that still live."""
        processes = [p for host in self.lan for p in host.processes()]
        return [
            p.command
            for p in processes
            if p.role == "driver" or "Trainable" in p.command or "_threshold" in p.command
        ]


def reported(trial: TrialState) -> Curve:
    """Return a trial's curve, without times."""
    return [(report.epoch, untimed(report.metrics)) for report in trial.reports]


def interruptions(run: Run) -> Counter[str]:
    """Return how often attempts died, by cause."""
    return Counter(event["cause"] for event in run.events("interrupted"))
