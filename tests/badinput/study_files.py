"""Study files that are wrong, and what the line about each must say."""

from collections.abc import Callable
from pathlib import Path

BASE = """\
study: demo
data: {store: STORE, fold: 0}
train:
  model.family: medsegdiff_v1
  model.width: 8
  model.depth: 2
  model.attention_levels: 0
  optimizer.warmup_images: 8
  epoch_images: 8
space:
  optimizer.lr: {type: float, low: 1e-4, high: 1e-2, log: true}
  batch.effective: {type: categorical, choices: [2, 4]}
  loss.weighting: {type: categorical, choices: [fixed, warm_in]}
  loss.warm_in_fraction: {type: float, low: 0.1, high: 0.3, when: {loss.weighting: [warm_in]}}
scheduler: {type: asha, grace_period: 1, max_t: 3, reduction_factor: 2}
sampler: {type: tpe, num_startup_trials: 2}
trials: {num_trials: 4, cpus_per_trial: 1}
enqueue:
  - {optimizer.lr: 1e-3, batch.effective: 2}
seed: 0
"""
"""A sound study; STORE stands for a store's path."""


def _put(old: str, new: str) -> str:
    assert BASE.count(old) == 1, old
    return BASE.replace(old, new)


def _lr(dimension: str) -> str:
    return _put("{type: float, low: 1e-4, high: 1e-2, log: true}", dimension)


def _batch(dimension: str) -> str:
    return _put("{type: categorical, choices: [2, 4]}", dimension)


def _fraction(when: str) -> str:
    return _put("when: {loss.weighting: [warm_in]}", f"when: {when}")


LAUGHS = "a0: &a0 [lol, lol]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)
"""Nine to the power of eleven words, in half a kilobyte."""

MERGED_LAUGHS = "a0: &a0 {k0: 1}\n" + "".join(
    f"a{n}: &a{n} {{<<: [{', '.join([f'*a{n - 1}'] * 9)}], k{n}: 1}}\n" for n in range(1, 12)
)

KEYS: dict[str, tuple[str, str]] = {
    "unknown section": (BASE + "shedule: 3\n", r"shedule: no such key; did you mean scheduler\?"),
    "unknown key": (
        _put("grace_period: 1", "grace_perod: 1"),
        r"scheduler\.grace_perod: no such key; did you mean scheduler\.grace_period\?",
    ),
    "unknown trainer setting": (
        _put("model.width: 8", "model.widht: 8"),
        r"train\.model\.widht: no such key; did you mean model\.width\?",
    ),
    "unknown dimension": (
        _put("optimizer.lr: {", "optimiser.lr: {"),
        r"space\.optimiser\.lr: no such trainer setting; did you mean optimizer\.lr\?",
    ),
    "unknown attribute of a dimension": (
        _lr("{type: float, lo: 1, high: 2}"),
        r"space\.optimizer\.lr: lo: no such key",
    ),
    "10000 unknown keys": (
        BASE + "".join(f"key{n}: {n}\n" for n in range(10_000)),
        "keys and values",
    ),
    "many unknown keys": (BASE + "".join(f"key{n}: {n}\n" for n in range(50)), "no such key"),
    "many unknown settings": (
        _put("train:\n", "train:\n" + "".join(f"  key{n}: {n}\n" for n in range(50))),
        "no such key",
    ),
    "many unknown dimensions": (
        _put(
            "space:\n",
            "space:\n" + "".join(f"  key{n}: {{type: int, low: 1, high: 2}}\n" for n in range(50)),
        ),
        "no such trainer setting",
    ),
    "a section missing": (
        _put("trials: {num_trials: 4, cpus_per_trial: 1}\n", ""),
        "trials: required",
    ),
    "no space": (BASE.replace("space:", "spaces:"), "space"),
    "no name": (_put("study: demo\n", ""), "study: required"),
    "no data": (_put("data: {store: STORE, fold: 0}\n", ""), "data: required"),
    "a key that is a number": (BASE + "3: 4\n", "line 21: key 3: must be text"),
    "a key that is null": (BASE + "null: 4\n", "must be text"),
    "a key that is true": (BASE + "true: 4\n", "must be text"),
    "a key that is a list": (BASE + "[a, b]: 4\n", ""),
    "a key that is a mapping": (BASE + "{a: b}: 4\n", ""),
    "an empty key": (BASE + "'': 4\n", "no such key"),
    "a dotted section": (BASE + "scheduler.max_t: 4\n", r"scheduler\.max_t: is given twice"),
    "a section's number key": (_put("train:\n", "train:\n  1: 2\n"), "must be text"),
    "a dimension's number key": (
        _put("space:\n", "space:\n  1: {type: int, low: 1, high: 2}\n"),
        "1",
    ),
    "a dimension's null key": (
        _put("space:\n", "space:\n  null: {type: int, low: 1, high: 2}\n"),
        "",
    ),
    "an entry's number key": (_put("- {optimizer.lr", "- {1: 2, optimizer.lr"), "must be text"),
    "keys with newlines": (BASE + '"a\\nb": 4\n', "must be text"),
    "an escape as a key": (BASE + '"\\e[31m": 4\n', "must be text"),
    "a long key": (BASE + "? " + "k" * 100_000 + "\n: 4\n", "at most 200 characters"),
    "the same key twice": (BASE + "seed: 1\n", "twice"),
    "the same dimension twice": (_put("space:\n", "space:\n  optimizer.lr: {}\n"), "twice"),
    "the same setting nested and dotted": (
        _put("model.width: 8", "model.width: 8\n  model: {width: 16}"),
        "",
    ),
    "settings that contradict": (
        _put("model.width: 8", "model.width: 8\n  model: 3"),
        r"train\.model",
    ),
    "a study's own setting": (_put("epoch_images: 8", "epochs: 8"), "cannot be set here"),
    "fixed and searched": (
        _put("epoch_images: 8", "optimizer.lr: 1e-3\n  epoch_images: 8"),
        "fixed in train",
    ),
    "fidelity searched": (_put("optimizer.lr: {", "epoch_images: {"), "must be equal"),
    "a section searched": (_put("optimizer.lr: {", "model: {"), "is a section"),
}

