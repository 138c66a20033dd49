"""`segtune respace`: of a trained model, the way of sampling that is worth its seconds.

The study is spaces/respacing.yaml, of which the command's options replace the choices. It is one
like any other, in a folder of its own, named after the model: the same command again continues it,
and evaluates nothing twice. More of the same grid is --trials; another grid is another --name.
"""

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.analysis.sampling_options import Setting, choose, evaluated
from search.execution.gpus import device_for
from search.report.sampling_plot import table
from search.storage.dataset_cache import content_hash
from search.storage.studies import display_path, read_study, shared_place
from search.study.config import StudyConfig
from search.study.load import load_study
from search.study.sampler_limits import combinations
from search.study.shipped import space_file
from search.workflows.launch import launch
from search.workflows.model_ref import ModelRef, find_model, on_this_machine
from trainer.config import DiffusionConfig, SamplingConfig, TrainConfig
from trainer.configfile import ConfigError, build, read_yaml
from trainer.files.atomic import write_atomically
from trainer.files.documents import from_json, to_json
from trainer.respacing import timesteps

OPTIONS = {
    "sampling.method": "--methods",
    "sampling.timestep_respacing": "--steps",
    "sampling.eta": "--eta",
    "sampling.num_ensemble": "--ensemble",
}
"""Dimensions of the space, and the options that replace their choices."""

RECORD = "respacing.json"
"""In the study's folder: the weights that it samples, and what was chosen."""


@dataclass(frozen=True)
class RespaceOptions:
    """What the command's options ask for."""

    choices: Mapping[str, str]
    """By option, comma-separated; an option that was not given is not in it."""
    trials: int | None = None
    """Settings to evaluate; None is as many as the file has, or all of a smaller grid."""
    name: str | None = None
    store: str | None = None
    """Where the model's data are now; None is where they were."""
    choose: str = "fast"
    """fast, best or the number of a trial (search/analysis/sampling_options.py)."""
    margin: float = 0.01
    """Dice that does not matter, for `choose: fast`: these intervals are ten times as wide."""


def respace(
    words: str,
    options: RespaceOptions,
    *,
    trial: int | None,
    runs: Path,
    address: str | None = None,
) -> int:
    """Evaluate ways to sample a trained model, choose one, and store it with the model.

    Args:
        words: A study (its best trial by the leaderboard, or `trial`), or a model's path.
        options: The options.
        trial: Number.
        runs: The folder of all studies, also of the new one.
        address: Of a Ray cluster, as for `launch`.

    Returns:
        Exit status, as `launch`.

    Raises:
        ConfigError: One line: no such model or one without sampling, a choice that is none, other
            data, or the study exists with other settings.
        OSError: A folder cannot be written.
    """
    check_choice(options.choose)
    model = find_model(words, trial, runs)
    if model.origin and shared_place(model.origin.folder):
        again = f"segtune export {words} OUT, then segtune respace OUT"
        raise ConfigError([f"{words}: lies in S3, where no threshold can be stored: {again}"])
    with on_this_machine(model, ()):
        config, weights = _look_at(model, options)
    study = plan(model, config, options, runs)
    folder = runs.expanduser().resolve() / study.study
    _begin(model, weights, study, folder)
    print(f"respace    {model.name}: {study.trials.num_trials} of {_size(study)} settings")

    how = options.choose, options.margin, display_path(folder)
    status = launch(study, runs, address, show=lambda folder: table(evaluated(folder), *how))
    study, state = read_study(folder)
    if status or not state.finished(study):
        return status
    settings = evaluated(folder)
    if not settings:
        raise ConfigError([f"{display_path(folder)}: no setting could be evaluated"])
    chosen = choose(settings, *how)
    from search.report.sampling_plot import draw

    draw(settings, chosen, options.margin, model.name, folder / "respacing.png")
    _store(model, chosen, study, weights, folder)
    return 0


def check_choice(word: str) -> None:
    """Check the option --choose.

    Raises:
        ConfigError: It is none of its words and no number.
    """
    if word not in ("fast", "best") and not word.isdigit():
        raise ConfigError([f"--choose {word}: must be fast, best or the number of a trial"])


def _look_at(model: ModelRef, options: RespaceOptions) -> tuple[TrainConfig, str]:
    """Return how a model was trained, its data where they are now, and its weights' fingerprint.

    Raises:
        ConfigError: It has no sampling, other data are there, or nothing can be stored with it.
    """
    from trainer.saved.model_io import fingerprint, load, run_folder

    trained = load(model.path, "cpu")
    config, folder = trained.config, run_folder(trained)
    if config.model.segments_directly:
        raise ConfigError(
            [f"{model.path}: {config.model.family} segments directly: there is nothing to sample"]
        )
    if not os.access(folder, os.W_OK):
        raise ConfigError([f"{folder}: cannot be written, but keeps what is chosen"])
    store = options.store or config.data.store
    expected, found = config.data.store_hash, content_hash(store)
    if expected not in (None, found):
        raise ConfigError(
            [f"{store}: content {found[:12]}: not the data of the model ({str(expected)[:12]})"]
        )
    values = config.model_dump()
    values["data"]["store"] = store
    return build(TrainConfig, values, model.path), fingerprint(trained.model)


