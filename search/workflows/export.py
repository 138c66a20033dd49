"""`segtune export`: a trained model as a folder that anyone can read, check and use.

The files are those of saved/model_package.py; `segtune predict OUT CASE MASK` needs none of the
packages of the search.
"""

import importlib.metadata
import shutil
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from search.analysis.case_scores import DICE, lesion_dice
from search.analysis.first_weights import LABEL, warning
from search.analysis.intervals import mean_interval
from search.analysis.ranking import ranked, standing
from search.execution.environment import code_commit, package_versions
from search.report.model_card import model_card
from search.report.verdicts import metric_name
from search.storage.dataset_cache import open_store
from search.workflows.model_ref import (
    ModelRef,
    TrialOrigin,
    find_model,
    on_this_machine,
)
from trainer.configfile import ConfigError, read_yaml
from trainer.files.documents import strict, to_json
from trainer.files.new_folder import appearing, check_free
from trainer.progress import bar
from trainer.terminal import printable

if TYPE_CHECKING:
    from trainer.config import TrainConfig
    from trainer.saved.model_io import TrainedModel

PACKAGES = (
    *(
        "click",
        "connected-components-3d",
        "einops",
        "matplotlib",
        "monai",
        "nibabel",
        "nilearn",
        "numpy",
        "openpyxl",
    ),
    *("pillow", "pyarrow", "pydantic", "pyyaml", "rich", "safetensors", "scipy", "torch"),
)
"""What `trainer` imports, by the names under which they are installed."""

FETCHED = ("config.yaml", "cases.parquet", "threshold.json", "test_readings.jsonl")
"""Files of a run folder that say more of a model than its weights do; each may be missing."""


def export(words: str, out: Path, *, trial: int | None, runs: Path) -> None:
    """Write a trained model into a new folder, which appears whole or not at all.

    Args:
        words: A study (its best trial by the leaderboard, or `trial`), a run folder or a .pt file.
        out: The folder.
        trial: Number.
        runs: The folder of all studies.

    Raises:
        ConfigError: There is no such model, it was exported before, or `out` cannot be made.
        OSError: S3 does not answer, or the disk is full.
    """
    check_free(out)
    with on_this_machine(find_model(words, trial, runs), FETCHED) as model:
        from trainer.saved.model_io import frozen_settings, load, with_settings
        from trainer.saved.model_package import is_exported, write_checksums, write_weights

        if is_exported(model.path):
            raise ConfigError([f"{model.path}: is exported already; copy the folder"])
        as_trained = load(model.path, "cpu")
        trained = with_settings(as_trained, frozen_settings(as_trained) | _store_hash(as_trained))
        with appearing(out) as folder, bar("exporting", 3) as advance:
            weights = trained.model.state_dict()
            write_weights(
                folder,
                weights,
                trained.inputs,
                trained.epoch,
                trained.trained_on,
                trained.layout,
            )
            config = yaml.safe_dump(trained.config.model_dump(mode="json"), sort_keys=False)
            (folder / "config.yaml").write_text(config)
            advance(1)
            metrics, provenance = _metrics(model, as_trained), _provenance(model, trained)
            _write_json(folder / "metrics.json", metrics)
            _write_json(folder / "provenance.json", provenance)
            (folder / "requirements.txt").write_text(_requirements())
            advance(1)
            pictures, why = _paint(trained, folder / "samples")
            advance(1)
            shown_as = [f"{path.parent.name}/{path.name}" for path in pictures]
            card = model_card(model.name, trained, metrics, provenance, shown_as, why)
            (folder / "README.md").write_text(printable(card), encoding="utf-8")
            write_checksums(folder)
    print(f"exported   {model.name} to {out}")
    print(f"predict    segtune predict {out} CASE MASK.nii.gz")


def _store_hash(trained: "TrainedModel") -> dict[str, Any]:
    """Return the hash of the data, which only config.yaml of an early run names."""
    from trainer.saved.model_io import run_folder

    path = run_folder(trained) / "config.yaml"
    if trained.layout or trained.config.data.store_hash or not path.exists():
        return {}
    return {"data.store_hash": read_yaml(path).get("data", {}).get("store_hash")}


def _metrics(model: ModelRef, trained: "TrainedModel") -> dict[str, Any]:
    """Return what was measured of a model, as it was trained, each number with its worth."""
    from trainer.saved.checkpoint import read
    from trainer.saved.frozen_threshold import FrozenThreshold
    from trainer.saved.model_io import frozen_settings, run_folder

    run_dir = run_folder(trained)
    measured = {} if trained.layout else read(trained.path).get("metrics") or {}
    dice = None if trained.epoch is None else lesion_dice(run_dir, trained.epoch)
    frozen = FrozenThreshold.load(run_dir) if frozen_settings(trained) else None
    readings = run_dir / "test_readings.jsonl"
    label = "; ".join(filter(None, [LABEL, _first_weights(model, trained)]))
    return {
        "validation": {
            "label": f"validation fold {trained.config.data.fold}, {_epoch(trained)}, "
            f"{_sampled(trained.config)}: {label}",
            "epoch": trained.epoch,
            "dice_interval": mean_interval([*dice.values()], DICE.scale) if dice else None,
            "num_cases_with_lesion": len(dice) if dice else None,
            "metrics": {k: v for k, v in measured.items() if k.startswith("val/")},
        },
        "ranked_by": _ranked_by(model.origin) if model.origin else None,
        "threshold": frozen
        and {
            "label": f"chosen on validation fold {trained.config.data.fold}: {label}",
            "threshold": frozen.threshold,
            "dice": frozen.dice,
            "num_cases_with_lesion": frozen.num_cases,
            "sampling": frozen.sampling,
        },
        "verdicts": _verdicts(model.origin) if model.origin else [],
        "test_readings_by_this_run": len(readings.read_text().splitlines())
        if readings.exists()
        else 0,
    }


