"""ISLES24's metrics against panoptica, which the official evaluation calls, and closed forms."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from scipy.spatial import KDTree

from trainer.evaluation import metrics, surface_distance
from trainer.evaluation.metrics import dice, lesion_f1, score_case
from trainer.evaluation.surface_distance import hd95_mm

SPACING_MM = (0.5, 0.8, 2.0)


def blobs(seed: int, share: float) -> np.ndarray:
    """A random mask of several components, bool (24, 20, 12)."""
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal((24, 20, 12)), 1.2)
    return noise > np.quantile(noise, 1 - share)


@pytest.mark.parametrize("seed", range(8))
def test_equals_the_official_evaluation(seed: int) -> None:
    panoptica = pytest.importorskip("panoptica")
    truth = blobs(seed, 0.06)
    # Overlaps of every degree: the truth moved a little, with other blobs added.
    prediction = np.roll(truth, 1 + seed % 2, axis=seed % 3) | blobs(100 + seed, 0.02)
    evaluator = panoptica.Panoptica_Evaluator(
        expected_input=panoptica.InputType.SEMANTIC,
        instance_approximator=panoptica.ConnectedComponentsInstanceApproximator(),
        instance_matcher=panoptica.NaiveThresholdMatching(matching_threshold=0.2),
    )
    result = evaluator.evaluate(prediction.astype(np.uint8), truth.astype(np.uint8), verbose=False)
    result = next(iter(result.values()))

    f1, count_diff = lesion_f1(truth, prediction)
    assert 0 < f1 < 1
    assert f1 == pytest.approx(result.rq)
    assert count_diff == abs(result.n_ref_instances - result.n_pred_instances)
    assert dice(truth, prediction) == pytest.approx(result.global_bin_dsc)


def test_volumes_are_in_ml_and_only_the_brain_counts() -> None:
    truth, prediction, brain = np.zeros((3, 10, 10, 10), bool)
    truth[2:4, 2:7, 2:7] = True  # 50 voxels
    prediction[3:5, 2:7, 2:7] = True  # 50 voxels, 25 of them right
    brain[:4] = True  # leaves out the 25 wrong ones
    score = score_case("a", truth, prediction, brain, SPACING_MM)
    voxel_ml = 0.5 * 0.8 * 2.0 / 1000
    assert score.lesion_ml == pytest.approx(50 * voxel_ml)
    assert score.predicted_ml == pytest.approx(25 * voxel_ml)
    assert score.avd_ml == pytest.approx(25 * voxel_ml)
    assert score.false_positive_ml == 0
    assert score.dice == pytest.approx(2 * 25 / 75)
    assert score.has_lesion


def test_metrics_of_empty_masks() -> None:
    nothing, something = np.zeros((4, 4, 4), bool), np.eye(4, dtype=bool)[None].repeat(4, 0)
    brain = np.ones((4, 4, 4), bool)
    both = score_case("a", nothing, nothing, brain, SPACING_MM)
    assert (both.dice, both.lesion_f1, both.lesion_count_diff, both.avd_ml) == (1, 1, 0, 0)
    assert both.hd95_mm == 0
    missed = score_case("a", something, nothing, brain, SPACING_MM)
    assert (missed.dice, missed.lesion_f1, missed.lesion_count_diff) == (0, 0, 1)
    invented = score_case("a", nothing, something, brain, SPACING_MM)
    assert (invented.dice, invented.lesion_f1, invented.has_lesion) == (0, 0, False)
    assert invented.false_positive_ml == pytest.approx(16 * 0.0008)
    # The diagonal of the brain's box, not of the image.
    brain[:, :2], brain[3:] = False, False
    invented = score_case("a", nothing, something, brain, SPACING_MM)
    missed = score_case("a", something, nothing, brain, SPACING_MM)
    diagonal_mm = ((3 * 0.5) ** 2 + (2 * 0.8) ** 2 + (4 * 2.0) ** 2) ** 0.5
    assert invented.hd95_mm == missed.hd95_mm == pytest.approx(diagonal_mm)


def test_a_component_is_matched_once() -> None:
    truth, prediction = np.zeros((2, 9, 3, 3), bool)
    truth[0:4, 1, 1] = truth[5:9, 1, 1] = True  # two lesions
    prediction[0:9, 1, 1] = True  # bridged by one component, IoU 4/9 with each
    assert lesion_f1(truth, prediction) == (2 * 1 / 3, 1)


@pytest.mark.parametrize("seed", range(6))
def test_hd95_equals_monai_and_a_brute_force(seed: int) -> None:
    from monai.metrics.hausdorff_distance import HausdorffDistanceMetric

    truth = blobs(seed, 0.05)
    prediction = np.roll(truth, 1 + seed, axis=seed % 3) | blobs(100 + seed, 0.01)
    found = hd95_mm(truth, prediction, SPACING_MM)
    assert found > 0

    metric = HausdorffDistanceMetric(include_background=True, percentile=95)
    monai = metric(
        torch.from_numpy(prediction)[None, None].float(),
        torch.from_numpy(truth)[None, None].float(),
        spacing=SPACING_MM,
    )
    assert found == pytest.approx(float(monai), rel=1e-5)

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        inside = np.ones_like(mask)
        for axis in range(3):
            for shift in (-1, 1):
                inside &= np.roll(padded, shift, axis)[1:-1, 1:-1, 1:-1]
        return np.argwhere(mask & ~inside) * SPACING_MM

    a, b = surface(truth), surface(prediction)
    distances = np.linalg.norm(a[:, None] - b[None], axis=-1)
    brute = max(np.percentile(distances.min(1), 95), np.percentile(distances.min(0), 95))
    assert found == pytest.approx(brute)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("cell_mm", [0.9, 3.0, 100.0])
@pytest.mark.one_in(5)
def test_hd95_is_the_same_however_it_is_found(
    seed: int, cell_mm: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By a tree of everything, by the neighbourhood of each voxel, and with few distances taken.

    The neighbourhood ends before the nearest voxel in some of these, and a tree goes on.
    """
    rng = np.random.default_rng(seed)
    truth, prediction = blobs(seed, 0.04), rng.random((24, 20, 12)) < 0.02 * (1 + seed)
    if seed % 2:  # nothing near the lesion
        prediction &= ndimage.distance_transform_edt(~truth, sampling=SPACING_MM) > 3
    a, b = (
        np.argwhere(mask & ~ndimage.binary_erosion(mask)) * SPACING_MM
        for mask in (truth, prediction)
    )
    expected = max(
        np.percentile(KDTree(end).query(start)[0], 95) for start, end in ((a, b), (b, a))
    )
    monkeypatch.setattr(surface_distance, "CELL_MM", cell_mm)
    for dense, near_mm in ((10**9, 5.0), (0, 2.1), (0, 5.0), (0, 40.0)):
        monkeypatch.setattr(surface_distance, "DENSE", dense)
        monkeypatch.setattr(surface_distance, "NEAR_MM", near_mm)
        assert hd95_mm(truth, prediction, SPACING_MM) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("share", [0.001, 0.1, 0.3, 0.9])