def plan(model: ModelRef, config: TrainConfig, options: RespaceOptions, runs: Path) -> StudyConfig:
    """Return the study of a model's ways to be sampled.

    A grid: what was evaluated is not drawn again, however often --trials is raised.

    Raises:
        ConfigError: A choice is none.
    """
    file = space_file("respacing")
    values = read_yaml(file)
    space, entries = values["space"], values["enqueue"]
    for name, option in OPTIONS.items():
        if option in options.choices:
            choices = parse(option, options.choices[option], name, config.diffusion)
            space[name] = {**space[name], "choices": choices}
    if "ddim" not in space["sampling.method"]["choices"]:
        if "--eta" in options.choices:
            raise ConfigError([f"--eta {options.choices['--eta']}: only ddim has it (--methods)"])
        space["sampling.eta"] = None
    within = [e for e in entries if all(e[key] in space[key]["choices"] for key in e)]
    needs: dict[str, Any] = {"cpus_per_trial": 1, "gpus_per_trial": "auto", "num_trials": 1}
    if model.origin:
        theirs = model.origin.study.trials
        needs["cpus_per_trial"] = theirs.cpus_per_trial // theirs.workers_per_trial
        needs["gpus_per_trial"] = 1 if theirs.gpus else 0
    settings: dict[str, Any] = {
        "study": options.name or f"{model.name}-respacing",
        "data": {"store": config.data.store, "fold": config.data.fold},
        "train": {"init_from": str(model.path)},
        "sampler": {"type": "grid"},
        "enqueue": within,
        **{f"trials.{key}": value for key, value in needs.items()},
        **{f"space.{name}": dimension for name, dimension in space.items()},
    }
    study = load_study(file, [f"{key}={json.dumps(value)}" for key, value in settings.items()])
    begun = _begun(runs.expanduser().resolve() / study.study)
    least = begun.trials.num_trials if begun else 0
    asked = options.trials or max(values["trials"]["num_trials"], least)
    trials = study.trials.model_copy(update={"num_trials": min(asked, _size(study))})
    return study.model_copy(update={"trials": trials})


def parse(option: str, text: str, name: str, diffusion: DiffusionConfig) -> list[Any]:
    """Return the choices that an option names, each once.

    Args:
        option: For errors.
        text: Comma-separated.
        name: Of the setting.
        diffusion: The model's, which not every number of steps suits.

    Raises:
        ConfigError: One of them is none.
    """
    choices: dict[Any, None] = {}
    for word in text.split(","):
        value: Any = word.strip()
        if name != "sampling.method":
            with suppress(ValueError):  # ddim50 is text; other text is refused as such
                value = float(value) if name == "sampling.eta" else int(value)
        try:
            build(SamplingConfig, {name.partition(".")[2]: value}, option)
            if name == "sampling.timestep_respacing":
                timesteps(diffusion.num_timesteps, value)
        except ConfigError as error:
            line = error.lines[0].replace(f"{name.partition('.')[2]}: ", "", 1)
            raise ConfigError([line]) from error
        except ValueError as error:
            line = str(error).removeprefix("timestep_respacing is ")
            raise ConfigError([f"{option}: {line}"]) from error
        choices[value] = None
    return [*choices]


def _size(study: StudyConfig) -> int:
    return sum(1 for _ in combinations(study.space))


def _begun(folder: Path) -> StudyConfig | None:
    """Return a study as it was begun; None if it was not."""
    return read_study(folder)[0] if (folder / "ledger.jsonl").is_file() else None


def _begin(model: ModelRef, weights: str, study: StudyConfig, folder: Path) -> None:
    """Note which weights a study samples.

    Raises:
        ConfigError: It was begun with other choices, or with others: the trial was trained on, say.
    """
    rule = "--name begins another study"
    before, path = _begun(folder), folder / RECORD
    if before is not None:
        for name, option in OPTIONS.items():
            old, new = (_choices(of, name) for of in (before, study))
            if old != new:
                words = ",".join(map(str, old)) or "no ddim"
                raise ConfigError(
                    [f"{option}: {display_path(folder)} was begun with {words}; {rule}"]
                )
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _write(path, {"model": str(model.path), "weights": weights, "chosen": None})
    elif (theirs := from_json(path.read_text())["weights"]) != weights:
        raise ConfigError(
            [f"{display_path(folder)}: was begun with other weights ({theirs}); {rule}"]
        )


def _choices(study: StudyConfig, name: str) -> Sequence[Any]:
    return (study.space[name].choices or ()) if name in study.space else ()


def _store(
    model: ModelRef, chosen: Setting, study: StudyConfig, weights: str, folder: Path
) -> None:
    """Freeze the threshold for the chosen setting, which is then the model's own."""
    from trainer.data.store import Store
    from trainer.evaluation.evaluate import evaluate
    from trainer.evaluation.evaluation_table import write
    from trainer.saved.frozen_threshold import FILE, FrozenThreshold
    from trainer.saved.model_io import load, run_folder, with_settings

    sampling = chosen.sampling.model_dump(mode="json", exclude={"threshold"})
    trained = load(model.path, device_for(study.trials.gpus))
    run_dir = run_folder(trained)
    frozen = FrozenThreshold.load(run_dir)
    if frozen is None or (frozen.weights, frozen.sampling) != (weights, sampling):
        changed = {f"sampling.{key}": value for key, value in sampling.items()}
        trained = with_settings(trained, changed | {"data.store": study.data.store})
        evaluation = evaluate(trained, Store.open(study.data.store), run_dir, split="val")
        write(evaluation, run_dir / "evaluate_val")
        frozen = evaluation.frozen
    record = {"model": str(model.path), "weights": weights, "chosen": chosen.trial}
    _write(folder / RECORD, {**record, "sampling": sampling, "threshold": frozen.threshold})
    print(
        f"\nstored     threshold {frozen.threshold:g} with Dice {frozen.dice:.3f} on validation "
        f"fold {study.data.fold} (selected on, optimistic): {run_dir / FILE}\n"
        f"           predict, export and the test set take this setting and threshold from now on\n"
        f"plot       {folder / 'respacing.png'}",
        flush=True,
    )


def _write(path: Path, values: Mapping[str, Any]) -> None:
    text = to_json(values) + "\n"
    write_atomically(path, lambda temporary: temporary.write_text(text))
