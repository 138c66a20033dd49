"""What the driver costs: 2,000 trials of 27 reports from a trainable that does nothing.

    python -m tests.bench.bench_scale --trials 2000

runs the real way of `segtune launch` (Ray, ledger, sampler, judge) without pruning and with ASHA,
replays the ledger, and runs Ray's stock parts (OptunaSearch, ASHAScheduler, MLflowLoggerCallback)
beside them, each in a process of its own. CPU is the driver's, from the first report to the end,
so starting Ray is not in it, but starting trials is. MLflow's delivery thread is measured apart,
in a short run: the spool is the ledger, and where no server answers nothing else is done.
"""

import argparse
import functools
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.row import Row

EPOCHS = 27
NUM_METRICS = 14
"""About as many as a validation has."""
ROOT = Path(__file__).parents[2]
NO_SERVER = "http://127.0.0.1:9"


@dataclass(frozen=True)
class Validation:
    """As `trainer.loop.Validation`."""

    epoch: int
    metrics: dict[str, float]
    path: str = ""


def nothing(config: Any, run_dir: Path, *, received: int = -1) -> Iterator[Validation]:
    """Yield a validation an epoch at once; the best learning rate is 1e-3."""
    for epoch in range(max(received, 0) + 1, config.epochs + 1):
        yield Validation(epoch, metrics(config.optimizer.lr, config.optimizer.weight_decay, epoch))


def metrics(lr: float, weight_decay: float, epoch: int) -> dict[str, float]:
    jitter = 0.05 * math.sin(1e4 * (weight_decay + epoch))
    dice = (1 - 0.2 * abs(math.log10(lr) + 3)) * epoch / (epoch + 3) + jitter
    return {"val/dice": dice, "train/loss": 1 - dice} | {
        f"train/term_{i}": dice * i for i in range(NUM_METRICS - 2)
    }


def study(store: Path, num_trials: int, prune: bool) -> Any:
    """Return a study of twelve dimensions."""
    from search.study.config import StudyConfig

    floats = {
        "optimizer.lr": (1e-5, 1e-2),
        "optimizer.weight_decay": (1e-4, 1e-1),
        "loss.dice": (0.01, 10),
        "loss.bce": (0.01, 10),
        "loss.focal": (0.01, 10),
        "loss.tversky": (0.01, 10),
        "optimizer.clip_norm": (0.1, 10),
        "diffusion.input_scale": (0.05, 1),
    }
    choices = {
        "diffusion.target": ["x_start", "v", "eps"],
        "diffusion.noise_schedule": ["linear", "cosine", "sigmoid"],
        "batch.effective": [4, 8, 16],
        "loss.weighting": ["fixed", "warm_in", "learned"],
    }
    space: dict[str, Any] = {
        name: {"type": "float", "low": low, "high": high, "log": True}
        for name, (low, high) in floats.items()
    }
    space |= {name: {"type": "categorical", "choices": values} for name, values in choices.items()}
    return StudyConfig.model_validate(
        {
            "study": "scale",
            "data": {"store": str(store)},
            "space": space,
            "scheduler": {"type": "asha" if prune else "none", "max_t": EPOCHS, "smoothing": 3},
            "trials": {"num_trials": num_trials},
        }
    )


def ours(folder: Path, num_trials: int, prune: bool) -> dict[str, float]:
    """Run a study, and return what it cost in this process: seconds, MiB, reports."""
    from search.execution.session import quiet_ray
    from search.ledger.decisions import Pruner
    from search.ledger.journal import Ledger
    from search.sampler.sampler import Sampler
    from search.tracking.client import connect
    from search.tracking.runs import StudyInMlflow
    from search.workflows.launch import launch

    quiet_ray()
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    if os.environ.get("MLFLOW_TRACKING_URI") != NO_SERVER:
        connect(f"sqlite:///{folder}/runs/mlflow.db")  # so that only its work is measured
    clock = Clock()
    spent: dict[str, float] = {}
    for name, owner, method in (
        ("tpe", Sampler, "propose"),
        ("ledger", Ledger, "append"),
        ("judge", Pruner, "decide"),
        ("mlflow", StudyInMlflow, "show"),
    ):
        setattr(owner, method, _timed(getattr(owner, method), name, spent))
    Ledger.append = _noting(Ledger.append, clock)  # type: ignore[method-assign]
    status = launch(
        study(folder / "store", num_trials, prune),
        folder / "runs",
        fit="tests.bench.bench_scale:nothing",
    )
    assert status == 0
    return {**clock.measured(), **spent}