def test_components_and_sizes_are_those_of_scipy(
    share: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In noise, where one component holds nearly all and others are single voxels."""
    truth, prediction = blobs(1, 0.1), np.random.default_rng(0).random((24, 20, 12)) < share
    prediction |= truth & (np.arange(24) % 7 > 0)[:, None, None]
    lesions, num_lesions = ndimage.label(truth, np.ones((3, 3, 3)))
    found, num_found = ndimage.label(prediction, np.ones((3, 3, 3)))
    iou = sorted(
        (
            (np.sum((lesions == i) & (found == j)) / np.sum((lesions == i) | (found == j)), i, j)
            for i in range(1, num_lesions + 1)
            for j in np.unique(found[lesions == i])
            if j
        ),
        reverse=True,
    )
    matched: list[tuple[int, int]] = []
    for value, i, j in iou:
        if value >= 0.2 and all(i != a and j != b for a, b in matched):
            matched.append((i, j))
    expected = 2 * len(matched) / (num_lesions + num_found), abs(num_lesions - num_found)
    for few in (0, 100):
        monkeypatch.setattr(metrics, "FEW", few)
        monkeypatch.setattr(metrics, "LABELS_AT_ONCE", 1000)
        assert lesion_f1(truth, prediction) == expected


def test_lesions_of_one_voxels_width_are_counted() -> None:
    """In any direction, which are views of other strides."""
    for axis in range(3):
        truth = np.zeros((9, 9, 9), bool)
        line = np.moveaxis(truth, axis, 0)
        line[0:4, 1, 1] = line[5:9, 1, 1] = line[2, 6, 6] = True
        assert lesion_f1(truth, truth) == (1, 0)
        assert lesion_f1(truth, np.zeros_like(truth)) == (0, 3)


def test_hd95_in_closed_form() -> None:
    """Two parallel plates, 3 slices of 2 mm apart."""
    truth, prediction = np.zeros((2, 6, 6, 8), bool)
    truth[..., 1] = prediction[..., 4] = True
    assert hd95_mm(truth, prediction, SPACING_MM) == pytest.approx(6)
    assert hd95_mm(truth, truth, SPACING_MM) == 0


def test_hd95_of_noise_is_quick_and_nearly_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    truth, noise = blobs(0, 0.05), rng.random((24, 20, 12)) < 0.3
    exact = hd95_mm(truth, noise, SPACING_MM)
    monkeypatch.setattr(surface_distance, "MAX_SURFACE", 300)
    assert hd95_mm(truth, noise, SPACING_MM) == pytest.approx(exact, rel=0.1)
