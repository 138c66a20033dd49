"""The trainable by itself, as Ray calls it."""

from collections.abc import Generator, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from search.execution.faults.failures import Named
from search.execution.trainable import Trainable
from search.execution.worker_group import UNHEARD
from search.tuning.searcher import TrialSpec
from tests.search.toy import dice
from trainer.config import TrainConfig


@pytest.fixture(autouse=True)
def data(store: Path, tmp_path: Path) -> None:
    (tmp_path / "store").symlink_to(store)


def spec(run_dir: Path, **changes: Any) -> dict[str, Any]:
    run_dir.mkdir(parents=True, exist_ok=True)
    store = run_dir.parents[1] / "store"
    config = TrainConfig.model_validate({"data": {"store": str(store)}, "epochs": 3})
    told = TrialSpec(
        trial=int(run_dir.name),
        attempt=1,
        train=config.model_dump(mode="json"),
        run_dir=str(run_dir),
        received=0,
        fit="tests.search.toy:fit",
        cpus=1,
        gpus=0,
    )
    return asdict(told) | changes


def order(run_dir: Path, name: str, text: str) -> None:
    path = run_dir.parents[1] / "toy" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


def epochs(trainable: Trainable, num: int) -> list[tuple[int, float]]:
    results = [trainable.train() for _ in range(num)]
    assert not any(result["done"] for result in results)
    return [(result["epoch"], dict(result["metrics"])["val/dice"]) for result in results]


def test_a_validation_a_step(tmp_path: Path) -> None:
    trainable = Trainable(spec(tmp_path / "trials" / "0007"))
    assert epochs(trainable, 2) == [(1, dice(1e-4, 1)), (2, dice(1e-4, 2))]


def test_continues_after_what_was_received(tmp_path: Path) -> None:
    """From the newest checkpoint; what was lost between it and the ledger is yielded again."""
    run_dir = tmp_path / "trials" / "0007"
    epochs(Trainable(spec(run_dir)), 2)
    assert epochs(Trainable(spec(run_dir, received=1)), 2) == [
        (2, dice(1e-4, 2)),
        (3, dice(1e-4, 3)),
    ]


def test_memory_that_one_rank_lacked_alone_ends_the_next_attempt(tmp_path: Path) -> None:
    """Where rank 0 did not hear of it, its process was ended."""
    run_dir = tmp_path / "trials" / "0007"
    told = spec(run_dir)
    (run_dir / UNHEARD).write_text("rank 1: out of memory")
    result = Trainable(told).train()
    assert (result["ending"], result["reason"]) == ("infeasible", "rank 1: out of memory")
    assert epochs(Trainable(told), 1) == [(1, dice(1e-4, 1))]


def repeating(config: TrainConfig, run_dir: Path, *, received: int = 0) -> Iterator[Any]:
    """A fit that lost its checkpoint and so yields everything again."""
    from tests.search.toy import Validation

    yield from (Validation(epoch, {"val/dice": 0.5}) for epoch in (1, 2, 3))


def test_never_an_epoch_twice(tmp_path: Path) -> None:
    fit = "tests.search.execution.test_trainable:repeating"
    trainable = Trainable(spec(tmp_path / "trials" / "0007", fit=fit, received=2))
    assert epochs(trainable, 1) == [(3, 0.5)]


def test_the_objective_of_each_case_comes_with_a_validation(tmp_path: Path) -> None:
    """From the run folder, where the toy writes the cases of its last epoch on another fold."""
    told = spec(tmp_path / "trials" / "0007", objective="val/dice")
    told["train"]["data"]["fold"] = 1
    trainable = Trainable(told)
    one, _, last = (trainable.train() for _ in range(3))
    cases = dict(last["cases"])
    assert one["cases"] == []
    assert sorted(cases) == [f"fold1-{case}" for case in range(6)]  # but not the empty one
    mean = dict(last["metrics"])["val/dice"]
    assert sum(cases.values()) / 6 == pytest.approx(mean, abs=1e-6)


