"""Study files with wrong keys, types and ranges, and what the line about each must say."""

from tests.badinput.sound_study import BASE, batch, grid, lr, put

KEYS: dict[str, tuple[str, str]] = {
    "unknown section": (BASE + "shedule: 3\n", r"shedule: no such key; did you mean scheduler\?"),
    "unknown key": (
        put("grace_period: 1", "grace_perod: 1"),
        r"scheduler\.grace_perod: no such key; did you mean scheduler\.grace_period\?",
    ),
    "unknown trainer setting": (
        put("model.width: 8", "model.widht: 8"),
        r"train\.model\.widht: no such key; did you mean model\.width\?",
    ),
    "unknown dimension": (
        put("optimizer.lr: {", "optimiser.lr: {"),
        r"space\.optimiser\.lr: no such trainer setting; did you mean optimizer\.lr\?",
    ),
    "unknown attribute of a dimension": (
        lr("{type: float, lo: 1, high: 2}"),
        r"space\.optimizer\.lr: lo: no such key",
    ),
    "10000 unknown keys": (
        BASE + "".join(f"key{n}: {n}\n" for n in range(10_000)),
        "keys and values",
    ),
    "many unknown keys": (BASE + "".join(f"key{n}: {n}\n" for n in range(50)), "no such key"),
    "many unknown settings": (
        put("train:\n", "train:\n" + "".join(f"  key{n}: {n}\n" for n in range(50))),
        "no such key",
    ),
    "many unknown dimensions": (
        put(
            "space:\n",
            "space:\n" + "".join(f"  key{n}: {{type: int, low: 1, high: 2}}\n" for n in range(50)),
        ),
        "no such trainer setting",
    ),
    "a section missing": (
        put("trials: {num_trials: 4, cpus_per_trial: 1}\n", ""),
        "trials: required",
    ),
    "no space": (BASE.replace("space:", "spaces:"), "space: required"),
    "no name": (put("study: demo\n", ""), "study: required"),
    "no data": (put("data: {store: STORE, fold: 0}\n", ""), "data: required"),
    "a key that is a number": (BASE + "3: 4\n", "line 21: key 3: must be text"),
    "a key that is null": (BASE + "null: 4\n", "must be text"),
    "a key that is true": (BASE + "true: 4\n", "must be text"),
    "a key that is a list": (BASE + "[a, b]: 4\n", r"line 21: key \['a', 'b'\]: must be text"),
    "a key that is a mapping": (BASE + "{a: b}: 4\n", "line 21: key {'a': 'b'}: must be text"),
    "an empty key": (BASE + "'': 4\n", "no such key"),
    "a dotted section": (BASE + "scheduler.max_t: 4\n", r"scheduler\.max_t: is given twice"),
    "a section's number key": (put("train:\n", "train:\n  1: 2\n"), "must be text"),
    "a dimension's number key": (
        put("space:\n", "space:\n  1: {type: int, low: 1, high: 2}\n"),
        "line 11: key 1: must be text",
    ),
    "a dimension's null key": (
        put("space:\n", "space:\n  null: {type: int, low: 1, high: 2}\n"),
        "line 11: key None: must be text",
    ),
    "an entry's number key": (put("- {optimizer.lr", "- {1: 2, optimizer.lr"), "must be text"),
    "keys with newlines": (BASE + '"a\\nb": 4\n', "must be text"),
    "an escape as a key": (BASE + '"\\e[31m": 4\n', "must be text"),
    "a long key": (BASE + "? " + "k" * 100_000 + "\n: 4\n", "at most 200 characters"),
    "the same key twice": (BASE + "seed: 1\n", "key 'seed' is given twice"),
    "the same dimension twice": (
        put("space:\n", "space:\n  optimizer.lr: {}\n"),
        r"key 'optimizer\.lr' is given twice",
    ),
    "the same setting nested and dotted": (
        put("model.width: 8", "model.width: 8\n  model: {width: 16}"),
        r"train\.model\.width: is given twice",
    ),
    "settings that contradict": (
        put("model.width: 8", "model.width: 8\n  model: 3"),
        r"train\.model",
    ),
    "a study's own setting": (put("epoch_images: 8", "epochs: 8"), "cannot be set here"),
    "fixed and searched": (
        put("epoch_images: 8", "optimizer.lr: 1e-3\n  epoch_images: 8"),
        "fixed in train",
    ),
    "fidelity searched": (put("optimizer.lr: {", "epoch_images: {"), "must be equal"),
    "a section searched": (put("optimizer.lr: {", "model: {"), "is a section"),
}

