"""The README.md of an exported model: what it is for, what it is worth, how it is used.

Its words are in model_card.md.jinja beside this file.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from search.analysis.intervals import TOO_FEW
from search.report.template import filled_in

if TYPE_CHECKING:
    from trainer.saved.model_io import TrainedModel

MEASURES = {
    "val/dice": "Dice",
    "val/avd_ml": "absolute volume difference, mL",
    "val/lesion_f1": "lesion F1",
    "val/hd95_mm": "95 % Hausdorff distance, mm",
    "val/false_positive_ml": "false lesion where there is none, mL",
}


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
    measured = metrics["validation"]["metrics"]
    return filled_in(
        "search.report",
        "model_card.md.jinja",
        name=name,
        config=trained.config,
        sampling=trained.config.sampling,
        inputs=trained.inputs,
        millions=sum(weights.numel() for weights in trained.model.parameters()) / 1e6,
        metrics=metrics,
        too_few=TOO_FEW,
        measured=[
            (key, words, measured[key])
            for key, words in MEASURES.items()
            if measured.get(key) is not None
        ],
        provenance=provenance,
        pictures=pictures,
        why_none=why_none,
    )
