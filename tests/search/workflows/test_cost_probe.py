"""What a study will cost: the arithmetic in closed form, and a real, short measurement."""

import threading
import time
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner

import search.workflows.preview.cost_probe
from search.cli.main import main
from search.study.config import StudyConfig
from search.study.rungs import expected_epochs, rung_table
from search.workflows.preview.cost_probe import (
    Cost,
    cost_table,
    measure,
    probe,
    slots,
)
from tests.trainer.tiny import TINY
from trainer.configfile import ConfigError


def study(store: Path | str = "store", **changes) -> StudyConfig:
    tiny = {key: value for key, value in TINY.items() if key != "epochs"}
    values = {
        "study": "demo",
        "data": {"store": str(store)},
        "train": tiny,
        "space": {"optimizer.lr": {"type": "float", "low": 1e-5, "high": 1e-3, "log": True}},
        "scheduler": {"grace_period": 1, "max_t": 9, "reduction_factor": 3},
        "trials": {"num_trials": 24},
        "enqueue": [{"optimizer.lr": 1.0, "protected": True}],
    }
    del tiny["optimizer.lr"]
    return StudyConfig.model_validate(values | changes)


def cost(image_s: float, validation_s: float) -> Cost:
    return Cost("a device", image_s, validation_s, slots=2)


def test_hours_are_epochs_times_seconds_over_slots():
    config = study(train=study().train | {"epoch_images": 100, "validation.every": 3})
    config = config.model_copy(
        update={"scheduler": config.scheduler.model_copy(update={"grace_period": 3})}
    )
    text = cost_table(config, {"fixed settings": cost(0.5, 30.0), "control": cost(0.1, 30.0)})
    epoch_s = 0.5 * 100 + 30 / 3
    beside = 9 * epoch_s + 9 * (0.1 * 100 + 30 / 3)
    pruned = expected_epochs(rung_table(config)) * epoch_s + beside
    unpruned = 24 * 9 * epoch_s + beside
    assert f"about {pruned / 2 / 3600:.3g} hours, {unpruned / 2 / 3600:.3g} without" in text
    assert "probe on a device, where 2 can run at once" in text
    rows = [" ".join(line.split()) for line in text.splitlines()]
    assert "fixed settings 0.5 s 30 s 60 s" in rows and "control 0.1 s 30 s 20 s" in rows


def test_no_study_is_shorter_than_a_complete_trial():
    config = study(trials={"num_trials": 1}, enqueue=[])
    one = cost(3600.0, 0.0)
    text = cost_table(config, {"fixed settings": one})
    hours = TINY["epoch_images"] * 9
    assert f"about {hours:.3g} hours, {hours:.3g} without" in text


def test_where_nothing_is_trained_validations_cost():
    config = study(
        train={"init_from": "/runs/first"},
        space={"sampling.eta": {"type": "float", "low": 0, "high": 1}},
        scheduler={"type": "none", "max_t": 0},
        enqueue=[{"sampling.eta": 0.0, "protected": True}],
    )
    text = cost_table(config, {"fixed settings": cost(0.0, 288.0)})
    assert "about 1 hours, 1 without" in text


@pytest.mark.parametrize(
    ("trials", "cpus", "gpus", "expected"),
    [
        ({"cpus_per_trial": 2, "gpus_per_trial": 0}, 7, 0, 3),
        ({"cpus_per_trial": 8, "gpus_per_trial": 1}, 64, 4, 4),
        ({"cpus_per_trial": 8, "gpus_per_trial": 2}, 64, 5, 2),
        ({"cpus_per_trial": 1, "gpus_per_trial": 0.4}, 64, 2, 4),
        ({"cpus_per_trial": 32, "gpus_per_trial": 0.5}, 64, 2, 2),
        ({"cpus_per_trial": 8, "gpus_per_trial": 1}, 4, 1, 1),
    ],
)
def test_slots_of_trials_on_this_machine(trials, cpus, gpus, expected):
    assert slots(trials, cpus, gpus) == expected


def test_a_real_measurement(phantom_store, monkeypatch):
    monkeypatch.setattr(search.workflows.preview.cost_probe, "TRAINING_S", 0.2)
    monkeypatch.setattr(search.workflows.preview.cost_probe, "VALIDATION_S", 0.1)
    config = study(phantom_store)
    trials = config.trials.model_dump()
    found = measure(config.train_config({}), trials)
    assert found.device and found.slots >= 1
    assert 0 < found.image_s < found.validation_s
    # Of two workers each has half of the images, and of the cases.
    shared = measure(config.train_config({}), trials | {"workers_per_trial": 2})
    assert 0 < shared.image_s < found.image_s * 2


def test_trials_that_share_a_gpu_are_measured_at_once(monkeypatch):
    """Each of them is slower than alone, since they take turns."""
    running, most = 0, 0
    lock = threading.Lock()

    def measured(order):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
            number = most
        time.sleep(0.2)
        with lock:
            running -= 1
        return cost(float(number), 30.0 * number)

    monkeypatch.setattr(search.workflows.preview.cost_probe, "_measure_one", measured)
    monkeypatch.setattr(search.workflows.preview.cost_probe, "num_cpus", lambda: 8)
    config = study(trials={"num_trials": 24, "gpus_per_trial": 0.25}, enqueue=[])
    text = probe(config)
    assert most == 4
    assert "fixed settings 2.5 s 75 s" in " ".join(text.split())
    most = 0
    probe(study(trials={"num_trials": 24}, enqueue=[]))
    assert most == 1


@pytest.mark.slow  # 5 s
@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is an accelerator")
def test_a_gpu_that_is_not_here_is_not_measured_on_the_cpu(phantom_store):
    with pytest.raises(ConfigError, match=r"^probe: trials\.gpus_per_trial: 1: torch "):
        trials = {"num_trials": 24, "gpus_per_trial": 1}
        probe(study(phantom_store, train={"device": "auto"}, trials=trials, enqueue=[]))


@pytest.mark.slow
def test_one_line_where_it_cannot_be_measured(tmp_path):
    with pytest.raises(ConfigError) as caught:
        probe(study(tmp_path / "none"))
    [line] = caught.value.lines
    assert line.startswith("probe: ") and "none" in line


def test_only_with_dry_run(tmp_path):
    result = CliRunner().invoke(main, ["launch", "spaces/smoke.yaml", "--probe"])
    assert (result.exit_code, result.stderr) == (2, "--probe: measures for --dry-run only\n")
