"""A validation: whole cases, predicted on the store's grid, scored on the native one."""

import os
import time
from collections.abc import Callable, Sequence
from statistics import fmean

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from trainer.config import TrainConfig
from trainer.cpus import num_cpus
from trainer.data.batches import rows_of
from trainer.data.inputs import Inputs
from trainer.data.store import Case, Store
from trainer.diffusion.process import Process
from trainer.evaluation.ensemble import (
    fuse,
    in_batches,
    num_members,
    sample_members,
)
from trainer.evaluation.metrics import CaseScore
from trainer.evaluation.scoring import ScoringHere, score_cases
from trainer.evaluation.scoring_process import ScoringProcess
from trainer.models.network import Network
from trainer.progress import bar, tracked
from trainer.randomness import generator
from trainer.training.distributed import world_size


def scores_beside(device: torch.device) -> bool:
    """Say whether a training has the CPU to score beside it: one process on a GPU, with two CPUs.

    Ray tells a trial's CPUs by OMP_NUM_THREADS.
    """
    told = os.environ.get("OMP_NUM_THREADS", "")
    cpus = min(num_cpus(), int(told)) if told.isdecimal() else num_cpus()
    return device.type != "cpu" and world_size() == 1 and cpus > 1


class Validator:
    """Scores weights on a fixed list of cases.

    Attributes:
        case_s: Seconds that sampling a case took, on average over the cases when they were last
            predicted.
    """

    def __init__(
        self,
        store: Store,
        cases: Sequence[Case],
        config: TrainConfig,
        process: Process,
        device: torch.device,
    ):
        self.store = store
        self.cases = cases
        self.config = config
        self.process = process
        self.device = device
        self.inputs = Inputs(store, config, device)
        self.rows = rows_of(cases)
        self.case_s = 0.0
        self._fits: int | None = None

    def validate(
        self,
        model: Network,
        epoch: int,
        *,
        batch_size: int,
        autocast: torch.autocast,
        alive: Callable[[], object] = lambda: None,
    ) -> list[CaseScore]:
        """Predict and score every case; arguments as for `probabilities`."""
        return self.scores(
            self.probabilities(model, epoch, batch_size=batch_size, autocast=autocast, alive=alive)
        )

    def probabilities(
        self,
        model: Network,
        epoch: int,
        *,
        batch_size: int,
        autocast: torch.autocast,
        alive: Callable[[], object] = lambda: None,
        look: Callable[[Case, Tensor], object] = lambda case, members: None,
    ) -> NDArray[np.float32]:
        """Predict every slice of the cases.

        Args:
            model: The weights to judge.
            epoch: Names the noise: every trial sees the same at an epoch, and fresh at the next.
            batch_size: Masks sampled together, slices times members, across cases; halved while
                they do not fit.
            autocast: Precision of the model's forward passes.
            alive: Called between batches.
            look: Is shown all members of each case, (members, slices, H, W), in order; its time
                does not count.

        Returns:
            Lesion probability in the order of `rows`, float32 (n, H, W).
        """
        if not self.cases:  # more processes than cases
            return np.empty((0, self.store.image_size, self.store.image_size), np.float32)
        begun = time.perf_counter()
        model.eval()
        sampling = self.config.validation_sampling
        names = [(case.case_id, index) for case in self.cases for index in range(case.num_slices)]
        count = num_members(model, sampling)

        def sample_some(members: range, slices: range) -> Tensor:
            alive()
            rows = self.rows[slices.start : slices.stop]
            masks = sample_members(
                model,
                self.inputs.window(self.inputs.gather(rows).to(self.device)),
                process=self.process,
                sampling=sampling,
                noise=[
                    [
                        generator(self.config.seed, "validate", *names[index], epoch, member)
                        for index in slices
                    ]
                    for member in members
                ],
                autocast=autocast,
            ).cpu()
            advance(len(members) * len(slices))
            return masks

        with bar("sampling", len(self.rows) * count) as advance:
            most = batch_size if self._fits is None else min(batch_size, self._fits)
            batches = in_batches(len(self.rows), count, most, sample_some, self._remember)
            # A batch may end within a case, and STAPLE needs all of it.
            sampled, probabilities = next(batches), []
            for case in self.cases:
                while sampled.shape[1] < case.num_slices:
                    sampled = torch.cat([sampled, next(batches)], 1)
                complete = sampled[:, : case.num_slices]
                probabilities.append(fuse(complete, sampling.fuse).probability.numpy())
                looked = time.perf_counter()
                look(case, complete)
                begun += time.perf_counter() - looked
                sampled = sampled[:, case.num_slices :]
        self.case_s = (time.perf_counter() - begun) / len(self.cases)
        return np.concatenate(probabilities)

    def _remember(self, batch_size: int) -> None:
        """Begin the next validation with a batch that is known not to be too large."""
        self._fits = batch_size

    def scores(
        self, probability: NDArray[np.float32], thresholds: Sequence[float] | None = None
    ) -> list[CaseScore]:
        """Score what `probabilities` predicted, at the configured threshold or at each case's."""
        fixed = [self.config.sampling.threshold] * len(self.cases)
        return score_cases(
            self.store, tracked(self.cases, "scoring"), probability, thresholds or fixed
        )

    def scoring(self) -> ScoringHere | ScoringProcess:
        """Return what scores one validation after the other, beside the training if it can."""
        scoring = ScoringProcess if scores_beside(self.device) else ScoringHere
        return scoring(self.store, self.cases, self.config.sampling.threshold)

    def to_native(self, case: Case, probability: NDArray[np.float32]) -> NDArray[np.float32]:
        """Bring one case's part of what `probabilities` predicted to its native grid."""
        rows = np.searchsorted(self.rows, case.rows)
        return self.store.to_native(case, probability[rows])


def summarize(scores: Sequence[CaseScore]) -> dict[str, float]:
    """Return the averages of `means` as a validation's metrics, `val/dice` and so on."""
    metrics = {f"val/{name}": value for name, value in means(scores).items()}
    assert "val/dice" in metrics, "a validation fold without lesion says nothing about Dice"
    return metrics


def means(scores: Sequence[CaseScore]) -> dict[str, float]:
    """Average some cases, at least one.

    `dice` averages the cases that have a lesion, `dice_official` all of them with 1 where both
    masks are empty, `false_positive_ml` the cases without lesion; what there are no cases for is
    absent. The others average all cases.
    """
    with_lesion = [s for s in scores if s.has_lesion]
    empty = [s for s in scores if not s.has_lesion]
    averages = {"dice": fmean(s.dice for s in with_lesion)} if with_lesion else {}
    averages |= {
        "dice_official": fmean(s.dice for s in scores),
        "avd_ml": fmean(s.avd_ml for s in scores),
        "lesion_f1": fmean(s.lesion_f1 for s in scores),
        "lesion_count_diff": fmean(s.lesion_count_diff for s in scores),
        "hd95_mm": fmean(s.hd95_mm for s in scores),
    }
    if empty:
        averages["false_positive_ml"] = fmean(s.false_positive_ml for s in empty)
    return averages
