"""A run whose validations are scored, and whose checkpoints are written, beside its training."""

import errno
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Timer
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from tests.trainer.test_loop import assert_equal_runs
from tests.trainer.tiny import tiny_config, without_times
from trainer.config import TrainConfig
from trainer.data.store import Store
from trainer.evaluation.scoring_process import ScoringProcess
from trainer.evaluation.validate import scores_beside
from trainer.exceptions import is_out_of_memory
from trainer.loop import Diverged, Validation, fit
from trainer.run_log import RunLog
from trainer.saved import checkpoint
from trainer.saved.checkpoint import load_latest, read
from trainer.saved.checkpoint_writer import CheckpointWriter

EPOCHS, STEPS = 2, 4
"""Epochs of a run, optimizer steps of an epoch."""


@pytest.fixture(scope="module")
def config(phantom_store: Path) -> TrainConfig:
    smaller = {"model.depth": 2, "epoch_images": 4 * STEPS, "sampling.timestep_respacing": 1}
    return tiny_config(phantom_store, epochs=EPOCHS, **smaller)


@pytest.fixture(scope="module")
def here(
    config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Validation]]:
    """The run that does one thing after the other."""
    run_dir = tmp_path_factory.mktemp("here")
    return run_dir, list(fit(config, run_dir))


class Steps:
    """What happens after an optimizer step, and how many there were."""

    def __init__(self) -> None:
        self.taken = 0
        self.then: dict[int, Callable[[], object]] = {}


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> Steps:
    steps, step = Steps(), torch.optim.AdamW.step

    def counted(self: torch.optim.AdamW) -> None:
        step(self)
        steps.taken += 1
        steps.then.get(steps.taken, int)()

    monkeypatch.setattr(torch.optim.AdamW, "step", counted)
    return steps


class Children:
    """The process that scores, stopped once it was sent one of the validations to `hold`."""

    def __init__(self) -> None:
        self.pid = 0
        self.begun = 0
        self.hold: set[int] = set()

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def children(monkeypatch: pytest.MonkeyPatch) -> Children:
    """Do what a GPU's run does on the CPU: its bits are to be compared."""
    children, begin = Children(), ScoringProcess.begin

    def held(self: ScoringProcess, probability: NDArray[np.float32]) -> None:
        begin(self, probability)
        children.pid = self._process.pid
        children.begun += 1
        if children.begun in children.hold:
            os.kill(children.pid, signal.SIGSTOP)

    monkeypatch.setattr(ScoringProcess, "begin", held)
    monkeypatch.setattr("trainer.evaluation.validate.scores_beside", lambda device: True)
    not_the_cpu = torch.device("meta")
    monkeypatch.setattr(
        "trainer.loop.CheckpointWriter", lambda device, check: CheckpointWriter(not_the_cpu, check)
    )
    monkeypatch.setattr("trainer.loop.RunControl.PERIOD_S", 0.0)
    return children


def recorded(run_dir: Path) -> list[int]:
    return [v.epoch for v in RunLog(run_dir).validations]


