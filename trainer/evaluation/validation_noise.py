"""How much a validation varies when nothing but its noise is drawn again."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from trainer.data.store import Case, Store
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.validate import Validator, summarize
from trainer.saved.model_io import TrainedModel

DRAWS = 5
FIRST = 1_000_000
"""In the place of an epoch, the first draw: no training's, so that no validation is repeated."""
BATCH = 32
"""Masks sampled together, where they fit."""


@dataclass(frozen=True)
class Spread:
    """A metric over draws of the noise."""

    mean: float
    std: float
    """With n - 1 in the denominator."""


def validation_noise(
    trained: TrainedModel, store: Store, cases: Sequence[Case], draws: int = DRAWS
) -> dict[str, Spread]:
    """Validate the same weights several times, as a training's validations do, with fresh noise.

    Args:
        trained: The weights, and in `config.validation` how they are judged.
        store: The data, the same that the model was trained on.
        cases: The validation cases, at least one of them with a lesion.
        draws: How often, at least twice.

    Returns:
        For each metric of a validation, `val/dice` and so on, its spread; all 0 for a model that
        segments directly, which draws nothing.
    """
    validations = [summarize(scores) for scores in redrawn(trained, store, cases, draws)]
    return {
        name: Spread(fmean(values), stdev(values))
        for name in validations[0]
        if (values := [each[name] for each in validations])
    }


def redrawn(
    trained: TrainedModel, store: Store, cases: Sequence[Case], draws: int
) -> Iterator[list[CaseScore]]:
    """Yield the scores of the cases for each draw of the noise; arguments as `validation_noise`."""
    validator = Validator(store, cases, trained.config, trained.process, trained.device)
    for draw in range(draws):
        yield validator.validate(
            trained.model, FIRST + draw, batch_size=BATCH, autocast=trained.autocast
        )
