"""Scoring a case on its native grid: as it is done, and by the formulas that came before.

40 slices of 128 x 128 brought to 512 x 512, with a round lesion, and three predictions: that
lesion; what a diffusion model predicts in its first epochs, smoothed noise all over the head; and
all of the head. Before, the probability was brought to the native grid as a whole, components were
SciPy's, and every distance came from a k-d tree of all surface voxels. Both must give the same
score. Last, what the noise costs against the good prediction. One thread, CPU time, the best of
some turns; reading the masks, the same both ways, is left out.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import astuple

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from tests.bench.row import Row, show
from trainer.data.geometry import Box, to_mask, to_volume
from trainer.evaluation.metrics import MATCH_IOU, CaseScore, score_case

SIZE, NATIVE, SLICES = 128, 512, 40
SIDE_MM = 200.0
SPACING_MM = (SIDE_MM / NATIVE, SIDE_MM / NATIVE, 3.0)
SHAPE = (NATIVE, NATIVE, SLICES)
BOX = Box(SIDE_MM, SIDE_MM, SIDE_MM, 0, SLICES)
MAX_SURFACE = 100_000
Mask = NDArray[np.bool_]
Score = Callable[[NDArray[np.float32], Mask, Mask], CaseScore]


def run() -> Iterator[Row]:
    """Yield rows."""
    truth, brain = _disc(NATIVE, 0.4, 0.6, 0.07), _disc(NATIVE, 0.5, 0.5, 0.46)
    truth[..., : SLICES // 3] = truth[..., SLICES // 2 :] = False
    good = np.zeros((SLICES, SIZE, SIZE), np.float32)
    good[SLICES // 3 : SLICES // 2] = _disc(SIZE, 0.6, 0.4, 0.07)[..., 0].T
    noise = np.random.default_rng(0).normal(0.5, 0.8, good.shape).astype(np.float32)
    took = {}
    for what, prediction, turns in (
        ("good", good, 3),
        ("scattered", ndimage.gaussian_filter(noise, (0, 1.5, 1.5)), 3),
        ("filled", np.ones_like(good), 1),
    ):
        ours, before = _seconds(prediction, truth, brain, turns)
        took[what] = ours
        yield Row(f"scoring a {what} prediction: now / before", "s", ours, before)
    yield Row("scoring: scattered / good prediction", "s", took["scattered"], took["good"])


def _disc(side: int, x: float, y: float, radius: float) -> Mask:
    """Return a cylinder through all slices, by shares of the side, (side, side, SLICES)."""
    i, j = np.mgrid[:side, :side] / side
    return np.repeat(((i - x) ** 2 + (j - y) ** 2 < radius**2)[..., None], SLICES, 2)


def _seconds(
    prediction: NDArray[np.float32], truth: Mask, brain: Mask, turns: int
) -> tuple[float, float]:
    ways: tuple[Score, Score] = (_now, _before)
    best, scores = [float("inf")] * 2, []
    for _ in range(turns):
        for i, way in enumerate(ways):
            begun = time.process_time()
            scores.append(way(prediction, truth, brain))
            best[i] = min(best[i], time.process_time() - begun)
    for score in scores[1:]:
        assert np.allclose(astuple(score)[1:], astuple(scores[0])[1:], rtol=1e-12), scores
    return best[0], best[1]


def _now(prediction: NDArray[np.float32], truth: Mask, brain: Mask) -> CaseScore:
    return score_case(
        "case", truth, to_mask(prediction, 0.5, BOX, SPACING_MM, SHAPE), brain, SPACING_MM
    )


def _before(prediction: NDArray[np.float32], truth: Mask, brain: Mask) -> CaseScore:
    found = to_volume(prediction, BOX, SPACING_MM, SHAPE) >= 0.5
    truth, found = truth & brain, found & brain
    voxel_ml = float(np.prod(SPACING_MM)) / 1000
    lesion, predicted = int(truth.sum()), int(found.sum())
    f1, count_diff = _lesion_f1(truth, found)
    return CaseScore(
        case_id="case",
        dice=2 * int((truth & found).sum()) / (int(truth.sum()) + int(found.sum())),
        avd_ml=abs(lesion - predicted) * voxel_ml,
        lesion_f1=f1,
        lesion_count_diff=count_diff,
        hd95_mm=_hd95_mm(truth, found),
        lesion_ml=lesion * voxel_ml,
        predicted_ml=predicted * voxel_ml,
        false_positive_ml=int((found & ~truth).sum()) * voxel_ml,
        has_lesion=lesion > 0,
    )


def _lesion_f1(truth: Mask, prediction: Mask) -> tuple[float, int]:
    box = ndimage.find_objects((truth | prediction).astype(np.uint8))[0]
    lesions, num_lesions = ndimage.label(truth[box], np.ones((3, 3, 3)))
    found, num_found = ndimage.label(prediction[box], np.ones((3, 3, 3)))
    pairs, overlaps = np.unique(
        np.stack([lesions, found])[:, (lesions > 0) & (found > 0)], axis=1, return_counts=True
    )
    lesion_sizes, found_sizes = np.bincount(lesions.ravel()), np.bincount(found.ravel())
    iou = overlaps / (lesion_sizes[pairs[0]] + found_sizes[pairs[1]] - overlaps)
    # The lesion is one, so that one pair is all that can match.
    return 2 * int((iou >= MATCH_IOU).any()) / (num_lesions + num_found), num_found - num_lesions


def _hd95_mm(truth: Mask, prediction: Mask) -> float:
    box = ndimage.find_objects((truth | prediction).astype(np.uint8))[0]
    a, b = (
        np.argwhere(mask[box] & ~ndimage.binary_erosion(mask[box])) * np.array(SPACING_MM)
        for mask in (truth, prediction)
    )

    def directed(start: NDArray[np.float64], end: NDArray[np.float64]) -> float:
        tree = KDTree(end, balanced_tree=False, compact_nodes=False)
        return float(np.percentile(tree.query(start[:: -(-len(start) // MAX_SURFACE)])[0], 95))

    return max(directed(a, b), directed(b, a))


if __name__ == "__main__":
    show(run())
