"""The README.md of an exported model: what it is for, what it is worth, how it is used."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trainer.saved.model_io import TrainedModel

MEASURES = {
    "val/dice": "Dice",
    "val/avd_ml": "absolute volume difference, mL",
    "val/lesion_f1": "lesion F1",
    "val/hd95_mm": "95 % Hausdorff distance, mm",
    "val/false_positive_ml": "false lesion where there is none, mL",
}

NOT_A_DEVICE = """\
> **Research only: not a medical device.** No authority has cleared or approved it, it was not
> validated for clinical use, and nothing it draws may decide how a patient is treated."""

LIMITS = """\
- The numbers above are of the fold on which epochs, trials and the threshold were chosen:
  optimistic. On patients that had no part in that, expect less.
- It knows one data set. Other scanners, protocols, hospitals, patient groups and diseases were not
  tried; it gives a mask for any image, also for one that it knows nothing about.
- It sees slices, not the volume, and misses small lesions more often than large ones.
- Its probability is not calibrated, and the deviation of an ensemble tells how much its masks
  differ, not how wrong they are.
- A person who knows these images must look at each mask."""


def model_card(
    name: str,
    trained: "TrainedModel",
    metrics: Mapping[str, Any],
    provenance: Mapping[str, Any],
    pictures: Sequence[str],
    why_none: str,
) -> str:
    """Return the card as Markdown.

    Args:
        name: Of the model.
        trained: The model as it is exported.
        metrics: metrics.json.
        provenance: provenance.json.
        pictures: Paths below the card.
        why_none: Where there are none, the reason.
    """
    parts = [f"# {name}", _summary(trained), NOT_A_DEVICE, _pictures(pictures, why_none)]
    parts += ["## Intended use", _use(trained)]
    parts += ["## How to predict", _how(trained)]
    parts += ["## How good it is", *_numbers(metrics)]
    parts += ["## Limits", LIMITS]
    parts += ["## Where it comes from", _origin(provenance)]
    parts += ["## Files", _files(bool(pictures))]
    return "\n\n".join(parts) + "\n"


def _summary(trained: "TrainedModel") -> str:
    config, inputs = trained.config, trained.inputs
    millions = sum(p.numel() for p in trained.model.parameters()) / 1e6
    kind = "segments directly"
    if not config.model.segments_directly:
        s = config.sampling
        eta = f", eta {s.eta:g}" if s.method == "ddim" else ""
        kind = (
            f"a diffusion model: {s.method}, {_steps(s.timestep_respacing)}{eta}, "
            f"{_count(s.num_ensemble, 'mask')} a case"
        )
    return (
        f"Draws lesions on {', '.join(inputs.modalities)}. {config.model.family}, "
        f"{millions:.2f} million weights, {kind}; threshold {config.sampling.threshold:g}."
    )


def _steps(respacing: int | str) -> str:
    return _count(respacing, "step") if isinstance(respacing, int) else f"steps {respacing}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'s' * (number != 1)}"


def _pictures(pictures: Sequence[str], why_none: str) -> str:
    if not pictures:
        return f"*No picture: {why_none}.*"
    panels = [path for path in pictures if not path.endswith("-path.png")]
    lines = [f"![a validation case]({path})" for path in panels]
    lines += [f"![from noise to a mask]({path})" for path in pictures if path not in panels][-1:]
    return "\n\n".join([*lines, "*Cases of the validation fold, which chose this model.*"])


def _use(trained: "TrainedModel") -> str:
    rows = ["| channel | window that becomes -1 to 1 |", "|---|---|"]
    for modality, (low, high) in zip(
        trained.inputs.modalities, trained.inputs.windows, strict=True
    ):
        rows.append(f"| {modality} | {low:g} to {high:g} |")
    size, context = trained.inputs.image_size, trained.inputs.context_slices
    neighbours = f", each with {context} neighbours on either side" if context else ""
    return "\n".join(
        [
            "Research into segmenting lesions in images like those that it was trained on: the "
            "same modalities,",
            "prepared the same way, of patients like those of its data set. Any other use is "
            "untested.",
            "",
            *rows,
            "",
            f"Slices of {size} x {size} pixels{neighbours}; the mask is given on the input's own "
            "grid.",
        ]
    )


def _how(trained: "TrainedModel") -> str:
    files = " ".join(f"{name}={name}.nii.gz" for name in trained.inputs.modalities)
    return "\n".join(
        [
            "With segtune of the commit below, and no more of its packages than the trainer's:",
            "",
            "```",
            "pip install -r requirements.txt && pip install --no-deps SEGTUNE",
            f"segtune predict . {files} mask.nii.gz --uncertainty",
            "sha256sum -c checksums.txt",
            "```",
            "",
            "The same files give the same mask, bit for bit, on the same kind of processor. "
            "`segtune evaluate . --store STORE` scores it on data that `segtune prepare` made.",
        ]
    )


def _numbers(metrics: Mapping[str, Any]) -> list[str]:
    validation, frozen = metrics["validation"], metrics["threshold"]
    rows = [f"| {validation['label']} | |", "|---|---|"]
    for key, words in MEASURES.items():
        if (value := validation["metrics"].get(key)) is not None:
            interval = ""
            if key == "val/dice" and validation["dice_interval"]:
                low, high = validation["dice_interval"]
                interval = (
                    f" [{low:.3f}, {high:.3f}], bootstrap over "
                    f"{validation['num_cases_with_lesion']} cases"
                )
            rows.append(f"| {words} | {value:.3f}{interval} |")
    parts = ["\n".join(rows)] if len(rows) > 2 else [f"{validation['label']}: not at hand."]
    if frozen:
        parts.append(
            f"Threshold {frozen['threshold']:g}, {frozen['label']}: Dice {frozen['dice']:.3f} of "
            f"{frozen['num_cases_with_lesion']} cases with lesion, sampled as above."
        )
    parts += [_verdict(verdict) for verdict in metrics["verdicts"]]
    if count := metrics["test_readings_by_this_run"]:
        parts.append(f"This run has read the sealed test set {_count(count, 'time')}.")
    elif not any(verdict["on"] == "test" for verdict in metrics["verdicts"]):
        parts.append("The sealed test set has not been read with it.")
    return parts


def _verdict(verdict: Mapping[str, Any]) -> str:
    score = verdict["score"]
    low, high = score["interval"]
    lines = [
        f"Confirmed {verdict['where']} ({verdict['label']}; seeds "
        f"{', '.join(map(str, verdict['seeds']))}): Dice {score['mean']:.3f} "
        f"[{low:.3f}, {high:.3f}]."
    ]
    for match in verdict["comparisons"]:
        if match["verdict"] != "none":
            low, high = match["interval"]
            lines.append(
                f"- trial {match['trial']} against trial {match['other']} ({match['family']}): "
                f"{match['verdict']}, {match['mean']:+.3f} [{low:+.3f}, {high:+.3f}]"
            )
    return "\n".join(lines)


def _origin(provenance: Mapping[str, Any]) -> str:
    if provenance["study"] is None:
        of = "a run outside any study"
    else:
        of = (
            f"study {provenance['study']} (uid {provenance['study_uid']}), trial "
            f"{provenance['trial']}, one of {provenance['trials_compared']} that were compared"
        )
    exported = provenance["exported"]
    rows = {
        "trained in": of,
        "epoch, seed, fold": f"{provenance['epoch']}, {provenance['seed']}, {provenance['fold']}",
        "training data (content hash)": f"`{provenance['store_hash']}`",
        "weights": f"`{provenance['weights']}`, averaged (EMA), of {provenance['weights_file']}",
        "commit": f"`{provenance.get('commit') or 'unknown'}`, exported with "
        f"`{exported['commit'] or 'unknown'}`",
        "exported": exported["created"],
    }
    table = ["| | |", "|---|---|", *(f"| {key} | {value} |" for key, value in rows.items())]
    rights = (
        "The training data's terms bind what may be done with weights that were learned from them."
    )
    return "\n".join([*table, "", rights])


def _files(has_pictures: bool) -> str:
    files = {
        "model.safetensors": "the weights; no code",
        "config.yaml": "every setting, `sampling` and `sampling.threshold` among them",
        "metrics.json": "what was measured, each number with what it is worth",
        "provenance.json": "study, trial, commits, versions, data",
        "requirements.txt": "the trainer's packages, exact versions",
        "checksums.txt": "SHA-256 of all of these; `predict` checks them",
    }
    if has_pictures:
        files["samples/"] = "the pictures above"
    return "\n".join(f"- `{name}`: {what}" for name, what in files.items())
