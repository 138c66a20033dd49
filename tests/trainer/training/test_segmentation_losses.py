"""Each segmentation loss of mask logits against MONAI, scipy or its formula."""

import numpy as np
import pytest
import torch
from monai.losses import BoundaryLoss, DiceLoss, FocalLoss, TverskyLoss
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from tests.trainer.training.test_losses import masks, normal
from trainer.training.losses import (
    SEGMENTATION,
    boundary_loss,
    focal_loss,
    soft_dice_loss,
    tversky_loss,
)


def disc(size: int, radius: float) -> Tensor:
    """Logits-shaped mask (1, 1, size, size) of a disc; the radius is a share of the side."""
    y, x = torch.meshgrid(*[(torch.arange(size) + 0.5) / size - 0.5] * 2, indexing="ij")
    return (x**2 + y**2 <= radius**2).double()[None, None]


def test_dice_and_tversky_equal_monai_at_their_smoothing():
    logits, mask = normal(0), (masks() > 0).double()
    dice = DiceLoss(sigmoid=True, smooth_nr=0.064, smooth_dr=0.064, reduction="none")
    torch.testing.assert_close(soft_dice_loss(logits, mask), dice(logits, mask).flatten())
    tversky = TverskyLoss(
        sigmoid=True, alpha=0.3, beta=0.7, smooth_nr=0.032, smooth_dr=0.032, reduction="none"
    )
    torch.testing.assert_close(tversky_loss(logits, mask), tversky(logits, mask).flatten())

    prob, truth, axes = 1 / (1 + np.exp(-logits.numpy())), mask.numpy(), (1, 2, 3)
    overlap = (prob * truth).sum(axes)
    missed, false = ((1 - prob) * truth).sum(axes), (prob * (1 - truth)).sum(axes)
    index = (overlap + 0.032) / (overlap + 0.7 * missed + 0.3 * false + 0.032)
    np.testing.assert_allclose(tversky_loss(logits, mask).numpy(), 1 - index, rtol=1e-12)


def test_tversky_minds_a_missed_pixel_more_than_a_false_one():
    mask = disc(32, 0.25)
    shrunk, grown = disc(32, 0.2), disc(32, 0.25).roll(0)
    extra = int(mask.sum() - shrunk.sum())
    grown.view(-1)[:extra] = 1  # as many false pixels as shrunk misses
    missed, false = (tversky_loss(80 * m - 40, mask).item() for m in (shrunk, grown))
    assert missed > 1.5 * false > 0


def test_focal_equals_monai_and_its_formula():
    logits, mask = 2 * normal(0), (masks() > 0).double()
    ours = focal_loss(logits, mask)
    monai = FocalLoss(gamma=2.0, reduction="none")(logits, mask).mean(dim=(1, 2, 3))
    torch.testing.assert_close(ours.float(), monai)
    prob = 1 / (1 + np.exp(-logits.numpy()))
    true = np.where(mask.numpy() > 0, prob, 1 - prob)
    np.testing.assert_allclose(
        ours.numpy(), (-((1 - true) ** 2) * np.log(true)).mean((1, 2, 3)), rtol=1e-12
    )


def test_boundary_equals_monai_above_its_minimum_and_scipys_distances():
    logits, mask = normal(0), (masks() > 0).double()
    mask[1, 0, 4:, 3:7] = 1
    ours, prob = boundary_loss(logits, mask), torch.sigmoid(logits)

    monai = BoundaryLoss(reduction="none")
    offset = 0.5 * (prob - mask).mean(dim=(1, 2, 3))
    above = (monai(prob, mask) - monai(mask, mask)).flatten() - offset
    torch.testing.assert_close(ours[:2], above[:2] / 8)

    for i in range(2):
        inside = mask[i, 0].numpy() > 0
        distance = np.where(
            inside, 0.5 - distance_transform_edt(inside), distance_transform_edt(~inside) - 0.5
        )
        wrong = (prob[i, 0] - mask[i, 0]).numpy()
        np.testing.assert_allclose(ours[i].item(), (wrong * distance).mean() / 8, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_mask_without_outline_has_no_boundary_loss_and_no_gradient(value):
    logits = (10 * normal(0)).requires_grad_()
    loss = boundary_loss(logits, torch.full_like(logits, value))
    loss.sum().backward()
    assert not loss.any() and not logits.grad.any()


def test_boundary_is_0_for_the_perfect_mask_only_even_of_a_single_pixel():
    for mask in [disc(32, 0.3), masks()[:1].gt(0).double()]:
        perfect = boundary_loss(80 * mask - 40, mask).item()
        nothing, all_of_it = (
            boundary_loss(torch.full_like(mask, z), mask).item() for z in (-40, 40)
        )
        assert perfect == pytest.approx(0, abs=1e-12)
        assert nothing > 1e-5 and all_of_it > 1e-2


def test_boundary_and_the_others_do_not_depend_on_the_image_size():
    for name, criterion in SEGMENTATION.items():
        small, large = (
            criterion(6 * disc(size, 0.2).roll(size // 16, dims=2) - 3, disc(size, 0.3)).item()
            for size in (64, 256)
        )
        assert large == pytest.approx(small, rel=0.05), name


@pytest.mark.parametrize("name", SEGMENTATION)
@pytest.mark.parametrize("size", [1.0, 1e3, 1e30])
@pytest.mark.parametrize("empty", [False, True])
def test_gradients_are_finite_at_extreme_logits(name, size, empty):
    mask = torch.zeros(3, 1, 8, 8) if empty else (masks(torch.float32) > 0).float()
    logits = (size * normal(0, torch.float32)).requires_grad_()
    loss = SEGMENTATION[name](logits, mask)
    assert loss.isfinite().all() and (loss >= 0).all()
    loss.sum().backward()
    assert logits.grad.isfinite().all()
