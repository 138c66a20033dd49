"""Study files: what they say."""

import json
from pathlib import Path

import pytest

from search.study.config import StudyConfig, Trials
from search.study.load import load_study
from search.study.own_checks import METRICS
from search.study.reference import Reference
from tests.search.study.conftest import EXAMPLE
from trainer.configfile import ConfigError, read_yaml


def test_the_file_is_read(example):
    study = load_study(example)
    assert study.space["optimizer.lr"].low == 1e-5
    assert study.data.store == str(Path("prepared/isles24").resolve())
    assert study.references == (Reference(name="baseline", settings={"optimizer.lr": 1e-4}),)
    assert study.enqueue == ({"batch.effective": 8},)
    assert study.asha().rungs == [[9, 27]]


def test_a_study_survives_json(example):
    study = load_study(example)
    again = StudyConfig.model_validate(json.loads(json.dumps(study.model_dump(mode="json"))))
    assert again == study
    assert again.config_hash() == study.config_hash()
    assert load_study(example, ["seed=4"]).config_hash() != study.config_hash()


def test_train_config_of_a_trial(example):
    study = load_study(example, ["train.model.width=16"])
    config = study.train_config({"optimizer.lr": 3e-4, "model.width": 24})
    assert (config.optimizer.lr, config.model.width) == (3e-4, 24)
    assert (config.epochs, config.data.fold, config.seed) == (81, 1, 3)
    assert config.data.store == study.data.store
    assert study.train_config(study.control_params).model.family == "unet"
    assert study.train_config(study.control_params).model.width == 16
    wider = load_study(example, ["control.model.width=64"])
    assert wider.train_config(wider.control_params).model.width == 64
    assert wider.train_config(wider.control_params).model.family == "unet"
    assert wider.train_config({}).model.width != 64
    assert load_study(example, ["train.seed=9"]).train_config({}).seed == 9


def test_overrides_reach_every_section(example):
    study = load_study(
        example,
        [
            "study=other",
            "data.store=elsewhere",
            "scheduler.max_t=27",
            "trials.num_trials=4",
            "train.model.width=16",
            "train.data.windows.tmax=[0, 20]",
            "space.optimizer.lr.low=2e-5",
            "space.optimizer.lr.log=false",
            "space.loss.warm_in_fraction.when.loss.weighting=[fixed, warm_in]",
            "space.diffusion.target=null",
            "space.loss.dice={type: float, low: 0.1, high: 1}",
            "enqueue=[]",
        ],
    )
    assert study.study == "other"
    assert study.data.store == str(Path("elsewhere").resolve())
    assert (study.scheduler.max_t, study.scheduler.grace_period) == (27, 9)
    assert study.trials.num_trials == 4
    assert study.train["model.width"] == 16
    assert study.train_config({}).data.windows == {"tmax": (0, 20)}
    lr = study.space["optimizer.lr"]
    assert (lr.low, lr.high, lr.log) == (2e-5, 5e-4, False)
    assert study.space["loss.warm_in_fraction"].when == {"loss.weighting": ("fixed", "warm_in")}
    assert "diffusion.target" not in study.space
    assert study.space["loss.dice"].high == 1
    assert study.enqueue == ()


def test_nested_and_dotted_settings_mean_the_same(example):
    nested = EXAMPLE.replace("model.family: medsegdiff_v1", "model: {family: medsegdiff_v1}")
    study = load_study(example)
    example.write_text(nested)
    assert load_study(example) == study


@pytest.mark.parametrize(
    ("gpus", "given", "workers"),
    [(0, {}, 1), (0.5, {}, 1), (1, {}, 1), (2, {}, 2), (0, {"workers_per_trial": 4}, 4)],
)
def test_a_worker_for_each_gpu(gpus, given, workers):
    trials = {"num_trials": 1, "cpus_per_trial": 4, "gpus_per_trial": gpus} | given
    assert Trials.model_validate(trials).workers_per_trial == workers


def test_without_a_scheduler_there_are_no_rungs(example):
    study = load_study(example, ["scheduler.type=none", "scheduler.grace_period=1000"])
    assert study.asha().rungs == [[]]


@pytest.mark.parametrize(("metric", "mode"), METRICS.items())
def test_every_metric_can_be_the_objective(example, metric, mode):
    study = load_study(example, [f"objective.metric={metric}", f"objective.mode={mode}"])
    assert study.asha().sign == (1 if mode == "max" else -1)


def test_a_protected_entry_may_leave_the_space(example):
    away = {"optimizer.lr": 0.5, "model.width": 64}
    old = json.dumps([away | {"protected": True}])
    study = load_study(example, [f"enqueue={old}"])
    assert [reference.settings for reference in study.references] == [{"optimizer.lr": 1e-4}, away]
    new = json.dumps([{"name": "wide", "settings": away}])
    assert [r.settings for r in load_study(example, [f"references={new}"]).references] == [away]


OLD_KEYS = EXAMPLE.replace(
    """references: [{name: baseline, settings: {optimizer.lr: 1e-4}}]
enqueue: [{batch.effective: 8}]""",
    """enqueue:
  - {batch.effective: 8}
  - {optimizer.lr: 1e-4, protected: true}
  - {batch.effective: 16, protected: false}
  - {optimizer.lr: 2e-4, protected: true}""",
).replace("cpus_per_trial: 8}", "cpus_per_trial: 8, silence_s: 30}")


def test_the_keys_of_version_0_1_are_read(example, capsys):
    example.write_text(OLD_KEYS)
    study = load_study(example)
    first, second = {"optimizer.lr": 1e-4}, {"optimizer.lr": 2e-4}
    assert study.references == (
        Reference(name="reference", settings=first),
        Reference(name="reference-2", settings=second),
    )
    assert study.enqueue == ({"batch.effective": 8}, {"batch.effective": 16})
    assert study.trials.hang_timeout_s == 30
    note = "trials.silence_s: is trials.hang_timeout_s now\n"
    assert capsys.readouterr().err == f"note: {example}: {note}"
    assert load_study(example, ["trials.silence_s=9"]).trials.hang_timeout_s == 9
    assert f"note: command line: {note}" in capsys.readouterr().err
    example.write_text(EXAMPLE)
    load_study(example)
    assert not capsys.readouterr().err


def test_torch_compile_is_gone_with_a_note(example, capsys):
    """An earlier version's file goes on; the same study as without."""
    plain = load_study(example)
    example.write_text(EXAMPLE.replace("\ntrain:\n", "\ntrain:\n  compile: true\n"))
    assert load_study(example) == plain
    note = f"note: {example}: train.compile: is gone (torch.compile made steps slower), and left"
    assert capsys.readouterr().err == f"{note} out\n"
    with pytest.raises(ConfigError, match=r"space\.compile: is gone .*: take it out"):
        load_study(example, ["space.compile={type: categorical, choices: [true, false]}"])


def test_config_hash_is_that_of_version_0_1(example):
    """What commit ecb9b6d gave for this file, its reference an entry of `enqueue`."""
    values = read_yaml(example) | {"data": {"store": "/store", "fold": 1}}
    study = StudyConfig.model_validate(values)
    assert study.config_hash() == (
        "317cbbc8ef2bb44e746fa5f30426fe3d5124842dab86f9856e1fce581c8fef6c"
    )
