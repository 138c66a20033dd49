"""Training losses: one value per sample and term; `trainer.training.loss_weighting` weighs them."""

import torch
from torch import Tensor
from torch.nn import functional as F

from trainer.config import LossConfig
from trainer.diffusion.process import Process, at_least_float32
from trainer.diffusion.vlb import vb_term
from trainer.diffusion.weighting import error_scale

DICE_SMOOTHING = 1e-3
"""Share of a slice's pixels added to Dice's numerator and denominator (see soft_dice_loss)."""

TVERSKY_MISSED = 0.7
"""Weight of a missed lesion pixel; a false one has the rest (see tversky_loss)."""


def term_names(
    config: LossConfig, *, segments_directly: bool, has_anchor: bool, learned_range: bool
) -> tuple[str, ...]:
    """Return the terms that are paid; one whose weight is 0 is left out.

    Args:
        config: The weights.
        segments_directly: The network ignores diffusion: neither noise nor vb.
        has_anchor: The network has a Condition U-Net with a mask head (medsegdiff_v2): anchor.
        learned_range: The network's second channel is the variance: vb, whatever the weights.
    """
    names = []
    if config.noise > 0 and not segments_directly:
        names.append("noise")
    if learned_range and not segments_directly:
        names.append("vb")
    names += config.segmentation
    if has_anchor and config.anchor > 0:
        names.append("anchor")
    return tuple(names)