def _first_weights(model: ModelRef, trained: "TrainedModel") -> str:
    """Return in words whether its judges were unseen by the weights that it began with."""
    from trainer.saved.model_io import unseen

    if model.origin:
        return warning(model.origin.study, model.origin.state, model.origin.trial.params)
    try:
        return unseen(trained, open_store(trained.config.data.store))
    except (ConfigError, OSError):
        return unseen(trained, None)


def _epoch(trained: "TrainedModel") -> str:
    """Return in words which epoch's weights these are."""
    from trainer.saved.model_io import BEST

    if trained.layout:
        return "weights of another program"
    return "best epoch" if trained.path.name == BEST else f"epoch {trained.epoch}"


def _sampled(config: "TrainConfig") -> str:
    """Return in words how validations sample, which need not be as the model is used."""
    if config.model.segments_directly:
        return "as while training"
    how = config.validation_sampling
    return f"sampled as while training (steps {how.timestep_respacing}, masks {how.num_ensemble})"


def _ranked_by(origin: TrialOrigin) -> dict[str, Any] | None:
    """Return the value by which its trial is ranked, beside that of its weights' own epoch."""
    mean = standing(origin.study, origin.trial)
    metric = origin.study.objective.metric
    return mean and {"metric": metric, "value": mean.value, "where": mean.where}


def _verdicts(origin: TrialOrigin) -> list[dict[str, Any]]:
    """Return what `confirm` found of the configuration, trained again with other seeds."""
    number = origin.trial.number if origin.trial.of is None else origin.trial.of
    newest: dict[str, dict[str, Any]] = {}
    for event in origin.state.verdicts:
        scores = [score for score in event["scores"] if score["trial"] == number]
        if scores:
            about = {key: event[key] for key in ("on", "where", "seeds", "folds", "epochs")}
            matches = [c for c in event["comparisons"] if number in (c["trial"], c["other"])]
            label = "of this configuration trained again, not of these weights"
            newest[event["on"]] = {
                "label": label, "metric": metric_name(event), **about, "score": scores[0],
                "comparisons": matches,
            }  # fmt: skip
    return [*newest.values()]


def _provenance(model: ModelRef, trained: "TrainedModel") -> dict[str, Any]:
    from trainer.saved.model_io import fingerprint

    config = trained.config
    return {
        **(
            _trained_in(model.origin, trained.epoch)
            if model.origin
            else {"study": None, "trial": None}
        ),
        "weights": fingerprint(trained.model),
        "weights_file": trained.path.name,
        "epoch": trained.epoch,
        "seed": config.seed,
        "fold": config.data.fold,
        "store_hash": config.data.store_hash,
        "layout": trained.layout,
        "init_from": config.init_from,
        "first_weights": _first_weights(model, trained),
        "exported": {
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "commit": code_commit(),
            "versions": package_versions(),
        },
    }


def _trained_in(origin: TrialOrigin, epoch: int | None) -> dict[str, Any]:
    """Return where weights come from, with the code that trained their epoch."""
    event, trial = origin.state.study, origin.trial
    assert event is not None
    attempt = trial.attempt_at(epoch)
    return {
        "study": origin.study.study,
        "study_uid": event["uid"],
        "trial": trial.number,
        "kind": trial.kind,
        "confirms": trial.of,
        "ending": trial.ending or trial.status(),
        "params": trial.params,
        "commit": attempt.commit if attempt else "",
        "versions": attempt.versions if attempt else {},
        "hosts": trial.hosts,
        "trials_compared": len(ranked(origin.study, origin.state.searched())),
    }


def _requirements() -> str:
    lines = ["# The trainer's packages as they were when this model was exported.\n"]
    for name in PACKAGES:
        # Without `+cpu`: that is an index of its own, and the same version.
        version = importlib.metadata.version(name).partition("+")[0]
        lines.append(f"{name}=={version}\n")
    return "".join(lines)


def _paint(trained: "TrainedModel", folder: Path) -> tuple[list[Path], str]:
    """Draw the fixed validation cases where the data are here; else say why there are none."""
    from trainer.images.sample_images import paint

    store = trained.config.data.store
    try:
        return paint(trained, open_store(store), folder), ""
    except (ConfigError, OSError) as error:
        shutil.rmtree(folder, ignore_errors=True)
        reason = error.lines[0] if isinstance(error, ConfigError) else str(error)
        print(f"note       no pictures: {reason}")
        return [], "the data it was trained on were not where it was exported"


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(to_json(strict(values)) + "\n")