def test_the_same_bits_as_one_thing_after_the_other(
    config: TrainConfig,
    here: tuple[Path, list[Validation]],
    children: Children,
    steps: Steps,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And the reports in order, each within the next epoch, and no second charged twice.

    The first ema.pt takes a thousand seconds, which are the validation's.
    """
    now, write, slow_s = time.perf_counter, checkpoint.write, [1000.0]

    def slow(path: Path, state: dict[str, Any]) -> None:
        write(path, state)
        if path.name == "ema.pt" and slow_s:
            passed_s.append(slow_s.pop())

    passed_s: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: now() + sum(passed_s))
    monkeypatch.setattr(checkpoint, "write", slow)
    children.hold, steps.then = {1}, {STEPS + 2: children.go_on}
    begun, at, validations = time.perf_counter(), [], []
    for validation in fit(config, tmp_path):
        validations.append(validation)
        at.append(steps.taken)
        if validation.epoch == 1:  # the weights that were scored, whatever was trained meanwhile
            best = read(tmp_path / "ema.pt")
            assert best["epoch"] == 1
            for name, weight in load_latest(tmp_path / "checkpoints")["ema"].items():
                assert torch.equal(best["ema"][name], weight), name
    whole_s = time.perf_counter() - begun
    assert STEPS + 2 <= at[0] <= 2 * STEPS == at[1]
    assert without_times(validations) == without_times(here[1])
    assert_equal_runs(tmp_path, here[0])
    tables = [pq.read_table(path / "cases.parquet") for path in (tmp_path, here[0])]
    assert tables[0].equals(tables[1])
    charged_s = [v.metrics[key] for v in validations for key in ("time/epoch_s", "time/validate_s")]
    assert min(charged_s) > 0 and sum(charged_s) < whole_s
    assert [s > 1000 for s in charged_s] == [False, True, False, False]
    with pytest.raises(ProcessLookupError):
        children.go_on()


@pytest.mark.slow
def test_killed_between_sampling_and_score_repeats_the_validation(
    config: TrainConfig,
    here: tuple[Path, list[Validation]],
    children: Children,
    steps: Steps,
    tmp_path: Path,
) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    children.hold, steps.then = {1}, {STEPS + 3: interrupt}
    with pytest.raises(KeyboardInterrupt):
        next(fit(config, tmp_path))
    assert recorded(tmp_path) == []
    state = load_latest(tmp_path / "checkpoints")
    assert state is not None and state["images"] == config.epoch_images
    children.hold = set()
    assert without_times(list(fit(config, tmp_path))) == without_times(here[1])
    assert_equal_runs(tmp_path, here[0])


@pytest.mark.slow
def test_a_stop_waits_for_the_score_and_then_saves(
    config: TrainConfig,
    here: tuple[Path, list[Validation]],
    children: Children,
    steps: Steps,
    tmp_path: Path,
) -> None:
    def stop() -> None:
        (tmp_path / "stop").touch()
        Timer(0.1, children.go_on).start()

    children.hold, steps.then = {1}, {STEPS + 2: stop}
    run = fit(config, tmp_path)
    validations = list(run)
    assert [v.epoch for v in validations] == [1]
    state = load_latest(tmp_path / "checkpoints")
    assert state is not None
    assert config.epoch_images < state["images"] < 2 * config.epoch_images
    (tmp_path / "stop").unlink()
    validations += fit(config, tmp_path, received=1)
    assert without_times(validations) == without_times(here[1])
    assert_equal_runs(tmp_path, here[0])


def test_a_run_that_diverges_tells_what_was_pending_first(
    config: TrainConfig,
    here: tuple[Path, list[Validation]],
    children: Children,
    steps: Steps,
    tmp_path: Path,
) -> None:
    def diverge() -> None:
        children.go_on()
        raise Diverged("step 8: loss term noise is nan")

    children.hold, steps.then = {1}, {STEPS + 2: diverge}
    run = fit(config, tmp_path)
    assert without_times([next(run)]) == without_times(here[1][:1])
    with pytest.raises(Diverged):
        next(run)


def test_a_child_that_is_killed_ends_the_run_in_one_line(
    config: TrainConfig, children: Children, steps: Steps, tmp_path: Path
) -> None:
    children.hold, steps.then = {1}, {STEPS + 2: children.kill}
    with pytest.raises(RuntimeError, match=r"^the process that scores validations ended with .*-9"):
        list(fit(config, tmp_path))
    assert recorded(tmp_path) == []


def test_a_full_disk_ends_the_run_before_the_validation_is_told(
    config: TrainConfig, children: Children, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("trainer.saved.checkpoint.save", full)
    with pytest.raises(OSError, match="No space left"):
        next(fit(config, tmp_path))
    assert recorded(tmp_path) == []


def test_what_keeps_a_case_from_its_score_is_told_as_in_one_process(
    phantom_store: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "store"
    shutil.copytree(phantom_store, folder)
    store = Store.open(folder)
    cases = store.split(0)[1]
    probability = np.zeros((sum(c.num_slices for c in cases), 64, 64), np.float32)
    with closing(ScoringProcess(store, cases, 0.5)) as scoring:
        scoring.begin(probability[:-1])
        with pytest.raises(RuntimeError, match=r"^scoring: AssertionError"):
            scoring.scores()
        scoring.begin(probability)
        assert [s.case_id for s in scoring.scores()] == [c.case_id for c in cases]
        os.kill(scoring._process.pid, signal.SIGTERM)  # as when a whole process group is told
        masks = folder / "cases" / f"{cases[0].case_id}.npz"
        with zipfile.ZipFile(masks, "w") as packed, packed.open("mask.npy", "w") as array:
            exbibyte = {"shape": (1 << 60,), "fortran_order": False, "descr": "|u1"}
            np.lib.format.write_array_header_1_0(array, exbibyte)
        scoring.begin(probability)
        with pytest.raises(MemoryError, match=r"^scoring: Unable to allocate") as raised:
            scoring.scores()
        assert is_out_of_memory(raised.value)
        masks.unlink()
        scoring.begin(probability)
        with pytest.raises(FileNotFoundError, match=cases[0].case_id):
            scoring.scores()


def test_a_child_that_hangs_up_and_lives_is_ended(
    phantom_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.evaluation.scoring_process.GRACE_S", 0.01)
    store = Store.open(phantom_store)
    with closing(ScoringProcess(store, store.cases, 0.5)) as scoring:
        os.kill(scoring._process.pid, signal.SIGSTOP)
        with socket.socket(fileno=os.dup(scoring._connection.fileno())) as line:
            line.shutdown(socket.SHUT_RDWR)
        with pytest.raises(RuntimeError, match="ended with status -9"):
            scoring.scores()


def test_a_child_ends_with_its_parent(phantom_store: Path) -> None:
    """Which the kernel may kill, so that it can close nothing."""
    code = (
        "import sys, time; from trainer.data.store import Store;"
        "from trainer.evaluation.scoring_process import ScoringProcess;"
        "store = Store.open(sys.argv[1]); child = ScoringProcess(store, store.cases, 0.5);"
        "print(child._process.pid, flush=True); time.sleep(60)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", code, str(phantom_store)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    parent.stdout.close()
    until = time.monotonic() + 120
    while Path(f"/proc/{child}/cmdline").exists() and time.monotonic() < until:
        if not Path(
            f"/proc/{child}/cmdline"
        ).read_bytes():  # ended; nobody has asked for its status
            break
        time.sleep(0.02)
    assert time.monotonic() < until


def test_who_scores_beside_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, cpu = torch.device("cuda", 1), torch.device("cpu")
    monkeypatch.setattr("os.cpu_count", lambda: 8)
    for allowed, slurm, told, expected in (
        (4, "", "", True),
        (4, "", "1", False),
        (4, "1", "", False),
        (1, "", "8", False),
        (2, "", "2", True),
    ):
        monkeypatch.setattr("os.sched_getaffinity", lambda _, n=allowed: set(range(n)))
        monkeypatch.setenv("SLURM_CPUS_ON_NODE", slurm)
        monkeypatch.setenv("OMP_NUM_THREADS", told)
        assert scores_beside(gpu) is expected
        assert not scores_beside(cpu)
    monkeypatch.setattr("trainer.evaluation.validate.world_size", lambda: 2)
    assert not scores_beside(gpu)
