"""STAPLE against raters whose truth and rates are known, and against an EM voxel by voxel."""

import numpy as np
import pytest
from scipy import ndimage

from trainer.evaluation.staple import FIRST_RATE, MARGIN, staple

SENSITIVITY = np.array([0.95, 0.9, 0.6, 0.55, 0.5])
SPECIFICITY = np.array([0.99, 0.98, 0.97, 0.93, 0.9])


def lesion(shape: tuple[int, ...] = (12, 32, 32)) -> np.ndarray:
    """One compact blob in the middle of `shape`."""
    grid = np.indices(shape) - np.array(shape).reshape(-1, *[1] * len(shape)) / 2
    return (grid[0] / 4) ** 2 + (grid[1] / 9) ** 2 + (grid[2] / 9) ** 2 < 1


def raters(truth: np.ndarray, seed: int = 0) -> np.ndarray:
    """Votes that err independently at each voxel with the known rates, bool (raters, ...)."""
    rng = np.random.default_rng(seed)
    drawn = rng.random((len(SENSITIVITY), *truth.shape))
    right = np.stack(
        [np.where(truth, p, 1 - q) for p, q in zip(SENSITIVITY, SPECIFICITY, strict=True)]
    )
    return drawn < right


def dice(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def plain_em(votes: np.ndarray, rounds: int = 400) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The same algorithm written voxel by voxel in products, over all voxels of `votes`."""
    d = votes.reshape(len(votes), -1)
    p, q, prior = [FIRST_RATE] * len(d), [FIRST_RATE] * len(d), d.mean()
    for _ in range(rounds):
        a, b = np.full(d.shape[1], prior), np.full(d.shape[1], 1 - prior)
        for j, marked in enumerate(d):
            a *= np.where(marked, p[j], 1 - p[j])
            b *= np.where(marked, 1 - q[j], q[j])
        w = a / (a + b)
        p = [w[marked].sum() / w.sum() for marked in d]
        q = [(1 - w)[~marked].sum() / (1 - w).sum() for marked in d]
    return w.reshape(votes.shape[1:]), np.array(p), np.array(q)


@pytest.mark.parametrize("seed", range(3))
def test_a_known_mask_and_known_rates_are_recovered_better_than_by_majority(seed: int) -> None:
    truth = lesion()
    votes = raters(truth, seed)
    found = staple(votes)
    mask, majority = found.posterior >= 0.5, votes.mean(0) >= 0.5
    # The best that can be: the posterior of who knows the rates and the lesion's share.
    odds = np.log(truth.mean() / (1 - truth.mean())) + sum(
        np.where(marked, np.log(p / (1 - q)), np.log((1 - p) / q))
        for marked, p, q in zip(votes, SENSITIVITY, SPECIFICITY, strict=True)
    )
    assert dice(mask, truth) > dice(odds > 0, truth) - 0.01
    assert 1 - dice(mask, truth) < 0.5 * (1 - dice(majority, truth))
    np.testing.assert_allclose(found.sensitivity, SENSITIVITY, atol=0.05)
    np.testing.assert_allclose(found.specificity, SPECIFICITY, atol=0.02)


def test_equals_a_plain_em_over_the_whole_box() -> None:
    """These raters vote everywhere, so that the region is the box."""
    votes = raters(lesion())
    posterior, p, q = plain_em(votes)
    found = staple(votes)
    np.testing.assert_allclose(found.posterior, posterior, atol=1e-6)
    np.testing.assert_allclose(found.sensitivity, p, atol=1e-6)
    np.testing.assert_allclose(found.specificity, q, atol=1e-6)


def test_far_background_does_not_take_part() -> None:
    """Equal to the plain EM over the union of the votes and its margin, and in a larger image."""
    truth = lesion()
    near = ndimage.binary_dilation(truth, iterations=2)
    votes = np.pad(raters(truth) & near, ((0, 0), (MARGIN, MARGIN), (0, 0), (0, 0)))
    union = votes.any(0)
    region = ndimage.binary_dilation(union, np.ones((3, 3, 3)), iterations=MARGIN)
    assert region.mean() < 0.5
    posterior, p, q = plain_em(votes[:, region][:, None])
    found = staple(votes)
    np.testing.assert_allclose(found.posterior[region], posterior[0], atol=1e-6)
    assert not found.posterior[~region].any()
    np.testing.assert_allclose(found.specificity, q, atol=1e-6)
    np.testing.assert_allclose(found.sensitivity, p, atol=1e-6)

    larger = staple(np.pad(votes, ((0, 0), (5, 5), (40, 9), (9, 40))))
    np.testing.assert_array_equal(larger.posterior[5:-5, 40:-9, 9:-40], found.posterior)
    _, _, far = plain_em(votes)
    assert (far > found.specificity + 0.01).any()


def test_nothing_is_found_where_nobody_votes() -> None:
    assert not staple(np.zeros((3, 4, 8, 8), bool)).posterior.any()


def test_raters_who_agree_are_taken_as_they_are() -> None:
    truth = lesion()
    found = staple(np.stack([truth] * 4))
    np.testing.assert_allclose(found.posterior, truth, atol=1e-6)
    assert (found.sensitivity > 0.999).all()
    assert (found.specificity > 0.999).all()


def test_all_vote_for_everything() -> None:
    np.testing.assert_allclose(staple(np.ones((3, 2, 4, 4), bool)).posterior, 1, atol=1e-6)


def test_one_rater_is_believed() -> None:
    truth = lesion()
    np.testing.assert_array_equal(staple(truth[None]).posterior >= 0.5, truth)


def test_a_rater_who_sees_nothing_is_told_from_those_who_agree() -> None:
    truth = lesion()
    found = staple(np.stack([truth, truth, np.zeros_like(truth)]))
    np.testing.assert_array_equal(found.posterior >= 0.5, truth)
    np.testing.assert_allclose(found.sensitivity, [1, 1, 0], atol=1e-6)


def test_more_raters_than_a_byte_has_bits() -> None:
    truth = lesion()
    votes = np.concatenate([raters(truth, seed) for seed in range(3)])
    assert dice(staple(votes).posterior >= 0.5, truth) > 0.99