def test_the_next_trial_begins_clean(tmp_path: Path) -> None:
    """The last trial's generator is closed, although no one told its actor that it was stopped."""
    trainable = Trainable(spec(tmp_path / "trials" / "0007"))
    epochs(trainable, 1)
    validations = trainable._validations
    assert validations is not None and validations.gi_frame is not None
    assert trainable.reset(spec(tmp_path / "trials" / "0008"))
    assert validations.gi_frame is None
    assert epochs(trainable, 1) == [(1, dice(1e-4, 1))]


@pytest.mark.parametrize(
    ("fault", "ending", "reason"),
    [
        ("diverge", "diverged", "step 7: dice is nan"),
        ("oom", "infeasible", "one image does not fit"),
        ("unsuited", "infeasible", "image_size is 50"),
    ],
)
def test_endings_are_results(tmp_path: Path, fault: str, ending: str, reason: str) -> None:
    """The process lives on and takes the next trial."""
    run_dir = tmp_path / "trials" / "0007"
    order(run_dir, fault, "7")
    trainable = Trainable(spec(run_dir))
    epochs(trainable, 1)
    result = trainable.train()
    assert (result["done"], result["ending"], result["reason"]) == (True, ending, reason)
    trainable.reset(spec(tmp_path / "trials" / "0008"))
    epochs(trainable, 3)


def test_an_exit_of_a_persons_trainer_is_its_failure_and_one_that_ray_asks_for_is_rays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fit() -> Generator[Any, None, None]:
        yield from ()
        raise error

    monkeypatch.setattr("search.execution.trainable.load", lambda spec: fit)
    error = SystemExit("no data")
    with pytest.raises(Named, match=r"^SystemExit: no data$"):
        Trainable(spec(tmp_path / "trials" / "0007")).step()
    error.ray_terminate_msg = "The process receives a SIGTERM."  # type: ignore[attr-defined]
    with pytest.raises(SystemExit):
        Trainable(spec(tmp_path / "trials" / "0007")).step()


def test_other_exceptions_cost_the_process(tmp_path: Path) -> None:
    run_dir = tmp_path / "trials" / "0007"
    order(run_dir, "raise", "7")
    trainable = Trainable(spec(run_dir))
    epochs(trainable, 1)
    with pytest.raises(RuntimeError, match="trial 7 is broken"):
        trainable.train()


@pytest.mark.parametrize("begun", [False, True])
def test_a_stop_file_interrupts_the_trial(tmp_path: Path, begun: bool) -> None:
    run_dir = tmp_path / "trials" / "0007"
    trainable = Trainable(spec(run_dir))
    if begun:
        epochs(trainable, 1)
    (run_dir / "stop").touch()
    result = trainable.train()
    assert (result["done"], result["ending"]) == (True, "interrupted")


def test_an_end_that_no_one_asked_for_is_a_fault(tmp_path: Path) -> None:
    """Else the trial would be continued for ever, each time ending at once."""
    trainable = Trainable(spec(tmp_path / "trials" / "0007"))
    epochs(trainable, 3)
    with pytest.raises(RuntimeError, match="ended before max_t"):
        trainable.train()


def test_gpu_memory_left_behind_costs_the_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable = Trainable(spec(tmp_path / "trials" / "0007"))
    epochs(trainable, 1)
    monkeypatch.setattr("search.execution.worker.gpu_memory_bytes", lambda: 1 << 30)
    with pytest.raises(RuntimeError, match="GPU memory behind"):
        trainable.reset(spec(tmp_path / "trials" / "0008"))


def test_equal_resources_share_a_process(tmp_path: Path) -> None:
    told = spec(tmp_path / "trials" / "0007", cpus=2, gpus=0.5)
    one, other = (Trainable.default_resource_request(told) for _ in range(2))
    assert one == other and one.required_resources == {"CPU": 2, "GPU": 0.5}
