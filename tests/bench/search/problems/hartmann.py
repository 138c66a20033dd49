"""Multi-fidelity Hartmann (Kandasamy et al. 2017, arXiv 1703.06240).

With the bias and noise of mf-prior-bench (arXiv 2306.12370): see `Hartmann.loss`.
"""

from collections.abc import Mapping

import numpy as np

from search.study.space import Dimension
from tests.bench.search.problems.problem import EPOCHS, Curve, Params, rng_of

# Hartmann's constants, as in every collection of test functions (Surjanovic & Bingham).
ALPHA = np.array([1.0, 1.2, 3.0, 3.2])
A: Mapping[int, np.ndarray] = {
    3: np.array([[3, 10, 30], [0.1, 10, 35], [3, 10, 30], [0.1, 10, 35]]),
    6: np.array(
        [
            [10, 3, 17, 3.5, 1.7, 8],
            [0.05, 10, 17, 0.1, 8, 14],
            [3, 3.5, 1.7, 10, 17, 8],
            [17, 8, 0.05, 10, 0.1, 14],
        ]
    ),
}
P: Mapping[int, np.ndarray] = {
    3: 1e-4
    * np.array([[3689, 1170, 2673], [4699, 4387, 7470], [1091, 8732, 5547], [381, 5743, 8828]]),
    6: 1e-4
    * np.array(
        [
            [1312, 1696, 5569, 124, 8283, 5886],
            [2329, 4135, 8307, 3736, 1004, 9991],
            [2348, 1451, 3522, 2883, 3047, 6650],
            [4047, 8828, 8732, 5743, 1091, 381],
        ]
    ),
}
MINIMUM = {3: -3.86278, 6: -3.32237}


class Hartmann:
    """Hartmann's function in 3 or 6 dimensions, to be minimised.

    Args:
        dimensions: 3 or 6.
        bias: How far the first epochs' landscape is from the last one's.
        noise: Standard deviation in the first epochs; it falls to 0 at the last.
    """

    metric = "train/loss"

    def __init__(self, dimensions: int, *, bias: float = 2.0, noise: float = 0.3):
        self.name = f"hartmann{dimensions}"
        self.dimensions, self.bias, self.noise = dimensions, bias, noise
        self.space = {
            f"x{i}": Dimension(type="float", low=0.0, high=1.0) for i in range(dimensions)
        }
        points = np.random.default_rng(0).random((10_001, dimensions))
        self.best = MINIMUM[dimensions]
        self.median = float(np.median([self.loss(point, EPOCHS) for point in points]))
        self.seconds = float(EPOCHS)

    def curve(self, params: Params, seed: int) -> Curve:
        rng = rng_of(seed, params)
        point = self._point(params)
        values = [
            self.loss(point, epoch) + self.noise * (1 - epoch / EPOCHS) * rng.gauss(0, 1)
            for epoch in range(1, EPOCHS + 1)
        ]
        step = rng.uniform(0.7, 1.3)  # so that workers do not march in step
        return Curve(values, [step * epoch for epoch in range(1, EPOCHS + 1)])

    def regret(self, params: Params, epoch: int) -> float:
        return (self.loss(self._point(params), epoch) - self.best) / (self.median - self.best)

    def loss(self, point: np.ndarray, epoch: int) -> float:
        """Return -sum_i (alpha_i - bias (1 - z)) exp(-sum_j A_ij (x_j - P_ij)^2).

        z is the share of the epochs.
        """
        alpha = ALPHA - self.bias * (1 - epoch / EPOCHS)
        inner = (A[self.dimensions] * (point - P[self.dimensions]) ** 2).sum(axis=1)
        return float(-(alpha * np.exp(-inner)).sum())

    def _point(self, params: Params) -> np.ndarray:
        return np.array([params[name] for name in self.space])
