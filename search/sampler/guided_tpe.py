"""TPE beside a prior: of its candidates those count for more that the prior thinks likely."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.sampler.distributions import decode
from search.sampler.prior import Prior
from search.sampler.quick_tpe import Encoded, QuickTPE
from search.study.space import Dimension


class GuidedTPE(QuickTPE):
    """Optuna's TPE with a prior. There is no public way to weigh candidates; this is where it does.

    Args:
        encoded: The study's trials.
        space: The study's.
        prior: Is asked about parameters of a trial, some or all.
        power: To which its density counts, beside TPE's l(x) / g(x).
        settings: Optuna's.
    """

    def __init__(
        self,
        encoded: Encoded,
        space: Mapping[str, Dimension],
        prior: Prior,
        power: float,
        **settings: Any,
    ):
        super().__init__(encoded, **settings)
        self._space_of_study = space
        self._prior, self._power = prior, power

    def _compute_acquisition_func(
        self, samples: dict[str, NDArray[np.float64]], mpe_below: Any, mpe_above: Any
    ) -> NDArray[np.float64]:
        values: NDArray[np.float64] = super()._compute_acquisition_func(
            samples, mpe_below, mpe_above
        )
        columns = [self._decoded(name, column) for name, column in samples.items()]
        rows = [dict(zip(samples, row, strict=True)) for row in zip(*columns, strict=True)]
        return values + self._power * np.array([self._prior.log_density(row) for row in rows])

    def _decoded(self, name: str, column: NDArray[np.float64]) -> list[Any]:
        """Return values of a dimension as a study has them; Optuna's are all floats here."""
        dimension = self._space_of_study[name]
        if dimension.type == "float":
            return list(column.tolist())
        return [decode(dimension, round(value)) for value in column.tolist()]
