"""Study files with values out of range, and what the line about each must say."""

from tests.badinput.sound_study import batch, grid, lr, put

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
