"""The loop survives what happens to it, and comes out the same bit for bit."""

import io
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from tests.trainer.tiny import tiny_config, without_times
from trainer.config import TrainConfig
from trainer.exceptions import Replaced
from trainer.loop import Diverged, OutOfMemory, Validation, fit
from trainer.models.medsegdiff_v1 import MedSegDiffV1
from trainer.saved.checkpoint import load_latest

CPU = torch.device("cpu")


def last_weights(run_dir: Path) -> dict[str, torch.Tensor]:
    state = load_latest(run_dir / "checkpoints")
    assert state is not None
    optimizer = {
        f"optimizer.{number}.{name}": value
        for number, values in state["optimizer"]["state"].items()
        for name, value in values.items()
    }
    ema = {f"ema.{name}": value for name, value in state["ema"].items()}
    return state["model"] | ema | optimizer


def assert_equal_runs(one: Path, other: Path) -> None:
    first, second = last_weights(one), last_weights(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


@pytest.fixture(scope="module")
def config(phantom_store: Path) -> TrainConfig:
    return tiny_config(phantom_store)


@pytest.fixture(scope="module")
def whole(
    config: TrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[Validation]]:
    """The uninterrupted run of four epochs."""
    run_dir = tmp_path_factory.mktemp("whole")
    return run_dir, list(fit(config, run_dir))


@pytest.mark.slow
def test_killed_after_two_epochs_equals_the_whole_run(
    config: TrainConfig, whole: tuple[Path, list[Validation]], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config.model_dump(mode="json")))
    run_dir = tmp_path / "run"
    command = [sys.executable, "-m", "trainer", "train", str(tmp_path / "config.yaml")]
    process = subprocess.Popen([*command, "--out", str(run_dir)], stdout=subprocess.DEVNULL)
    metrics = run_dir / "metrics.jsonl"
    while not metrics.exists() or len(metrics.read_text().splitlines()) < 2:
        assert process.poll() is None, "ended before its second epoch"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()

    validations = list(fit(config, run_dir))
    assert without_times(validations) == without_times(whole[1])
    assert_equal_runs(run_dir, whole[0])