TYPES: dict[str, tuple[str, str]] = {
    "study is a number": (_put("study: demo", "study: 3"), "study: 3"),
    "study is a list": (_put("study: demo", "study: [a]"), "study:"),
    "study is null": (_put("study: demo", "study:"), "study:"),
    "study is empty": (_put("study: demo", "study: ''"), "study:"),
    "data is a list": (_put("{store: STORE, fold: 0}", "[a]"), "data:"),
    "data is text": (_put("{store: STORE, fold: 0}", "STORE"), "data:"),
    "store is a number": (_put("store: STORE", "store: 3"), r"data\.store"),
    "store is null": (_put("store: STORE", "store: "), r"data\.store"),
    "store is a list": (_put("store: STORE", "store: [a]"), r"data\.store"),
    "store is elsewhere": (_put("store: STORE", "store: /nowhere"), "not a prepared store"),
    "store has a NUL": (_put("store: STORE", 'store: "a\\0b"'), r"data\.store"),
    "store is long": (_put("store: STORE", "store: " + "x" * 5000), r"data\.store"),
    "store is a file": (_put("store: STORE", "store: /etc/passwd"), "not a prepared store"),
    "store of an unknown user": (_put("store: STORE", "store: ~nobody-here/x"), r"data\.store"),
    "fold is true": (_put("fold: 0", "fold: true"), r"data\.fold"),
    "fold is a half": (_put("fold: 0", "fold: 0.5"), r"data\.fold"),
    "fold is negative": (_put("fold: 0", "fold: -1"), r"data\.fold"),
    "fold is 5": (_put("fold: 0", "fold: 5"), r"data\.fold"),
    "space is a list": (
        BASE.partition("space:")[0] + "space: [a]\ntrials: {num_trials: 1}\n",
        "space",
    ),
    "space is null": (BASE.partition("space:")[0] + "space:\ntrials: {num_trials: 1}\n", "space"),
    "space is text": (BASE.partition("space:")[0] + "space: x\ntrials: {num_trials: 1}\n", "space"),
    "a dimension is a number": (_lr("3"), r"space\.optimizer\.lr"),
    "a dimension is null": (_lr(""), r"space\.optimizer\.lr"),
    "a dimension is a list": (_lr("[1e-4, 1e-2]"), r"space\.optimizer\.lr"),
    "a dimension is text": (_lr("loguniform(1e-4, 1e-2)"), r"space\.optimizer\.lr"),
    "a dimension without type": (_lr("{low: 1e-4, high: 1e-2}"), "type: required"),
    "an unknown type": (_lr("{type: flot, low: 1, high: 2}"), "did you mean float"),
    "train is a list": (BASE.replace("train:\n", "train: [1]\nx:\n"), "train"),
    "train is a number": (BASE.replace("train:\n", "train: 3\nx:\n"), "train"),
    "width is true": (_put("model.width: 8", "model.width: true"), r"train\.model\.width"),
    "width is text": (_put("model.width: 8", "model.width: wide"), r"train\.model\.width"),
    "width is a list": (_put("model.width: 8", "model.width: [8]"), r"train\.model\.width"),
    "width is a half": (_put("model.width: 8", "model.width: 8.5"), r"train\.model\.width"),
    "width is a date": (_put("model.width: 8", "model.width: 2024-01-01"), r"train\.model\.width"),
    "width is bytes": (
        _put("model.width: 8", "model.width: !!binary aGk="),
        r"train\.model\.width",
    ),
    "width is a set": (_put("model.width: 8", "model.width: !!set {a}"), r"train\.model\.width"),
    "width is a mapping": (_put("model.width: 8", "model.width: {a: 1}"), r"train\.model\.width"),
    "width in base 60": (_put("model.width: 8", "model.width: 1:30"), "must be decimal"),
    "trials is a number": (_put("{num_trials: 4, cpus_per_trial: 1}", "4"), "trials"),
    "num_trials is true": (_put("num_trials: 4", "num_trials: true"), r"trials\.num_trials"),
    "num_trials is text": (_put("num_trials: 4", "num_trials: four"), r"trials\.num_trials"),
    "gpus is true": (_put("cpus_per_trial: 1", "gpus_per_trial: true"), r"trials\.gpus_per_trial"),
    "gpus is NaN": (_put("cpus_per_trial: 1", "gpus_per_trial: .nan"), r"trials\.gpus_per_trial"),
    "gpus is infinite": (
        _put("cpus_per_trial: 1", "gpus_per_trial: .inf"),
        r"trials\.gpus_per_trial",
    ),
    "gpus is text": (_put("cpus_per_trial: 1", "gpus_per_trial: all"), r"trials\.gpus_per_trial"),
    "gpus is a list": (_put("cpus_per_trial: 1", "gpus_per_trial: [1]"), r"trials\.gpus_per_trial"),
    "gpus is null": (_put("cpus_per_trial: 1", "gpus_per_trial: "), r"trials\.gpus_per_trial"),
    "max_t is text": (_put("max_t: 3", "max_t: long"), r"scheduler\.max_t"),
    "max_t is null": (_put("max_t: 3", "max_t: "), r"scheduler\.max_t"),
    "max_t is null, no grace": (_put("grace_period: 1, max_t: 3", "max_t: "), r"scheduler"),
    "max_t is text, no grace": (_put("grace_period: 1, max_t: 3", "max_t: x"), r"scheduler"),
    "max_t is a list, no grace": (_put("grace_period: 1, max_t: 3", "max_t: [1]"), r"scheduler"),
    "max_t is infinite, no grace": (_put("grace_period: 1, max_t: 3", "max_t: .inf"), r"scheduler"),
    "max_t is NaN, no grace": (_put("grace_period: 1, max_t: 3", "max_t: .nan"), r"scheduler"),
    "seed is text": (_put("\nseed: 0", "\nseed: zero"), "seed"),
    "seed is true": (_put("\nseed: 0", "\nseed: true"), "seed"),
    "seed is negative": (_put("\nseed: 0", "\nseed: -1"), "seed"),
    "seed is NaN": (_put("\nseed: 0", "\nseed: .nan"), "seed"),
    "enqueue is a mapping": (
        _put("  - {optimizer.lr: 1e-3, batch.effective: 2}", "  optimizer.lr: 1e-3"),
        "enqueue",
    ),
    "enqueue has a number": (_put("{optimizer.lr: 1e-3, batch.effective: 2}", "3"), r"enqueue\.0"),
    "enqueue has null": (_put("{optimizer.lr: 1e-3, batch.effective: 2}", ""), r"enqueue\.0"),
    "enqueue outside": (_put("optimizer.lr: 1e-3,", "optimizer.lr: 1,"), "outside space"),
    "enqueue of text": (_put("optimizer.lr: 1e-3,", "optimizer.lr: fast,"), "outside space"),
    "enqueue of NaN": (_put("optimizer.lr: 1e-3,", "optimizer.lr: .nan,"), "outside space"),
    "enqueue of a mapping": (_put("optimizer.lr: 1e-3,", "optimizer.lr: {a: 1},"), "not searched"),
    "enqueue not searched": (
        _put("optimizer.lr: 1e-3,", "optimizer.rl: 1e-3,"),
        "did you mean optimizer",
    ),
    "protected is text": (
        _put("optimizer.lr: 1e-3,", "protected: yes please,"),
        "must be true or false",
    ),
    "protected is a number": (
        _put("optimizer.lr: 1e-3,", "protected: 1,"),
        "must be true or false",
    ),
    "protected with nonsense": (
        _put("optimizer.lr: 1e-3,", "protected: true, optimizer.rl: 3,"),
        "no such key",
    ),
    "control is a list": (BASE + "control: [1]\n", "control"),
    "control with nonsense": (BASE + "control: {modl.width: 3}\n", "control"),
    "control of another family": (BASE + "control: {model.width: -3}\n", "control"),
    "objective is text": (BASE + "objective: val/dice\n", "objective"),
    "unknown metric": (BASE + "objective: {metric: val/dise}\n", "did you mean val/dice"),
    "metric is null": (BASE + "objective: {metric: }\n", "objective"),
    "the wrong way": (BASE + "objective: {metric: val/dice, mode: min}\n", "better the other way"),
    "further objectives twice": (BASE + "further_objectives: [{metric: val/dice}]\n", "already"),
    "further objectives a mapping": (
        BASE + "further_objectives: {metric: val/dice}\n",
        "further_objectives",
    ),
    "stall without patience": (BASE + "stall: {}\n", r"stall\.patience"),
    "stall is true": (BASE + "stall: true\n", "stall"),
    "negative patience": (BASE + "stall: {patience: -3}\n", r"stall\.patience"),
    "delta is NaN": (BASE + "stall: {patience: 3, min_delta: .nan}\n", r"stall\.min_delta"),
    "budget is a number": (BASE + "budget: 3\n", "budget"),
    "budget is negative": (BASE + "budget: {wall_hours: -3}\n", r"budget\.wall_hours"),
    "budget is infinite": (BASE + "budget: {wall_hours: .inf}\n", r"budget\.wall_hours"),
    "budget of GPUs without any": (BASE + "budget: {gpu_hours: 3}\n", r"budget\.gpu_hours"),
    "unknown sampler": (_put("type: tpe", "type: tpo"), "did you mean tpe"),
    "sampler is text": (_put("{type: tpe, num_startup_trials: 2}", "tpe"), "sampler"),
    "no start-up trials": (
        _put("num_startup_trials: 2", "num_startup_trials: 0"),
        "num_startup_trials",
    ),
    "unknown scheduler": (_put("type: asha", "type: hyperband"), r"scheduler\.type"),
}