class Clock:
    """What this process used since its first report."""

    def __init__(self) -> None:
        self.reports = 0
        self._begun = (0.0, 0.0, 0.0)

    def note(self) -> None:
        """Count a report."""
        if not self.reports:
            self._begun = self._now()
        self.reports += 1

    @staticmethod
    def _now() -> tuple[float, float, float]:
        return time.process_time(), time.perf_counter(), _rss_mib()

    def measured(self) -> dict[str, float]:
        """Return the seconds of CPU and of wall time and the MiB of memory from the first report
        until now, and the largest MiB since the process began.
        """
        cpu_s, wall_s, mib = (b - a for a, b in zip(self._begun, self._now(), strict=True))
        return {
            "reports": self.reports,
            "cpu": cpu_s,
            "wall": wall_s,
            "mib": mib,
            "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }


def _noting(append: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    @functools.wraps(append)
    def noting(self: Any, *events: dict[str, Any]) -> Any:
        appended = append(self, *events)
        if any(event["event"] == "reported" for event in events):
            clock.note()
        return appended

    return noting


def _timed(function: Callable[..., Any], name: str, spent: dict[str, float]) -> Callable[..., Any]:
    """Add up the CPU seconds of a function's calls, in whichever thread."""

    @functools.wraps(function)
    def timed(*args: Any, **kwargs: Any) -> Any:
        begun = time.thread_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] = spent.get(name, 0.0) + time.thread_time() - begun

    return timed


def _rss_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def replay(folder: Path) -> dict[str, float]:
    """Read a study's ledger and rebuild all that a driver knows; return the seconds."""
    from search.ledger.decisions import Pruner
    from search.ledger.journal import Ledger
    from search.ledger.state import StudyState
    from search.sampler.sampler import Sampler
    from search.study.config import StudyConfig

    begun = time.process_time()
    ledger = Ledger.open(folder / "runs" / "scale" / "ledger.jsonl", writer=False)
    parsed = time.process_time()
    state = StudyState.replay(ledger.events)
    assert state.study is not None
    config = StudyConfig.model_validate(state.study["config"])
    Pruner.replay(config, state, ledger.events)
    judged = time.process_time()
    sampler = Sampler(config)
    for event in ledger.events:
        sampler.observe(event)
    ended = time.process_time()
    return {
        "events": len(ledger.events),
        "parse": parsed - begun,
        "state": judged - parsed,
        "sampler": ended - judged,
        "all": ended - begun,
    }


def stock(folder: Path, num_trials: int) -> dict[str, float]:
    """Run Ray's own parts with their defaults, and return what they cost in this process."""
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    import ray
    from ray import tune
    from ray.air.integrations.mlflow import MLflowLoggerCallback
    from ray.tune.schedulers import ASHAScheduler
    from ray.tune.search.optuna import OptunaSearch

    clock = Clock()

    class Idle(tune.Trainable):
        def setup(self, config: dict[str, Any]) -> None:
            self.rates = config["optimizer.lr"], config["optimizer.weight_decay"]
            self.epoch = 0

        def step(self) -> dict[str, float]:
            self.epoch += 1
            return metrics(*self.rates, self.epoch)

    class Note(tune.Callback):
        def on_trial_result(self, *_: Any, **__: Any) -> None:
            clock.note()

    space: dict[str, Any] = {}
    for name, dimension in study(folder, 1, prune=True).space.items():
        drawn = tune.choice(dimension.choices) if dimension.choices else None
        space[name] = drawn or tune.loguniform(dimension.low, dimension.high)
    mlflow = MLflowLoggerCallback(f"sqlite:///{folder}/mlflow.db", experiment_name="stock")
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    tune.Tuner(
        Idle,
        param_space=space,
        tune_config=tune.TuneConfig(
            metric="val/dice",
            mode="max",
            num_samples=num_trials,
            search_alg=OptunaSearch(seed=0),
            scheduler=ASHAScheduler(max_t=EPOCHS),
        ),
        run_config=tune.RunConfig(
            storage_path=str(folder / "stock"),
            stop={"training_iteration": EPOCHS},
            callbacks=[mlflow, Note()],
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            verbose=0,
        ),
    ).fit()
    ray.shutdown()
    return clock.measured()


def measure(part: str, folder: Path, num_trials: int, **environment: str) -> dict[str, float]:
    """Run one part in a process of its own."""
    command = [sys.executable, "-m", "tests.bench.bench_scale"]
    command += ["--part", part, "--folder", str(folder), "--trials", str(num_trials)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
    done = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{part}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def all_parts(num_trials: int, num_stock: int) -> dict[str, dict[str, float]]:
    """Measure everything."""
    found: dict[str, dict[str, float]] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measure("store", folder, 0)
        for part in ("none", "asha"):
            (folder / part).mkdir()
            (folder / part / "store").symlink_to(folder / "store")
            here = folder / part
            found[part] = measure(part, here, num_trials, MLFLOW_TRACKING_URI=NO_SERVER)
            found[f"replay {part}"] = measure("replay", here, 0)
            print(json.dumps({part: found[part], "replay": found[f"replay {part}"]}), flush=True)
        (folder / "mlflow").mkdir()
        (folder / "mlflow" / "store").symlink_to(folder / "store")
        found["delivered"] = measure("asha", folder / "mlflow", num_stock)
        found["stock"] = measure("stock", folder, num_stock)
    return found


def write_store(folder: Path) -> None:
    """Prepare the smallest store, which a study asks for its content."""
    from trainer.data.phantom import write_phantom
    from trainer.data.prepare import prepare

    write_phantom(folder / "dataset", num_cases=8, seed=0)
    prepare(folder / "dataset", folder / "store", image_size=16)


def table(found: dict[str, dict[str, float]]) -> str:
    """Return what was measured as Markdown."""
    head = "| driver, ms of CPU per report | reports | all | but TPE | TPE | judge | ledger |"
    head += " MLflow | wall ms | MiB grown |"
    lines = [head, "|---" * 10 + "|"]
    for name, label in (
        ("none", "no pruning"),
        ("asha", "ASHA"),
        ("delivered", "ASHA, MLflow on SQLite"),
        ("stock", "Ray's stock parts, MLflow on SQLite"),
    ):
        m = found[name]
        each = {key: 1000 * m.get(key, 0.0) / m["reports"] for key in m}
        cells = [f"{m['reports']:.0f}", f"{each['cpu']:.2f}"]
        cells += [f"{each['cpu'] - each.get('tpe', 0):.2f}"]
        parts = ("tpe", "judge", "ledger", "mlflow")
        cells += [f"{each[key]:.2f}" if key in m else "" for key in parts]
        cells += [f"{each['wall']:.2f}", f"{m['mib']:.0f}"]
        lines.append(f"| {label} | " + " | ".join(cells) + " |")
    for part in ("none", "asha"):
        r = found[f"replay {part}"]
        lines.append(
            f"\nReplay of {r['events']:.0f} events ({part}): {r['all']:.2f} s of CPU "
            f"(parse {r['parse']:.2f}, state and rungs {r['state']:.2f}, "
            f"sampler {r['sampler']:.2f})"
        )
    return "\n".join(lines)


def run() -> Iterator[Row]:
    """Yield a row, at a size for every day."""
    found = all_parts(60, 10)
    ours_ms, theirs_ms = (
        1000 * found[name]["cpu"] / found[name]["reports"] for name in ("delivered", "stock")
    )
    what = "driver CPU per report, MLflow on SQLite, segtune / Ray's stock parts"
    yield Row(what, "ms", ours_ms, theirs_ms)


def main() -> None:
    """Measure everything, or one part for the process that asks for it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200, help="the full size is 2000")
    parser.add_argument("--stock-trials", type=int, default=20)
    parser.add_argument("--part", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    a = parser.parse_args()
    match a.part:
        case None:
            print(table(all_parts(a.trials, a.stock_trials)))
        case "store":
            write_store(a.folder)
            print("{}")
        case "none" | "asha":
            print(json.dumps(ours(a.folder, a.trials, prune=a.part == "asha")))
        case "replay":
            print(json.dumps(replay(a.folder)))
        case "stock":
            print(json.dumps(stock(a.folder, a.trials)))


if __name__ == "__main__":
    main()