def test_stopped_by_its_file_within_an_epoch(
    config: TrainConfig,
    whole: tuple[Path, list[Validation]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("trainer.loop.RunControl.PERIOD_S", 0.0)
    run = fit(config, tmp_path)
    first = next(run)
    save = torch.optim.AdamW.step
    steps = 0

    def step_then_ask_to_stop(self: torch.optim.AdamW) -> None:
        nonlocal steps
        save(self)
        steps += 1
        if steps == 3:
            (tmp_path / "stop").touch()

    with monkeypatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", step_then_ask_to_stop)
        assert list(run) == []
    state = load_latest(tmp_path / "checkpoints")
    assert state is not None
    assert state["images"] == config.epoch_images + 3 * config.batch.effective
    assert (tmp_path / "alive").exists()

    (tmp_path / "stop").unlink()
    rest = list(fit(config, tmp_path, received=1))
    assert without_times([first, *rest]) == without_times(whole[1])
    assert_equal_runs(tmp_path, whole[0])


@pytest.mark.parametrize("period_s", [0.0, 1000.0])
@pytest.mark.one_in(2)
def test_of_two_runs_in_a_folder_the_later_one_owns_it(
    config: TrainConfig,
    whole: tuple[Path, list[Validation]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    period_s: float,
) -> None:
    """A host that was cut off and thought dead may come back while another trains the trial.

    It notices when it next gives a sign of life, and at the latest when it would write.
    """
    monkeypatch.setattr("trainer.loop.RunControl.PERIOD_S", period_s)
    stale = fit(config, tmp_path)
    first = next(stale)
    later = fit(config, tmp_path, received=1)
    second = next(later)
    before = sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.glob("**/*.pt"))
    with pytest.raises(Replaced, match="another process trains this run now"):
        next(stale)
    assert before == sorted((p.name, p.stat().st_mtime_ns) for p in tmp_path.glob("**/*.pt"))
    assert without_times([first, second, *later]) == without_times(whole[1])
    assert_equal_runs(tmp_path, whole[0])


def test_a_validation_lost_by_its_reader_is_told_again(
    config: TrainConfig, whole: tuple[Path, list[Validation]]
) -> None:
    run_dir, validations = whole
    assert list(fit(config, run_dir, received=4)) == []
    assert list(fit(config, run_dir, received=2)) == validations[2:]


def test_killed_while_validating_repeats_the_validation_only(
    config: TrainConfig, whole: tuple[Path, list[Validation]], tmp_path: Path
) -> None:
    run = fit(config, tmp_path)
    kept = [next(run), next(run)]
    run.close()
    metrics = tmp_path / "metrics.jsonl"
    metrics.write_text(metrics.read_text().splitlines(keepends=True)[0])  # epoch 2 is not recorded
    again = next(fit(config, tmp_path, received=1))
    assert without_times([again]) == without_times(kept[1:])


def cut_short(content: bytes) -> bytes:
    return content[:1000]


def flip_a_bit(content: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        weights = file.read(max(file.infolist(), key=lambda entry: entry.file_size))
    middle = content.index(weights) + len(weights) // 2  # where torch itself does not look
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


@pytest.mark.parametrize(("received", "damage"), [(2, cut_short), (3, cut_short), (2, flip_a_bit)])
@pytest.mark.one_in(3)
def test_a_damaged_checkpoint_is_passed_over(
    config: TrainConfig,
    whole: tuple[Path, list[Validation]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    received: int,
    damage: Callable[[bytes], bytes],
) -> None:
    run = fit(config, tmp_path)
    for _ in range(3):
        next(run)
    run.close()
    newest = sorted((tmp_path / "checkpoints").glob("*.pt"))[-1]
    newest.write_bytes(damage(newest.read_bytes()))
    rest = list(fit(config, tmp_path, received=received))
    assert newest.name in capsys.readouterr().out
    assert without_times(rest) == without_times(whole[1][received:])
    assert_equal_runs(tmp_path, whole[0])


def test_another_configuration_does_not_continue_the_run(
    config: TrainConfig, whole: tuple[Path, list[Validation]], phantom_store: Path
) -> None:
    with pytest.raises(
        ValueError, match=r"config.yaml: optimizer.lr: 0.001: this run was begun so"
    ):
        next(fit(tiny_config(phantom_store, optimizer__lr=2e-3), whole[0]))
    assert list(fit(tiny_config(phantom_store), whole[0], received=4)) == []


def test_a_run_of_an_earlier_version_goes_on(phantom_store: Path, tmp_path: Path) -> None:
    """Its config.yaml has a setting that is gone, and lacks one that is new."""
    assert len(list(fit(tiny_config(phantom_store, epochs=1), tmp_path))) == 1
    values = yaml.safe_load((tmp_path / "config.yaml").read_text())
    del values["memory_share"], values["diffusion"]["recycling"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values | {"compile": True}))
    assert [v.epoch for v in fit(tiny_config(phantom_store, epochs=2), tmp_path, received=1)] == [2]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(values))
    changed = tiny_config(phantom_store, diffusion__recycling=0.5, diffusion__target="x_start")
    with pytest.raises(ValueError, match=r"recycling: 0\.0: this run was begun so"):
        next(fit(changed, tmp_path))


def test_more_epochs_continue_a_finished_run(
    whole: tuple[Path, list[Validation]], phantom_store: Path, tmp_path: Path
) -> None:
    short = tiny_config(phantom_store, epochs=1)
    assert [v.epoch for v in fit(short, tmp_path)] == [1]
    longer = tiny_config(phantom_store, epochs=3)
    assert [v.epoch for v in fit(longer, tmp_path, received=1)] == [2, 3]


def test_validates_every_second_epoch_and_the_last(phantom_store: Path, tmp_path: Path) -> None:
    config = tiny_config(phantom_store, epochs=3, validation__every=2)
    assert [v.epoch for v in fit(config, tmp_path)] == [2, 3]


def test_divergence_names_step_and_term(phantom_store: Path, tmp_path: Path) -> None:
    config = tiny_config(phantom_store, optimizer__lr=1e30, optimizer__warmup_images=0)
    with pytest.raises(Diverged, match=r"step \d+: loss term (noise|dice|bce) is (nan|inf)"):
        list(fit(config, tmp_path))


def test_out_of_memory_halves_the_micro_batch(
    config: TrainConfig,
    whole: tuple[Path, list[Validation]],
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forward = MedSegDiffV1.forward

    def small_device(self: MedSegDiffV1, x_t: torch.Tensor, *rest: torch.Tensor) -> torch.Tensor:
        if self.training and len(x_t) > 2:
            raise torch.OutOfMemoryError("out of memory")
        return forward(self, x_t, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(MedSegDiffV1, "forward", small_device)
        fitted = list(fit(config, tmp_path / "fitted"))
    told = list(fit(tiny_config(phantom_store, batch__micro=2), tmp_path / "told"))
    # The first validation's batch is sized by the micro-batch, which only rounds.
    assert [v.metrics["train/loss"] for v in fitted] == [v.metrics["train/loss"] for v in told]
    state = load_latest(tmp_path / "fitted" / "checkpoints")
    assert state is not None
    assert state["micro"] == 2


def test_one_image_too_large(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_memory(*_: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(MedSegDiffV1, "forward", no_memory)
    with pytest.raises(OutOfMemory, match="one image does not fit"):
        list(fit(config, tmp_path))


@pytest.mark.parametrize(
    "place",
    [
        "trainer.training.train_state.new_network",
        "trainer.training.train_state.micro_batches",
        "trainer.training.train_state.make_optimizer",
        "torch.nn.utils.clip_grad_norm_",
        "torch.optim.AdamW.step",
        "trainer.loop.Validator.probabilities",
    ],
)
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_anywhere_is_named(
    phantom_store: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: str,
    error: type[Exception],
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise error("CUDA error: out of memory\nCompile with TORCH_USE_CUDA_DSA")

    monkeypatch.setattr(place, no_memory)
    config = tiny_config(phantom_store, epochs=1)
    with pytest.raises(OutOfMemory, match=r"memory is too small: CUDA error: out of memory$"):
        list(fit(config, tmp_path))


def test_validation_judges_the_average_weights(phantom_store: Path, tmp_path: Path) -> None:
    fast = tiny_config(phantom_store, epochs=1, optimizer__ema_half_life_images=1)
    slow = tiny_config(phantom_store, epochs=1)
    judged = [next(fit(c, tmp_path / name)).metrics for name, c in (("fast", fast), ("slow", slow))]
    assert judged[0]["train/loss"] == judged[1]["train/loss"]
    assert judged[0]["val/dice"] != judged[1]["val/dice"]


def test_the_control_is_trained_by_the_same_loop(phantom_store: Path, tmp_path: Path) -> None:
    control = tiny_config(phantom_store, epochs=2, model__family="unet", optimizer__lr=3e-3)
    first, second = fit(control, tmp_path)
    assert "train/noise" not in first.metrics
    assert second.metrics["train/loss"] < first.metrics["train/loss"]


def test_a_run_names_its_data_and_takes_no_other(
    config: TrainConfig, whole: tuple[Path, list[Validation]], phantom_store: Path, tmp_path: Path
) -> None:
    written = yaml.safe_load((whole[0] / "config.yaml").read_text())
    again = TrainConfig.model_validate(written)  # such a file is a configuration itself
    assert again.model_copy(update={"data": config.data}) == config
    assert list(fit(again, whole[0], received=4)) == []
    other = tiny_config(phantom_store, data__store_hash="0" * 64)
    with pytest.raises(ValueError, match="not the data that was asked for"):
        next(fit(other, tmp_path))
    assert not (tmp_path / "config.yaml").exists()