def loss_terms(
    output: Tensor,
    *,
    process: Process,
    x_start: Tensor,
    x_t: Tensor,
    noise: Tensor,
    t: Tensor,
    config: LossConfig,
    segments_directly: bool,
    anchor_logits: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the raw loss terms of each sample, those of `term_names` in its order.

    noise is the error on the diffusion target, weighted over the timesteps; vb trains a learned
    variance; dice, bce, focal, tversky and boundary compare the predicted mask's logits with the
    mask. With target eps, a sample with less signal than config.snr_gate has exactly 0 of these
    five and no gradient from them: there x_start is the output magnified by up to 20,000.

    anchor is medsegdiff_v2's Dice + anchor_beta * cross-entropy of the Condition U-Net's own mask
    (Wu et al. 2024, arXiv 2301.11798), where t is a multiple of config.anchor_alpha, and exactly 0
    elsewhere. That U-Net sees no t, and t is drawn per image: so it is paid for a random
    1/anchor_alpha of the images, and its mean is that share of what it would be on all of them.

    Args:
        output: Network output, (b, 1 or 2, H, W), the second channel a learned variance; mask
            logits (b, 1, H, W) if segments_directly.
        process: The diffusion process.
        x_start: Clean mask, -1 or 1, (b, 1, H, W).
        x_t: Noisy mask that the network saw, (b, 1, H, W).
        noise: Noise in x_t, (b, 1, H, W).
        t: Timesteps, int64, (b,).
        config: Which terms, and the gate.
        segments_directly: The network ignores diffusion: no noise term, no gate.
        anchor_logits: Mask logits of the Condition U-Net, (b, 1, H, W); None if there is none.

    Returns:
        Terms by name, each (b,) and >= 0, float32 (float64 for float64 output).
    """
    output = at_least_float32(output)
    names = term_names(
        config,
        segments_directly=segments_directly,
        has_anchor=anchor_logits is not None,
        learned_range=process.output_channels == 2,
    )
    terms = {}
    if "noise" in names:
        error = process.prediction(output) - process.target(x_start, noise, t)
        scale = error_scale(process, t, config).to(error.dtype)
        terms["noise"] = noise_loss(scale[:, None, None, None] * error, config)
    if "vb" in names:
        terms["vb"] = vb_term(process, output, x_start=x_start, x_t=x_t, t=t)
    mask = (x_start > 0).to(output.dtype)
    if config.segmentation:
        gated = process.predicts == "eps" and not segments_directly
        opens = process.snr(t) >= config.snr_gate if gated else torch.ones_like(t, dtype=torch.bool)
        # Selected before the division by a_t and again after the loss: a magnified or non-finite
        # output behind a closed gate would otherwise reach the gradient as 0 * inf.
        output = torch.where(opens[:, None, None, None], output, 0)
        logits = output if segments_directly else process.logits(output, x_t, t)
        for name in config.segmentation:
            terms[name] = torch.where(opens, SEGMENTATION[name](logits, mask), 0)
    if "anchor" in names:
        assert anchor_logits is not None
        paid = t % config.anchor_alpha == 0
        logits = torch.where(paid[:, None, None, None], at_least_float32(anchor_logits), 0)
        anchor = soft_dice_loss(logits, mask) + config.anchor_beta * cross_entropy(logits, mask)
        terms["anchor"] = torch.where(paid, anchor, 0)
    assert tuple(terms) == names
    return terms


def noise_loss(error: Tensor, config: LossConfig) -> Tensor:
    """Return config.noise_loss of an error (b, 1, H, W) against 0, mean over pixels, (b,)."""
    match config.noise_loss:
        case "mse":
            pixels = error.square()
        case "l1":
            pixels = error.abs()
        case "huber":
            pixels = F.huber_loss(error, torch.zeros_like(error), reduction="none")
    return pixels.mean(dim=(1, 2, 3))


def soft_dice_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - soft Dice of each sample.

    Numerator and denominator carry 0.1 % of the slice's pixels (4 of 64 x 64). So an empty slice
    costs 0 when nothing is predicted and rises smoothly with the predicted area, rather than
    jumping to 1 at the first false pixel, and equally at every image size.

    Args:
        logits: Mask logits, (b, 1, H, W).
        mask: 0 or 1, (b, 1, H, W).

    Returns:
        Loss in [0, 1), (b,).
    """
    prob = torch.sigmoid(logits)
    smoothing = DICE_SMOOTHING * mask[0].numel()
    overlap = (prob * mask).sum(dim=(1, 2, 3))
    total = (prob + mask).sum(dim=(1, 2, 3))
    return 1 - (2 * overlap + smoothing) / (total + smoothing)


def cross_entropy(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the binary cross-entropy of each sample in nats, mean over pixels, (b,)."""
    pixels = F.binary_cross_entropy_with_logits(logits, mask, reduction="none")
    return pixels.mean(dim=(1, 2, 3))


def focal_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the focal loss of each sample, mean over pixels, (b,).

    Cross-entropy times (1 - p)^2, p the probability of the true class (Lin et al. 2017, arXiv
    1708.02002). MONAI's function rather than its class, which would round float64 to float32.
    """
    # Here and below: importing MONAI takes seconds, and few configurations have these terms.
    from monai.losses.focal_loss import sigmoid_focal_loss

    return sigmoid_focal_loss(logits, mask, gamma=2.0).mean(dim=(1, 2, 3))


def tversky_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return 1 - Tversky index of each sample, in [0, 1), (b,).

    TP / (TP + 0.7 FN + 0.3 FP) of the soft counts (Salehi et al. 2017, arXiv 1706.05721). Both
    sides carry the smoothing of soft_dice_loss, which is this loss with 0.5 and 0.5.
    """
    from monai.losses import TverskyLoss

    smoothing = DICE_SMOOTHING * mask[0].numel() / 2
    criterion = TverskyLoss(
        sigmoid=True,
        alpha=1 - TVERSKY_MISSED,
        beta=TVERSKY_MISSED,
        smooth_nr=smoothing,
        smooth_dr=smoothing,
        reduction="none",
    )
    loss: Tensor = criterion(logits, mask)[:, 0]
    return loss


def boundary_loss(logits: Tensor, mask: Tensor) -> Tensor:
    """Return the boundary loss of each sample (Kervadec et al. 2019, arXiv 1812.07032), (b,).

    The mean over pixels of (probability - mask) * d: what a wrong pixel costs is its distance d
    from the lesion's outline, negative inside the lesion, as a share of the image's side, so that
    the loss does not depend on the image size. Subtracting the mask, a constant, makes the perfect
    mask cost 0 and all others more. d runs from pixel centres to pixel edges, half a pixel less
    than to the next pixel's centre: the same inside and outside, and never 0, so that a lesion one
    pixel wide counts.

    An empty or a full mask has no outline: it costs 0 whatever is predicted, without gradient.
    """
    from monai.losses import BoundaryLoss

    distance = BoundaryLoss().compute_distance_map(mask)
    side = (mask.shape[-2] * mask.shape[-1]) ** 0.5
    # MONAI's map is 0 at the lesion's outermost pixels, and 0 throughout where there is no outline.
    outlined = distance.amax(dim=(1, 2, 3), keepdim=True) > 0
    distance = torch.where(outlined, distance - 0.5, 0) / side
    loss: Tensor = ((torch.sigmoid(logits) - mask) * distance).mean(dim=(1, 2, 3))
    return loss


SEGMENTATION = {
    "dice": soft_dice_loss,
    "bce": cross_entropy,
    "focal": focal_loss,
    "tversky": tversky_loss,
    "boundary": boundary_loss,
}
"""Losses of mask logits (b, 1, H, W) against a mask of 0 and 1, each (b,), by LossConfig's name."""