TYPES: dict[str, tuple[str, str]] = {
    "study is a number": (put("study: demo", "study: 3"), "study: 3: must be a valid string"),
    "study is a list": (
        put("study: demo", "study: [a]"),
        r"study: \['a'\]: must be a valid string",
    ),
    "study is null": (put("study: demo", "study:"), "study: None: must be a valid string"),
    "study is empty": (put("study: demo", "study: ''"), "study: '': must be letters, digits"),
    "data is a list": (put("{store: STORE, fold: 0}", "[a]"), "data: .*must be a valid dictionary"),
    "data is text": (put("{store: STORE, fold: 0}", "STORE"), "data: .*must be a valid dictionary"),
    "store is a number": (put("store: STORE", "store: 3"), r"data\.store"),
    "store is null": (put("store: STORE", "store: "), r"data\.store"),
    "store is a list": (put("store: STORE", "store: [a]"), r"data\.store"),
    "store is elsewhere": (put("store: STORE", "store: /nowhere"), "not a prepared store"),
    "store has a NUL": (put("store: STORE", 'store: "a\\0b"'), r"data\.store"),
    "store is long": (put("store: STORE", "store: " + "x" * 5000), r"data\.store"),
    "store is a file": (put("store: STORE", "store: /etc/passwd"), "not a prepared store"),
    "store of an unknown user": (put("store: STORE", "store: ~nobody-here/x"), r"data\.store"),
    "fold is true": (put("fold: 0", "fold: true"), r"data\.fold"),
    "fold is a half": (put("fold: 0", "fold: 0.5"), r"data\.fold"),
    "fold is negative": (put("fold: 0", "fold: -1"), r"data\.fold"),
    "fold is 5": (put("fold: 0", "fold: 5"), r"data\.fold"),
    "space is a list": (
        BASE.partition("space:")[0] + "space: [a]\ntrials: {num_trials: 1}\n",
        r"space: \['a'\]: must be a valid dictionary",
    ),
    "space is null": (
        BASE.partition("space:")[0] + "space:\ntrials: {num_trials: 1}\n",
        "space: None: must be a valid dictionary",
    ),
    "space is text": (
        BASE.partition("space:")[0] + "space: x\ntrials: {num_trials: 1}\n",
        "space: 'x': must be a valid dictionary",
    ),
    "a dimension is a number": (lr("3"), r"space\.optimizer\.lr"),
    "a dimension is null": (lr(""), r"space\.optimizer\.lr"),
    "a dimension is a list": (lr("[1e-4, 1e-2]"), r"space\.optimizer\.lr"),
    "a dimension is text": (lr("loguniform(1e-4, 1e-2)"), r"space\.optimizer\.lr"),
    "a dimension without type": (lr("{low: 1e-4, high: 1e-2}"), "type: required"),
    "an unknown type": (lr("{type: flot, low: 1, high: 2}"), "did you mean float"),
    "train is a list": (
        BASE.replace("train:\n", "train: [1]\nx:\n"),
        r"train: \[1\]: must be a valid dictionary",
    ),
    "train is a number": (
        BASE.replace("train:\n", "train: 3\nx:\n"),
        "train: 3: must be a valid dictionary",
    ),
    "width is true": (put("model.width: 8", "model.width: true"), r"train\.model\.width"),
    "width is text": (put("model.width: 8", "model.width: wide"), r"train\.model\.width"),
    "width is a list": (put("model.width: 8", "model.width: [8]"), r"train\.model\.width"),
    "width is a half": (put("model.width: 8", "model.width: 8.5"), r"train\.model\.width"),
    "width is a date": (put("model.width: 8", "model.width: 2024-01-01"), r"train\.model\.width"),
    "width is bytes": (
        put("model.width: 8", "model.width: !!binary aGk="),
        r"train\.model\.width",
    ),
    "width is a set": (put("model.width: 8", "model.width: !!set {a}"), r"train\.model\.width"),
    "width is a mapping": (put("model.width: 8", "model.width: {a: 1}"), r"train\.model\.width"),
    "width in base 60": (put("model.width: 8", "model.width: 1:30"), "must be decimal"),
    "trials is a number": (
        put("{num_trials: 4, cpus_per_trial: 1}", "4"),
        "trials: 4: must be a valid dictionary",
    ),
    "num_trials is true": (put("num_trials: 4", "num_trials: true"), r"trials\.num_trials"),
    "num_trials is text": (put("num_trials: 4", "num_trials: four"), r"trials\.num_trials"),
    "gpus is true": (put("cpus_per_trial: 1", "gpus_per_trial: true"), r"trials\.gpus_per_trial"),
    "gpus is NaN": (put("cpus_per_trial: 1", "gpus_per_trial: .nan"), r"trials\.gpus_per_trial"),
    "gpus is infinite": (
        put("cpus_per_trial: 1", "gpus_per_trial: .inf"),
        r"trials\.gpus_per_trial",
    ),
    "gpus is text": (put("cpus_per_trial: 1", "gpus_per_trial: all"), r"trials\.gpus_per_trial"),
    "gpus is a list": (put("cpus_per_trial: 1", "gpus_per_trial: [1]"), r"trials\.gpus_per_trial"),
    "gpus is null": (put("cpus_per_trial: 1", "gpus_per_trial: "), r"trials\.gpus_per_trial"),
    "max_t is text": (put("max_t: 3", "max_t: long"), r"scheduler\.max_t"),
    "max_t is null": (put("max_t: 3", "max_t: "), r"scheduler\.max_t"),
    "max_t is null, no grace": (put("grace_period: 1, max_t: 3", "max_t: "), r"scheduler"),
    "max_t is text, no grace": (put("grace_period: 1, max_t: 3", "max_t: x"), r"scheduler"),
    "max_t is a list, no grace": (put("grace_period: 1, max_t: 3", "max_t: [1]"), r"scheduler"),
    "max_t is infinite, no grace": (put("grace_period: 1, max_t: 3", "max_t: .inf"), r"scheduler"),
    "max_t is NaN, no grace": (put("grace_period: 1, max_t: 3", "max_t: .nan"), r"scheduler"),
    "seed is text": (put("\nseed: 0", "\nseed: zero"), "seed: 'zero': must be a valid integer"),
    "seed is true": (put("\nseed: 0", "\nseed: true"), "seed: true: must be a number"),
    "seed is negative": (
        put("\nseed: 0", "\nseed: -1"),
        "seed: -1: must be greater than or equal to 0",
    ),
    "seed is NaN": (put("\nseed: 0", "\nseed: .nan"), "seed: nan: must be a finite number"),
    "enqueue is a mapping": (
        put("  - {optimizer.lr: 1e-3, batch.effective: 2}", "  optimizer.lr: 1e-3"),
        "enqueue",
    ),
    "enqueue has a number": (put("{optimizer.lr: 1e-3, batch.effective: 2}", "3"), r"enqueue\.0"),
    "enqueue has null": (put("{optimizer.lr: 1e-3, batch.effective: 2}", ""), r"enqueue\.0"),
    "enqueue outside": (put("optimizer.lr: 1e-3,", "optimizer.lr: 1,"), "outside space"),
    "enqueue of text": (put("optimizer.lr: 1e-3,", "optimizer.lr: fast,"), "outside space"),
    "enqueue of NaN": (put("optimizer.lr: 1e-3,", "optimizer.lr: .nan,"), "outside space"),
    "enqueue of a mapping": (put("optimizer.lr: 1e-3,", "optimizer.lr: {a: 1},"), "not searched"),
    "enqueue not searched": (
        put("optimizer.lr: 1e-3,", "optimizer.rl: 1e-3,"),
        "did you mean optimizer",
    ),
    "protected is text": (
        put("optimizer.lr: 1e-3,", "protected: yes please,"),
        "must be true or false",
    ),
    "protected is a number": (
        put("optimizer.lr: 1e-3,", "protected: 1,"),
        "must be true or false",
    ),
    "protected with nonsense": (
        put("optimizer.lr: 1e-3,", "protected: true, optimizer.rl: 3,"),
        "no such key",
    ),
    "references is a mapping": (BASE + "references: {name: a}\n", "references"),
    "a reference is text": (BASE + "references: [baseline]\n", r"references\.0"),
    "a reference has no name": (
        BASE + "references: [{settings: {optimizer.lr: 1e-4}}]\n",
        r"references\.0\.name: required",
    ),
    "a reference is named with a space": (
        BASE + "references: [{name: our best}]\n",
        r"references\.0\.name: 'our best': must be letters, digits and",
    ),
    "two references of one name": (
        BASE + "references: [{name: a}, {name: a}]\n",
        "references: name a is given twice",
    ),
    "a reference with an unknown key": (
        BASE + "references: [{name: a, setings: {optimizer.lr: 1e-4}}]\n",
        r"references\.0\.setings.*: no such key; did you mean",
    ),
    "a reference with an unknown setting": (
        BASE + "references: [{name: a, settings: {optimizer.rl: 1e-4}}]\n",
        r"references\.0\.settings\.optimizer\.rl: no such key; did you mean optimizer\.lr\?",
    ),
    "both names of the hang timeout": (
        put("num_trials: 4,", "num_trials: 4, silence_s: 9, hang_timeout_s: 9,"),
        r"trials\.silence_s: is trials\.hang_timeout_s now, which is given too",
    ),
    "the hang timeout is text": (
        put("num_trials: 4,", "num_trials: 4, hang_timeout_s: soon,"),
        r"trials\.hang_timeout_s: 'soon': must be",
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
    "stall is true": (BASE + "stall: true\n", "stall: True: must be a valid dictionary"),
    "negative patience": (BASE + "stall: {patience: -3}\n", r"stall\.patience"),
    "delta is NaN": (BASE + "stall: {patience: 3, min_delta: .nan}\n", r"stall\.min_delta"),
    "budget is a number": (BASE + "budget: 3\n", "budget: 3: must be a valid dictionary"),
    "budget is negative": (BASE + "budget: {wall_hours: -3}\n", r"budget\.wall_hours"),
    "budget is infinite": (BASE + "budget: {wall_hours: .inf}\n", r"budget\.wall_hours"),
    "budget of GPUs without any": (BASE + "budget: {gpu_hours: 3}\n", r"budget\.gpu_hours"),
    "unknown sampler": (put("type: tpe", "type: tpo"), "did you mean tpe"),
    "sampler is text": (put("{type: tpe, num_startup_trials: 2}", "tpe"), "sampler"),
    "no start-up trials": (
        put("num_startup_trials: 2", "num_startup_trials: 0"),
        "num_startup_trials: 0: must be",
    ),
    "unknown scheduler": (put("type: asha", "type: hyperband"), r"scheduler\.type"),
}

RANGES: dict[str, tuple[str, str]] = {
    "low above high": (lr("{type: float, low: 1, high: 0.1}"), "must be below high"),
    "low is high": (lr("{type: float, low: 1, high: 1}"), "must be below high"),
    "no high": (lr("{type: float, low: 1}"), "high: required"),
    "low is NaN": (lr("{type: float, low: .nan, high: 1}"), r"low.*: nan: must be a finite number"),
    "high is NaN": (
        lr("{type: float, low: 0.1, high: .nan}"),
        r"high.*: nan: must be a finite number",
    ),
    "high is infinite": (
        lr("{type: float, low: 0.1, high: .inf}"),
        r"high.*: inf: must be a finite number",
    ),
    "low is minus infinity": (
        lr("{type: float, low: -.inf, high: 1}"),
        r"low.*: -inf: must be a finite number",
    ),
    "high beyond float": (
        lr("{type: float, low: 0.1, high: 1e999}"),
        r"high.*: inf: must be a finite number",
    ),
    "an integer beyond float": (
        lr("{type: float, low: 0.1, high: 1" + "0" * 400 + "}"),
        r"must be a number below 2\*\*63",
    ),
    "an integer beyond Python": (
        lr("{type: float, low: 0.1, high: 1" + "0" * 5000 + "}"),
        r"must be a number below 2\*\*63",
    ),
    "a hexadecimal beyond Python": (
        lr("{type: float, low: 0.1, high: 0x1" + "0" * 5000 + "}"),
        r"must be a number below 2\*\*63",
    ),
    "low is true": (lr("{type: float, low: true, high: 2}"), "low: true: must be a number"),
    "high is true": (lr("{type: float, low: 0.5, high: true}"), "high: true: must be a number"),
    "low is text": (lr("{type: float, low: tiny, high: 2}"), r"low.*: 'tiny': must be"),
    "low is a list": (lr("{type: float, low: [1], high: 2}"), r"low.*: \[1\]: must be"),
    "low 0 with log": (lr("{type: float, low: 0, high: 1, log: true}"), "above 0"),
    "low negative with log": (lr("{type: float, low: -1, high: 1, log: true}"), "above 0"),
    "log is text": (
        lr("{type: float, low: 0.1, high: 1, log: maybe}"),
        "log: 'maybe': must be a valid boolean",
    ),
    "step and log": (lr("{type: float, low: 1, high: 2, step: 1, log: true}"), "allows none"),
    "step is 0": (
        lr("{type: float, low: 0.1, high: 1, step: 0}"),
        "step: 0: must be greater than 0",
    ),
    "step is negative": (
        lr("{type: float, low: 0.1, high: 1, step: -1}"),
        "step: -1: must be greater than 0",
    ),
    "step is NaN": (
        lr("{type: float, low: 0.1, high: 1, step: .nan}"),
        r"step.*: nan: must be a finite number",
    ),
    "step is infinite": (
        lr("{type: float, low: 0.1, high: 1, step: .inf}"),
        r"step.*: inf: must be a finite number",
    ),
    "step is true": (
        lr("{type: float, low: 0.1, high: 2.1, step: true}"),
        "step: true: must be a number",
    ),
    "step does not divide": (lr("{type: float, low: 0.1, high: 1, step: 0.7}"), "multiple"),
    "step beyond decimals": (
        lr("{type: float, low: 0.1, high: 1, step: 1e-300}"),
        "step is 1e-300, but low to high may have",
    ),
    "low impossible": (lr("{type: float, low: -1, high: 1}"), r"space\.optimizer\.lr"),
    "int with halves": (batch("{type: int, low: 1.5, high: 4}"), "whole number"),
    "int with huge bounds": (
        batch("{type: int, low: 1, high: 1" + "0" * 30 + "}"),
        r"must be a number below 2\*\*63",
    ),
    "int beyond float": (
        batch("{type: int, low: 1, high: 1" + "0" * 400 + "}"),
        r"must be a number below 2\*\*63",
    ),
    "int with choices": (batch("{type: int, choices: [1, 2]}"), "choices"),
    "float of a whole number": (
        batch("{type: float, low: 1, high: 4}"),
        r"space\.batch\.effective",
    ),
    "categorical with low": (
        batch("{type: categorical, low: 1, choices: [1, 2]}"),
        "only choices",
    ),
    "no choices": (batch("{type: categorical}"), "choices: required"),
    "empty choices": (batch("{type: categorical, choices: []}"), "choices: required"),
    "choices is a number": (batch("{type: categorical, choices: 3}"), "choices"),
    "choices is text": (batch("{type: categorical, choices: abc}"), "choices"),
    "choices is a mapping": (batch("{type: categorical, choices: {a: 3}}"), "choices"),
    "a choice twice": (batch("{type: categorical, choices: [2, 2.0]}"), r"choices has 2\.0 twice"),
    "a choice is a mapping": (batch("{type: categorical, choices: [{a: 1}, 2]}"), "choices"),
    "a prior is a mapping": (batch("{type: categorical, choices: [2], prior: {a: 1}}"), "prior"),
    "a prior is a nested list": (batch("{type: categorical, choices: [2], prior: [[2]]}"), "prior"),
    "a prior is text": (lr("{type: float, low: 1e-4, high: 1e-2, prior: much}"), "prior is 'much'"),
    "a confidence is a list": (lr("{type: float, low: 1, high: 2, confidence: [1]}"), "confidence"),
    "a choice is a nested list": (batch("{type: categorical, choices: [[[1]], 2]}"), "choices"),
    "a choice is a date": (
        batch("{type: categorical, choices: [2024-01-01, 2]}"),
        r"batch\.effective: '2024-01-01': must be a valid integer",
    ),
    "a choice is NaN": (
        batch("{type: categorical, choices: [.nan, 2]}"),
        r"choices\.0.*: nan: must be",
    ),
    "a choice is infinite": (
        batch("{type: categorical, choices: [.inf, 2]}"),
        r"choices\.0.*: inf: must be",
    ),
    "a choice is true": (
        batch("{type: categorical, choices: [true, 2]}"),
        r"batch\.effective: true: must be a number",
    ),
    "a choice is null": (
        batch("{type: categorical, choices: [null, 2]}"),
        r"batch\.effective: None: must be a valid integer",
    ),
    "a choice is text": (
        batch("{type: categorical, choices: [two, 2]}"),
        r"batch\.effective: 'two': must be a valid integer",
    ),
    "20000 choices": (
        batch(f"{{type: categorical, choices: {list(range(1, 20_001))}}}"),
        "keys and values",
    ),
    "more trials than a grid has": (
        grid("type: float, low: 1e-3, high: 3e-3, step: 1e-3"),
        r"num_trials: 4: the grid has 3 combinations only",
    ),
    "a step of a grid of 1e10": (
        grid("type: float, low: 1.0, high: 11.0, step: 0.000000001"),
        r"step is 1e-09, but low to high may have",
    ),
    "a continuous grid": (put("type: tpe", "type: grid"), "continuous"),
    "1e9 trials": (
        put("num_trials: 4", "num_trials: 1000000000"),
        "num_trials: 1000000000: must be less than",
    ),
    "1e30 trials": (
        put("num_trials: 4", "num_trials: 1" + "0" * 30),
        r"must be a number below 2\*\*63",
    ),
    "no trials": (put("num_trials: 4", "num_trials: 0"), "num_trials: 0: must be"),
    "1e30 epochs": (put("max_t: 3", "max_t: 1" + "0" * 30), r"must be a number below 2\*\*63"),
    "1e9 brackets": (put("reduction_factor: 2", "brackets: 1000000000"), "brackets"),
    "a huge factor": (
        put("reduction_factor: 2", "reduction_factor: 1" + "0" * 400),
        r"must be a number below 2\*\*63",
    ),
    "a factor of 1": (put("reduction_factor: 2", "reduction_factor: 1"), "reduction_factor"),
    "grace beyond max_t": (put("grace_period: 1", "grace_period: 9"), "at most max_t"),
    "no epochs": (put("max_t: 3", "max_t: 0"), "max_t is 0"),
    "negative epochs": (
        put("max_t: 3", "max_t: -3"),
        r"max_t: -3: must be greater than or equal to 0",
    ),
    "1e30 smoothing": (
        put("reduction_factor: 2", "smoothing: 1" + "0" * 30),
        r"must be a number below 2\*\*63",
    ),
    "1e30 CPUs": (
        put("cpus_per_trial: 1", "cpus_per_trial: 1" + "0" * 30),
        r"must be a number below 2\*\*63",
    ),
    "half a GPU too much": (put("cpus_per_trial: 1", "gpus_per_trial: 1.5"), "whole number"),
    "workers without CPUs": (put("cpus_per_trial: 1", "workers_per_trial: 3"), "multiple"),
    "1e308 GPUs": (
        put("cpus_per_trial: 1", "gpus_per_trial: 1e308"),
        "multiple of workers_per_trial",
    ),
    "1e30 wide": (
        put("model.width: 8", "model.width: 1" + "0" * 30),
        r"must be a number below 2\*\*63",
    ),
    "1e9 wide": (put("model.width: 8", "model.width: 1000000000"), r"train\.model\.width"),
    "1e30 images": (
        put("epoch_images: 8", "epoch_images: 1" + "0" * 30),
        r"must be a number below 2\*\*63",
    ),
    "1e30 timesteps": (
        put("epoch_images: 8", "diffusion.num_timesteps: 1" + "0" * 30 + "\n  epoch_images: 8"),
        r"must be a number below 2\*\*63",
    ),
    "1e9 ddim steps": (
        put("epoch_images: 8", "sampling.timestep_respacing: ddim1000000000\n  epoch_images: 8"),
        "no integer stride",
    ),
    "a number of 5000 digits as steps": (
        put(
            "epoch_images: 8",
            "sampling.timestep_respacing: '1" + "0" * 5000 + "'\n  epoch_images: 8",
        ),
        "respacing",
    ),
    "1e30 threads": (
        put("epoch_images: 8", "num_threads: 1" + "0" * 30 + "\n  epoch_images: 8"),
        r"must be a number below 2\*\*63",
    ),
    "1e30 seed": (put("\nseed: 0", "\nseed: 1" + "0" * 30), r"must be a number below 2\*\*63"),
    "an empty window": (
        put("epoch_images: 8", "data.windows.tmax: [3, 3]\n  epoch_images: 8"),
        "low must be below",
    ),
    "a window of text": (
        put("epoch_images: 8", "data.windows.tmax: [a, b]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of mixed": (
        put("epoch_images: 8", "data.windows.tmax: [1, b]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of one": (
        put("epoch_images: 8", "data.windows.tmax: [1]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of NaN": (
        put("epoch_images: 8", "data.windows.tmax: [.nan, 1]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window of infinity": (
        put("epoch_images: 8", "data.windows.tmax: [1, .inf]\n  epoch_images: 8"),
        r"windows",
    ),
    "a window in other words": (
        put("epoch_images: 8", "data.windows.tmax: wide\n  epoch_images: 8"),
        r"w80l40",
    ),
    "an unknown modality": (
        put("epoch_images: 8", "data.modalities: [tmx]\n  epoch_images: 8"),
        "did you mean tmax",
    ),
    "no modality": (
        put("epoch_images: 8", "data.modalities: []\n  epoch_images: 8"),
        "modalities",
    ),
    "a modality twice": (
        put("epoch_images: 8", "data.modalities: [tmax, tmax]\n  epoch_images: 8"),
        "modalities",
    ),
    "depth too deep for the images": (
        put("model.depth: 2", "model.depth: 7"),
        r"depth: 7: needs slices of a multiple of 64 pixels",
    ),
    "weights from nowhere": (
        put("epoch_images: 8", "init_from: /nowhere\n  epoch_images: 8"),
        "init_from",
    ),
    "nothing trained": (
        put("type: asha, grace_period: 1, max_t: 3", "type: none, max_t: 0"),
        "init_from",
    ),
}