RANGES: dict[str, tuple[str, str]] = {
    "low above high": (_lr("{type: float, low: 1, high: 0.1}"), "must be below high"),
    "low is high": (_lr("{type: float, low: 1, high: 1}"), "must be below high"),
    "no high": (_lr("{type: float, low: 1}"), "high: required"),
    "low is NaN": (_lr("{type: float, low: .nan, high: 1}"), "low"),
    "high is NaN": (_lr("{type: float, low: 0.1, high: .nan}"), "high"),
    "high is infinite": (_lr("{type: float, low: 0.1, high: .inf}"), "high"),
    "low is minus infinity": (_lr("{type: float, low: -.inf, high: 1}"), "low"),
    "high beyond float": (_lr("{type: float, low: 0.1, high: 1e999}"), "high"),
    "an integer beyond float": (_lr("{type: float, low: 0.1, high: 1" + "0" * 400 + "}"), "below"),
    "an integer beyond Python": (
        _lr("{type: float, low: 0.1, high: 1" + "0" * 5000 + "}"),
        "below",
    ),
    "a hexadecimal beyond Python": (
        _lr("{type: float, low: 0.1, high: 0x1" + "0" * 5000 + "}"),
        "below",
    ),
    "low is true": (_lr("{type: float, low: true, high: 2}"), "low"),
    "high is true": (_lr("{type: float, low: 0.5, high: true}"), "high"),
    "low is text": (_lr("{type: float, low: tiny, high: 2}"), "low"),
    "low is a list": (_lr("{type: float, low: [1], high: 2}"), "low"),
    "low 0 with log": (_lr("{type: float, low: 0, high: 1, log: true}"), "above 0"),
    "low negative with log": (_lr("{type: float, low: -1, high: 1, log: true}"), "above 0"),
    "log is text": (_lr("{type: float, low: 0.1, high: 1, log: maybe}"), "log"),
    "step and log": (_lr("{type: float, low: 1, high: 2, step: 1, log: true}"), "allows none"),
    "step is 0": (_lr("{type: float, low: 0.1, high: 1, step: 0}"), "step"),
    "step is negative": (_lr("{type: float, low: 0.1, high: 1, step: -1}"), "step"),
    "step is NaN": (_lr("{type: float, low: 0.1, high: 1, step: .nan}"), "step"),
    "step is infinite": (_lr("{type: float, low: 0.1, high: 1, step: .inf}"), "step"),
    "step is true": (_lr("{type: float, low: 0.1, high: 2.1, step: true}"), "step"),
    "step does not divide": (_lr("{type: float, low: 0.1, high: 1, step: 0.7}"), "multiple"),
    "step beyond decimals": (_lr("{type: float, low: 0.1, high: 1, step: 1e-300}"), "step"),
    "low impossible": (_lr("{type: float, low: -1, high: 1}"), r"space\.optimizer\.lr"),
    "int with halves": (_batch("{type: int, low: 1.5, high: 4}"), "whole number"),
    "int with huge bounds": (_batch("{type: int, low: 1, high: 1" + "0" * 30 + "}"), "below"),
    "int beyond float": (_batch("{type: int, low: 1, high: 1" + "0" * 400 + "}"), "below"),
    "int with choices": (_batch("{type: int, choices: [1, 2]}"), "choices"),
    "float of a whole number": (
        _batch("{type: float, low: 1, high: 4}"),
        r"space\.batch\.effective",
    ),
    "categorical with low": (
        _batch("{type: categorical, low: 1, choices: [1, 2]}"),
        "only choices",
    ),
    "no choices": (_batch("{type: categorical}"), "choices: required"),
    "empty choices": (_batch("{type: categorical, choices: []}"), "choices: required"),
    "choices is a number": (_batch("{type: categorical, choices: 3}"), "choices"),
    "choices is text": (_batch("{type: categorical, choices: abc}"), "choices"),
    "choices is a mapping": (_batch("{type: categorical, choices: {a: 3}}"), "choices"),
    "a choice twice": (_batch("{type: categorical, choices: [2, 2.0]}"), "twice"),
    "a choice is a mapping": (_batch("{type: categorical, choices: [{a: 1}, 2]}"), "choices"),
    "a choice is a nested list": (_batch("{type: categorical, choices: [[[1]], 2]}"), "choices"),
    "a choice is a date": (_batch("{type: categorical, choices: [2024-01-01, 2]}"), "batch"),
    "a choice is NaN": (_batch("{type: categorical, choices: [.nan, 2]}"), "batch"),
    "a choice is infinite": (_batch("{type: categorical, choices: [.inf, 2]}"), "batch"),
    "a choice is true": (_batch("{type: categorical, choices: [true, 2]}"), "batch"),
    "a choice is null": (_batch("{type: categorical, choices: [null, 2]}"), "batch"),
    "a choice is text": (_batch("{type: categorical, choices: [two, 2]}"), "batch"),
    "20000 choices": (
        _batch(f"{{type: categorical, choices: {list(range(1, 20_001))}}}"),
        "keys and values",
    ),
    "a grid of 1e9 trials": (
        _put("type: tpe", "type: grid")
        .replace("num_trials: 4", "num_trials: 1000000000")
        .replace("low: 1e-4, high: 1e-2, log: true", "low: 1.0, high: 2.0, step: 0.000000001"),
        "",
    ),
    "a continuous grid": (_put("type: tpe", "type: grid"), "continuous"),
    "1e9 trials": (_put("num_trials: 4", "num_trials: 1000000000"), "num_trials"),
    "1e30 trials": (_put("num_trials: 4", "num_trials: 1" + "0" * 30), "below"),
    "no trials": (_put("num_trials: 4", "num_trials: 0"), "num_trials"),
    "1e9 epochs": (_put("grace_period: 1, max_t: 3", "max_t: 1000000000"), ""),
    "1e30 epochs": (_put("max_t: 3", "max_t: 1" + "0" * 30), "below"),
    "1e9 brackets": (_put("reduction_factor: 2", "brackets: 1000000000"), "brackets"),
    "a huge factor": (_put("reduction_factor: 2", "reduction_factor: 1" + "0" * 400), ""),
    "a factor of 1": (_put("reduction_factor: 2", "reduction_factor: 1"), "reduction_factor"),
    "grace beyond max_t": (_put("grace_period: 1", "grace_period: 9"), "at most max_t"),
    "no epochs": (_put("max_t: 3", "max_t: 0"), "max_t is 0"),
    "negative epochs": (_put("max_t: 3", "max_t: -3"), "max_t"),
    "1e30 smoothing": (_put("reduction_factor: 2", "smoothing: 1" + "0" * 30), "below"),
    "1e30 CPUs": (_put("cpus_per_trial: 1", "cpus_per_trial: 1" + "0" * 30), "below"),
    "half a GPU too much": (_put("cpus_per_trial: 1", "gpus_per_trial: 1.5"), "whole number"),
    "workers without CPUs": (_put("cpus_per_trial: 1", "workers_per_trial: 3"), "multiple"),
    "1e308 GPUs": (_put("cpus_per_trial: 1", "gpus_per_trial: 1e308"), "trials"),
    "1e30 wide": (_put("model.width: 8", "model.width: 1" + "0" * 30), "below"),
    "1e9 wide": (_put("model.width: 8", "model.width: 1000000000"), r"train\.model\.width"),
    "1e30 images": (_put("epoch_images: 8", "epoch_images: 1" + "0" * 30), "below"),
    "1e30 timesteps": (
        _put("epoch_images: 8", "diffusion.num_timesteps: 1" + "0" * 30 + "\n  epoch_images: 8"),
        "below",
    ),
    "1e9 ddim steps": (
        _put("epoch_images: 8", "sampling.timestep_respacing: ddim1000000000\n  epoch_images: 8"),
        "no integer stride",
    ),
    "a number of 5000 digits as steps": (
        _put(
            "epoch_images: 8",
            "sampling.timestep_respacing: '1" + "0" * 5000 + "'\n  epoch_images: 8",
        ),
        "respacing",
    ),
    "1e30 threads": (
        _put("epoch_images: 8", "num_threads: 1" + "0" * 30 + "\n  epoch_images: 8"),
        "below",
    ),
    "1e30 seed": (_put("\nseed: 0", "\nseed: 1" + "0" * 30), "below"),
    "an empty window": (
        _put("epoch_images: 8", "data.windows.tmax: [3, 3]\n  epoch_images: 8"),
        "low must be below",
    ),
    "a window of text": (
        _put("epoch_images: 8", "data.windows.tmax: [a, b]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of mixed": (
        _put("epoch_images: 8", "data.windows.tmax: [1, b]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of one": (
        _put("epoch_images: 8", "data.windows.tmax: [1]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of NaN": (
        _put("epoch_images: 8", "data.windows.tmax: [.nan, 1]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of infinity": (
        _put("epoch_images: 8", "data.windows.tmax: [1, .inf]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window in other words": (
        _put("epoch_images: 8", "data.windows.tmax: wide\n  epoch_images: 8"),
        r"w80l40",
    ),
    "an unknown modality": (
        _put("epoch_images: 8", "data.modalities: [tmx]\n  epoch_images: 8"),
        "did you mean tmax",
    ),
    "no modality": (
        _put("epoch_images: 8", "data.modalities: []\n  epoch_images: 8"),
        "modalities",
    ),
    "a modality twice": (
        _put("epoch_images: 8", "data.modalities: [tmax, tmax]\n  epoch_images: 8"),
        "modalities",
    ),
    "depth too deep for the images": (_put("model.depth: 2", "model.depth: 7"), "depth"),
    "weights from nowhere": (
        _put("epoch_images: 8", "init_from: /nowhere\n  epoch_images: 8"),
        "init_from",
    ),
    "nothing trained": (
        _put("type: asha, grace_period: 1, max_t: 3", "type: none, max_t: 0"),
        "init_from",
    ),
}

CONDITIONS: dict[str, tuple[str, str]] = {
    "on nothing": (_fraction("{loss.wighting: [warm_in]}"), "did you mean loss.weighting"),
    "on a value that is never": (_fraction("{loss.weighting: [warm_on]}"), "did you mean warm_in"),
    "without values": (_fraction("{loss.weighting: []}"), "at least one value"),
    "a value and no list": (_fraction("{loss.weighting: warm_in}"), "when"),
    "a number": (_fraction("3"), "when"),
    "a list": (_fraction("[loss.weighting]"), "when"),
    "text": (_fraction("loss.weighting == warm_in"), "when"),
    "null": (_fraction("{loss.weighting: }"), "when"),
    "of mappings": (_fraction("{loss.weighting: [{a: 1}]}"), "when"),
    "on itself": (_fraction("{loss.warm_in_fraction: [0.2]}"), "circle"),
    "on each other": (
        _put(
            "choices: [fixed, warm_in]",
            "choices: [fixed, warm_in], when: {loss.warm_in_fraction: [0.2]}",
        ),
        "circle of conditions",
    ),
    "in a loop of three": (
        _put(
            "choices: [fixed, warm_in]", "choices: [fixed, warm_in], when: {batch.effective: [2]}"
        ).replace("choices: [2, 4]", "choices: [2, 4], when: {loss.warm_in_fraction: [0.2]}"),
        "circle of conditions",
    ),
    "that exclude each other": (
        _put(
            "choices: [fixed, warm_in]", "choices: [fixed, warm_in], when: {batch.effective: [2]}"
        ).replace(
            "when: {loss.weighting: [warm_in]}",
            "when: {loss.weighting: [warm_in], batch.effective: [4]}",
        ),
        "exclude each other",
    ),
    "outside a range": (
        _put("choices: [2, 4]", "choices: [2, 4], when: {optimizer.lr: [9]}"),
        "never has it",
    ),
    "of NaN": (_put("choices: [2, 4]", "choices: [2, 4], when: {optimizer.lr: [.nan]}"), "when"),
    "on a key that is a number": (_fraction("{1: [2]}"), "must be text"),
    "on null": (_fraction("{null: [2]}"), "must be text"),
    "an unmet condition": (
        _put("optimizer.lr: 1e-3,", "loss.weighting: fixed, loss.warm_in_fraction: 0.2,"),
        "only when",
    ),
    "a missing condition": (
        _put("optimizer.lr: 1e-3,", "loss.warm_in_fraction: 0.2,"),
        "only when",
    ),
}

NAMES: dict[str, tuple[str, str]] = {
    f"named {name!r:.40}": (_put("study: demo", f"study: {yaml}"), "study:")
    for name, yaml in {
        "..": "'..'",
        ".": "'.'",
        "../up": "../up",
        "/etc": "/etc",
        "a/b": "a/b",
        "a\\b": "'a\\b'",
        ".hidden": ".hidden",
        "-rf": "-rf",
        "~": "'~'",
        "a b": "a b",
        "a\nb": '"a\\nb"',
        "trailing newline": '"demo\\n"',
        "a NUL": '"a\\0b"',
        "größe": "größe",
        "卒中": "卒中",
        "arabic digits": "'٣'",
        "an emoji": "'🧠'",
        "right to left": '"a\\u202Eb"',
        "$HOME": "$HOME",
        "a;b": "a;b",
        "256 letters": "x" * 256,
        "100000 letters": "x" * 100_000,
        "true": "true",
    }.items()
}

FILES: dict[str, tuple[str | bytes, str]] = {
    "empty": ("", "mapping"),
    "only a comment": ("# nothing\n", "mapping"),
    "a list": ("- a\n- b\n", "mapping"),
    "a number": ("3\n", "mapping"),
    "text": ("hello\n", "mapping"),
    "null": ("null\n", "mapping"),
    "two documents": (BASE + "---\n" + BASE, "not YAML"),
    "a tab": (BASE.replace("  model.width", "\tmodel.width"), "not YAML"),
    "a NUL byte": (BASE.encode() + b"\0", "not YAML"),
    "a bell": (BASE.encode() + b"# \x07\n", "not YAML"),
    "UTF-16": (BASE.encode("utf-16"), "not YAML"),
    "UTF-16 without a mark": (BASE.encode("utf-16-le"), "not YAML"),
    "UTF-32": (BASE.encode("utf-32"), "not YAML"),
    "Latin-1": ((BASE + "# Größe\n").encode("latin-1"), "not YAML"),
    "binary": (bytes(range(256)) * 8, "not YAML"),
    "a gzip file": (b"\x1f\x8b\x08\0\0\0\0\0\0\x03" + bytes(50), "not YAML"),
    "JSON cut short": ('{"study": "demo", "data": {', "not YAML"),
    "an open quote": (BASE + 'a: "b\n', "not YAML"),
    "an open bracket": (BASE + "a: [b\n", "not YAML"),
    "a wrong indent": (BASE.replace("  model.width", " model.width"), "not YAML"),
    "an unknown anchor": (BASE + "a: *nowhere\n", "not YAML"),
    "a Python object": (BASE + "a: !!python/object/apply:os.system [true]\n", "not YAML"),
    "a Python name": (_put("study: demo", "study: !!python/name:os.system"), "not YAML"),
    "an unknown tag": (BASE + "a: !unknown 3\n", "not YAML"),
    "a number that is none": (BASE + "a: !!int three\n", "must be decimal"),
    "another number that is none": (BASE + "a: !!float three\n", ""),
    "a truth that is none": (BASE + "a: !!bool maybe\n", "not YAML"),
    "binary that is none": (BASE + "a: !!binary ö\n", "not YAML"),
    "an octal number": (BASE.replace("width: 8", "width: 010"), "line 5: '010': must be decimal"),
    "a date that is none": (BASE + "a: !!timestamp 2024-99-99\n", ""),
    "a billion laughs": (LAUGHS + BASE, "keys and values"),
    "a billion laughs as a choice": (
        LAUGHS + _batch("{type: categorical, choices: [*a11, 2]}"),
        "",
    ),
    "a billion laughs as a name": (LAUGHS + _put("study: demo", "study: *a11"), ""),
    "a billion laughs as a width": (LAUGHS + _put("model.width: 8", "model.width: *a11"), ""),
    "a billion laughs merged": (MERGED_LAUGHS + BASE, ""),
    "a mapping in itself": ("a: &a {b: *a}\n" + BASE, ""),
    "a list in itself": ("a: &a [*a]\n" + BASE, ""),
    "train in itself": (BASE.replace("train:\n", "train: &t\n  x: *t\n"), ""),
    "space in itself": (BASE.replace("space:\n", "space: &t\n  x: *t\n"), ""),
    "a choice in itself": (_batch("{type: categorical, choices: &c [*c, 2]}"), ""),
    "a merge in itself": (BASE.replace("train:\n", "train: &t\n  <<: *t\n"), ""),
    "merge of a number": (BASE + "<<: 3\n", "not YAML"),
    "10000 brackets": (BASE + "a: " + "[" * 10_000 + "]" * 10_000 + "\n", ""),
    "10000 mappings": (BASE + "a: " + "{a: " * 10_000 + "1" + "}" * 10_000 + "\n", ""),
    "300 mappings in train": (
        _put("epoch_images: 8", "a: " + "{a: " * 300 + "1" + "}" * 300 + "\n  epoch_images: 8"),
        "",
    ),
    "a key of 1000 dots": (_put("epoch_images: 8", "a." * 1000 + "a: 1\n  epoch_images: 8"), ""),
    "a key of 100000 dots": (
        _put("epoch_images: 8", "? " + "a." * 100_000 + "a\n  : 1\n  epoch_images: 8"),
        "",
    ),
    "a line of 3 MB": (BASE + "a: " + "x" * 3_000_000 + "\n", ""),
    "20000 lines": (BASE + "a:\n" + "  - b\n" * 20_000, ""),
}

SOUND: dict[str, str] = {
    "as it is": BASE,
    "with a byte-order mark": "\ufeff" + BASE,
    "with Windows' lines": BASE.replace("\n", "\r\n"),
    "with anchors": _put("optimizer.lr: {type", "optimizer.lr: &lr {type"),
    "with merges": _put(
        "{optimizer.lr: 1e-3, batch.effective: 2}",
        "&e {optimizer.lr: 1e-3}\n  - {<<: *e, batch.effective: 2}",
    ),
    "with nested settings": _put("model.width: 8", "model: {width: 8}"),
    "with 1e-4 in other words": _lr("{type: float, low: 1.0E-4, high: +1e-2, log: true}"),
    "as JSON": _put("{store: STORE, fold: 0}", '{"store": "STORE", "fold": 0}'),
    "named with 200 letters": _put("study: demo", "study: " + "x" * 200),
    "with comments in any script": BASE + "# Größe 卒中 🧠\n",
    "named as a date": _put("study: demo", "study: 2024-01-01"),
    "with quoted numbers": _lr("{type: float, low: '1e-4', high: 1e-2}"),
    "with hexadecimal": _put("model.width: 8", "model.width: 0x10"),
}

TABLES: dict[str, dict[str, tuple[str, str]] | dict[str, tuple[str | bytes, str]]] = {
    "keys": KEYS,
    "types": TYPES,
    "ranges": RANGES,
    "conditions": CONDITIONS,
    "names": NAMES,
    "files": FILES,
}


def _folder(path: Path) -> None:
    path.mkdir()


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _nothing(path: Path) -> None:
    pass


def _dangling(path: Path) -> None:
    path.symlink_to(path.with_name("nowhere"))


PATHS: dict[str, tuple[Callable[[Path], None], str]] = {
    "a folder": (_folder, "directory"),
    "missing": (_nothing, "No such file"),
    "a link to itself": (_loop, "symbolic links"),
    "a link to nowhere": (_dangling, "No such file"),
}

OVERRIDES: dict[str, str] = {
    "nonsense": "expected KEY=VALUE",
    "=3": "expected KEY=VALUE",
    "": "expected KEY=VALUE",
    "=": "expected KEY=VALUE",
    "seed=[": "not YAML",
    "seed={a: 1, a: 2}": "given twice",
    "seed=!!python/name:os.system": "not YAML",
    "seed=": "seed",
    "seed=zero": "seed",
    "seed=true": "seed",
    "seed=-1": "seed",
    "seed=1.5": "seed",
    "seed=.nan": "seed",
    "seed.x=1": "seed",
    "sede=1": "did you mean seed",
    "scheduler.mxt=3": "did you mean scheduler.max_t",
    "scheduler=3": "scheduler",
    "scheduler=null": "scheduler",
    "scheduler..max_t=3": "scheduler",
    "scheduler.=3": "scheduler",
    ".scheduler=3": "no such key",
    ".=3": "no such key",
    "train=3": "train",
    "train.=3": "train",
    "train.model=3": "train.model",
    "train.model.width=3": "model.width",
    "train.model.width=eight": "model.width",
    "train.model.width={a: 1}": "model.width",
    "train.model.width.x=3": "model.width",
    "train.nonsense=3": "nonsense",
    "train.epochs=3": "cannot be set here",
    "space=3": "space",
    "space=null": "space",
    "space.=3": "space",
    "space.optimizer.lr=3": "space.optimizer.lr",
    "space.optimizer.rl=null": "did you mean",
    "space.optimizer.rl.low=3": "did you mean",
    "space.optimizer.lr.lw=3": "no such key",
    "space.optimizer.lr.low=9": "must be below high",
    "space.optimizer.lr.low=.nan": "low",
    "space.optimizer.lr.low=": "low",
    "space.optimizer.lr.low.x=3": "low",
    "space.optimizer.lr.when.nothing=[1]": "no such dimension",
    "space.optimizer.lr.when=3": "when",
    "space.batch.effective.choices=3": "choices",
    "space.batch.effective.choices.x=3": "choices",
    "space.loss.weighting=null": "no such dimension",
    "enqueue=3": "enqueue",
    "enqueue.0=3": "enqueue",
    "enqueue.0.optimizer.lr=3": "enqueue",
    "control=3": "control",
    "control.x=3": "control",
    "objective.metric=dice": "did you mean val/dice",
    "trials.num_trials=1e9": "num_trials",
    "trials.num_trials=1e999": "num_trials",
    "trials.num_trials=0x" + "f" * 5000: "num_trials",
    "data.store=": "data.store",
    "data.store=/nowhere": "not a prepared store",
    "study=../up": "study",
    "study=" + "x" * 3000: "study",
    "größe=1": "no such key",
    "a." * 3000 + "a=1": "at most 200",
    "train." + "a." * 3000 + "a=1": "train",
    "data." + "a." * 3000 + "a=1": "data",
    "seed=" + "[" * 5000 + "]" * 5000: "seed",
}
"""By the word, what the line about it must say."""
