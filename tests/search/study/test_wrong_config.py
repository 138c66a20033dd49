"""What study files are told when they are wrong."""

import json
from pathlib import Path

import pytest

from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.search_sections import Scheduler
from tests.search.study.conftest import EXAMPLE
from trainer.configfile import ConfigError, build


def problems(path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_study(path, overrides)
    return [line.replace(f"{path}: ", "FILE: ") for line in caught.value.lines]


WRONG = """\
schduler.max_t=3
    command line: schduler.max_t: no such key; did you mean scheduler.max_t?
trials.num_trial=3
    command line: trials.num_trial: no such key; did you mean trials.num_trials?
stal={patience: 9}
    command line: stal: no such key; did you mean stall?
study=a/b
    command line: study: 'a/b': must be letters, digits and ._- only
data.fold=5
    command line: data.fold: 5: must be less than or equal to 4
trials.num_trials=0
    command line: trials.num_trials: 0: must be greater than or equal to 1
trials.gpus_per_trial=1.5
    command line: trials: gpus_per_trial is 1.5, but above 1 must be a whole
trials={num_trials: 1, cpus_per_trial: 3, gpus_per_trial: 2}
    command line: trials: cpus_per_trial is 3, but must be a multiple of workers_per_trial (2)
trials={num_trials: 1, cpus_per_trial: 4, gpus_per_trial: 2, workers_per_trial: 4}
    command line: trials: workers_per_trial is 4, but must be 2 with gpus_per_trial 2
trials={num_trials: 1, cpus_per_trial: 4, gpus_per_trial: 0.5, workers_per_trial: 2}
    command line: trials: workers_per_trial is 2, but must be 1 with gpus_per_trial 0.5
objective.metric=val/dise
    command line: objective.metric: 'val/dise': must be one of
objective.mode=min
    command line: objective: mode is 'min', but val/dice is better the other way
sampler.type=tpee
    command line: sampler.type: 'tpee': must be 'tpe', 'curve_gp', 'random', 'qmc', 'gp', 'grid' or
scheduler.grace_period=82
    command line: scheduler: grace_period is 82, but must be at most max_t (81)
scheduler.brackets=3
    command line: scheduler: brackets is 3, but the last would begin at epoch 81
scheduler.reduction_factor=1
    command line: scheduler.reduction_factor: 1: must be greater
train.validation.every=2
    FILE: scheduler.max_t: 81: must be a multiple of train.validation.every (2)
train.validation.every=2
    FILE: scheduler.grace_period: 9: must be a multiple of train.validation.every (2)
train.model.widht=16
    command line: train.model.widht: no such key; did you mean model.width?
train.model.width=3
    command line: train.model.width: 3: must be greater than or equal to 4
train.epochs=3
    command line: train.epochs: cannot be set here; it is scheduler.max_t
train.data.store=x
    command line: train.data.store: cannot be set here; it is data.store of
train.optimizer.lr=1e-4
    FILE: space.optimizer.lr: is fixed in train too; give it in one place
train.loss={dice: 0, bce: 0}
    FILE: control.loss: no loss on the mask has a weight, but model.family unet needs one
control={optimizer.lrr: 1}
    command line: control.optimizer.lrr: no such key; did you mean optimizer.lr?
control={epoch_images: 7}
    command line: control.epoch_images: must be equal in all trials
space.optimiser.lr={type: float, low: 1e-5, high: 1e-3}
    command line: space.optimiser.lr: no such trainer setting; did you mean optimizer.lr?
space.optimiser.lr.low=1
    command line: space.optimiser.lr.low: no such dimension; did you mean optimizer.lr?
space.optimizer={type: float, low: 1e-5, high: 1e-3}
    command line: space.optimizer: is a section; search its settings (optimizer.lr, 
space.optimizer.lr.lwo=1
    command line: space.optimizer.lr: lwo: no such key; did you mean low?
space.optimizer.lr.low=1
    command line: space.optimizer.lr: low is 1, but must be below high (0.0005)
space.optimizer.lr.low=0
    command line: space.optimizer.lr: low is 0, but must be above 0 for log: true
space.optimizer.lr.step=1e-5
    command line: space.optimizer.lr: step is 1e-05, but log: true allows none
space.optimizer.lr.type=flaot
    command line: space.optimizer.lr: type: 'flaot': must be
space.optimizer.lr.choices=[1]
    command line: space.optimizer.lr: choices is given, but a float has low and high
space.batch.effective.low=1
    command line: space.batch.effective: low is given, but a categorical has only choices
space.batch.effective.choices=[8, 8]
    command line: space.batch.effective: choices has 8 twice
space.batch.effective.choices=[8, 0]
    command line: space.batch.effective: 0: must be greater than or equal to 1
space.batch.effective={type: categorical}
    command line: space.batch.effective: choices: required
space.optimizer.lr.prior=1
    command line: space.optimizer.lr: prior is 1, but must be from 1e-05 to 0.0005
space.optimizer.lr.prior=true
    command line: space.optimizer.lr: prior is True, but must be from 1e-05 to 0.0005
space.optimizer.lr.confidence=high
    command line: space.optimizer.lr: confidence is high, but there is no prior
space.optimizer.lr={type: float, low: 1e-5, high: 1e-3, prior: 1e-4, confidence: hgih}
    command line: space.optimizer.lr: confidence: 'hgih': must be
space.batch.effective.prior=12
    command line: space.batch.effective: prior is 12, but must be one of 8, 16, 32
space.loss.weighting={type: categorical, choices: [fixed, learned], prior: fixd}
    command line: space.loss.weighting: prior is 'fixd', but must be one of fixed, learned; did you
space.model.width={type: int, low: 8, high: 64, step: 8, prior: 12}
    command line: space.model.width: prior is 12, but must be a whole number from 8 to 64 in steps
space.optimizer.clip_norm={type: float, low: 1}
    command line: space.optimizer.clip_norm: high: required for a float
space.model.width={type: int, low: 2, high: 64}
    command line: space.model.width: 2: must be greater than or equal to 4
space.model.width={type: int, low: 8.5, high: 64}
    command line: space.model.width: low is 8.5, but must be a whole
space.model.width={type: int, low: 8, high: 63, step: 8}
    command line: space.model.width: step is 8, but high - low
space.model.depth={type: float, low: 2, high: 4}
    command line: space.model.depth: 2.63
space.model.attention_levels={type: int, low: 0, high: 7}
    command line: space.model.attention_levels: model: attention_levels is 7, but must be at mos
space.epochs={type: int, low: 8, high: 64}
    command line: space.epochs: cannot be set here; it is scheduler.max_t
space.epoch_images={type: int, low: 8, high: 64}
    command line: space.epoch_images: must be equal in all trials
space.loss.warm_in_fraction.when={loss.weightin: [fixed]}
    command line: space.loss.warm_in_fraction.when: loss.weightin: no such dimension in space; d
space.loss.warm_in_fraction.when.loss.weighting=[warmin]
    command line: space.loss.warm_in_fraction.when: loss.weighting: 'warmin': loss.weighting nev
space.loss.warm_in_fraction.when.loss.weighting=[]
    command line: space.loss.warm_in_fraction.when: loss.weighting: needs
space.loss.weighting.when={loss.warm_in_fraction: [0.1]}
    command line: space.loss.weighting.when: a circle of conditions: loss.weighting -> loss.warm_in
space.loss.warm_in_fraction.when.loss.warm_in_fraction=[0.1]
    command line: space.loss.warm_in_fraction.when: a circle of conditions: loss.warm_in_fraction -
space.data.window.ncct={type: categorical, choices: [w80l40]}
    command line: space.data.window.ncct: no such trainer setting
space.data.windows.ncct={type: categorical, choices: [w80l40, w80]}
    command line: space.data.windows.ncct: 'w80': must be [low, high], or width and level as in
space.data.windows.ncct={type: categorical, choices: [[0, 80], [0, 80.0]]}
    command line: space.data.windows.ncct: choices has [0, 80.0] twice
space.data.windows.ncct={type: categorical, choices: [{low: 0}]}
    command line: space.data.windows.ncct: choices.0: {'low': 0}: must be a value or a list of valu
enqueue=[{optimizer.lr: 1}]
    command line: enqueue.0.optimizer.lr: 1: outside space.optimizer.lr
enqueue=[{optimizer.lrr: 1}]
    command line: enqueue.0.optimizer.lrr: not searched; did you mean optimizer.lr?
enqueue=[{loss.warm_in_fraction: 0.1}]
    command line: enqueue.0.loss.warm_in_fraction: searched only when
enqueue=[{model.width: 64}]
    command line: enqueue.0.model.width: not searched; only `references` may leave the space
enqueue=[{model.widht: 8, protected: true}]
    command line: enqueue.0.model.widht: no such key; did you mean model.width?
enqueue=[{batch.effective: 8}, {batch.effective: 9, protected: false}, {epochs: 9, protected: true}]
    command line: enqueue.2.epochs: cannot be set here
references=[{name: baseline, settings: {model.widht: 8}}]
    command line: references.0.settings.model.widht: no such key; did you mean model.width?
references=[{name: baseline, settings: {epoch_images: 8}}]
    command line: references.0.settings.epoch_images: must be equal in all trials
references=[{name: baseline, settings: {optimizer.lr: -1}}]
    command line: references.0.settings.optimizer.lr: -1: must be greater than 0
references=[{name: baseline, setings: {optimizer.lr: 1e-4}}]
    command line: references.0.setings.optimizer.lr: no such key; did you mean
references=[{settings: {optimizer.lr: 1e-4}}]
    command line: references.0.name: required
references=[{name: our best}]
    command line: references.0.name: 'our best': must be letters, digits and ._- only
references=[{name: one}, {name: one}]
    command line: references: name one is given twice
trials.silence_s=soon
    command line: trials.hang_timeout_s: 'soon': must be a valid number
enqueue=[{model.width: 3, protected: true}]
    command line: enqueue.0.model.width: 3: must be greater than or equal to 4
enqueue=[{epochs: 9, protected: true}]
    command line: enqueue.0.epochs: cannot be set here
enqueue=[{optimizer.lr: 1e-4, protected: maybe}]
    command line: enqueue.0.protected: 'maybe': must be true or false
enqueue=[{loss.weighting: fixed, loss.warm_in_fraction: 0.1}]
    command line: enqueue.0.loss.warm_in_fraction: searched only when the entry has loss.weighting 
scheduler.grace_period=3
    command line: scheduler.grace_period: 3: ends before the warm-in does (epoch 8.1: loss.warm_in_
space.optimizer.warmup_images={type: categorical, choices: [0, 9001]}
    FILE: scheduler.grace_period: 9: ends before the warm-up does (epoch 9: optimizer.warmup_images
train.epoch_images=40
    FILE: scheduler.grace_period: 9: ends before the warm-up does (epoch 10: optimizer.warmup_image
space.loss.warm_in_fraction=null
    FILE: scheduler.grace_period: 9: ends before the warm-in does (epoch 16.2: loss.warm_in_fractio
sampler.type=grid
    FILE: space.optimizer.lr: is continuous, but a grid needs a step or choices
further_objectives=[{metric: time/case_s, mode: min}, {metric: val/dice}]
    command line: further_objectives.1.metric: val/dice: is an objective already
space=3
    command line: space: 3: must be a valid dictionary
seed
    command line: seed: expected KEY=VALUE
"""
"""Overrides, and below each how a line of the answer begins."""


@pytest.mark.parametrize(
    ("override", "expected"),
    [*zip(WRONG.splitlines()[::2], WRONG.splitlines()[1::2], strict=True)],
)
def test_one_line_says_what_is_wrong(example, override, expected):
    lines = problems(example, override)
    matching = [line for line in lines if line.startswith(expected.strip())]
    assert len(matching) == 1, lines
    assert all("\n" not in line for line in lines)


def test_all_problems_are_said_at_once_and_once(example):
    text = EXAMPLE.replace("high: 5e-4", "high: 5e-6").replace(
        "diffusion.target", "diffusion.targt"
    )
    example.write_text(text.replace("mode: max", "mode: up") + "nonsense: 1\n")
    lines = problems(example, "train.model.width=3", "scheduler.max_t=x")
    assert lines == [
        "FILE: space.optimizer.lr: low is 1e-05, but must be below high (5e-06)",
        "FILE: objective.mode: 'up': must be 'min' or 'max'",
        "command line: scheduler.max_t: 'x': must be a valid integer, "
        "unable to parse string as an integer",
        "FILE: nonsense: no such key",
        "FILE: space.diffusion.targt: no such trainer setting; did you mean diffusion.target?",
        "command line: train.model.width: 3: must be greater than or equal to 4",
    ]


def test_a_condition_is_checked_with_its_dimension_active(tmp_path):
    """respacing up to 2000 needs num_timesteps of 4000, which the condition provides."""
    path = tmp_path / "conditional.yaml"
    path.write_text(
        EXAMPLE.replace("train:\n", "train:\n  validation.steps: sampling\n").replace(
            "  optimizer.lr:",
            "  diffusion.num_timesteps: {type: categorical, choices: [1000, 4000]}\n"
            "  sampling.timestep_respacing: {type: int, low: 2, high: 2000,"
            " when: {diffusion.num_timesteps: [4000]}}\n  optimizer.lr:",
        )
    )
    load_study(path)
    path.write_text(path.read_text().replace("num_timesteps: [4000]", "num_timesteps: [1000]"))
    [line] = problems(path)
    assert line.startswith(
        "FILE: space.sampling.timestep_respacing: sampling.timestep_respacing is"
    )


def test_a_sampling_setting_that_no_validation_uses_is_not_searched(example):
    """The threshold is used, and all are where validations sample as the model is used."""
    eta, threshold = (
        f"space.sampling.{name}={{type: float, low: 0.1, high: 0.9}}"
        for name in ("eta", "threshold")
    )
    with pytest.raises(ConfigError) as error:
        load_study(example, [eta, threshold])
    assert error.value.lines == [
        "command line: space.sampling.eta: makes no difference to a validation: set "
        "train.validation.steps: sampling, or use `segtune respace`"
    ]
    load_study(example, [eta, threshold, "train.validation.steps=sampling"])


NESTED = """
  data.modalities: {type: categorical, choices: [[tmax], [ncct, tmax]]}
  data.windows.ncct:
    {type: categorical, choices: [w80l40, [0, 100]], when: {data.modalities: [[ncct, tmax]]}}
  model.depth: {type: int, low: 5, high: 7, when: {data.windows.ncct: [[0, 100]]}}
  model.attention_levels: {type: categorical, choices: [5, 6], when: {model.depth: [7, 6]}}
  optimizer.lr:"""


def test_conditions_of_conditions_are_checked_in_their_context(example):
    """Attention at 6 levels needs a depth of 6, which the first value of the condition provides."""
    example.write_text(EXAMPLE.replace("\n  optimizer.lr:", NESTED))
    study = load_study(example)
    config = study.train_config(
        {"data.modalities": ["ncct", "tmax"], "data.windows.ncct": "w80l40"}
    )
    assert config.data.modalities == ("ncct", "tmax")
    assert config.data.windows == {"ncct": (0, 80)}
    again = StudyConfig.model_validate(json.loads(json.dumps(study.model_dump(mode="json"))))
    assert again == study
    whole = "{data.modalities: [ncct, tmax], data.windows.ncct: [0, 100]"
    load_study(example, [f"enqueue=[{whole}, model.depth: 5}}]"])
    [line] = problems(example, "space.model.attention_levels.when={model.depth: [5]}")
    assert line.startswith(
        "command line: space.model.attention_levels: model: attention_levels is 6"
    )
    [line] = problems(example, "enqueue=[{data.modalities: [tmax], data.windows.ncct: w80l40}]")
    assert "searched only when the entry has data.modalities in [['ncct', 'tmax']]" in line
    [line] = problems(example, "enqueue=[{data.windows.ncct: [0, 100], model.depth: 5}]")
    assert line.startswith("command line: enqueue.0.data.windows.ncct: searched only when")


def test_conditions_that_exclude_each_other(example):
    both = "{loss.weighting: [fixed], loss.warm_in_fraction: [0.1]}"
    [line] = problems(example, f"space.loss.dice={{type: float, low: 1, high: 2, when: {both}}}")
    assert line == (
        "command line: space.loss.dice.when: its conditions exclude each other: "
        "it is never searched"
    )


def test_gpu_hours_need_gpus(example):
    [line] = problems(example, "trials={num_trials: 1}", "budget.gpu_hours=2")
    assert line.startswith("command line: budget.gpu_hours: 2: trials.gpus_per_trial is 0")


def test_the_grace_period_matters_only_where_trials_are_stopped(example):
    never = ["scheduler.type=none", "train.optimizer.warmup_images=10000"]
    load_study(example, never)
    [line] = problems(example, *never, "stall={patience: 9}")
    assert line.startswith(
        "FILE: scheduler.grace_period: 9: ends before the warm-up does (epoch 10"
    )
    fixed = ["space.loss.weighting=null", "space.loss.warm_in_fraction=null"]
    load_study(example, fixed)
    [line] = problems(example, *fixed, "train.loss.weighting=warm_in")
    assert "ends before the warm-in does (epoch 16.2" in line


def test_priors_that_the_trainer_refuses_together_are_a_problem(example):
    depth = "space.model.depth={type: int, low: 2, high: 4, prior: 2}"
    levels = "space.model.attention_levels={type: int, low: 0, high: 4, prior: 4}"
    [line] = problems(example, depth, levels)
    refused = "space, its priors: each of 100 random combinations is refused, for example: model: "
    assert f"{refused}attention_levels is 4" in line
    assert load_study(example, [depth]).space["model.depth"].prior == 2


def test_key_given_twice(example):
    example.write_text(EXAMPLE + "seed: 4\n")
    [line] = problems(example)
    assert "'seed' is given twice" in line


def test_a_default_that_goes_by_a_wrong_setting_is_no_second_problem():
    with pytest.raises(ConfigError) as refused:
        build(Scheduler, {"type": "ashe", "max_t": 81}, "FILE")
    assert refused.value.lines == [
        "FILE: type: 'ashe': must be 'asha' or 'none'; did you mean asha?"
    ]
