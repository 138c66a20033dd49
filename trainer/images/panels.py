"""A sampled slice as pictures: what the model saw and said, and how a mask came out of the noise.

Drawn as radiologists look at it: anterior is up, the patient's right is on the left.
"""

import numpy as np
from PIL import Image as Picture

from trainer.data.windows import PICTURE, modality
from trainer.drawing import (
    BACKGROUND,
    CIVIDIS,
    GAP_PX,
    GREY,
    MUTED,
    PREDICTION,
    TRUTH,
    VIRIDIS,
    WIDTH_PX,
    Canvas,
    enlarged,
    in_squares,
    outline,
    scaled,
)
from trainer.images.sample import Sample, slice_dice
from trainer.saved.model_io import TrainedModel

TITLE_PX = 50
CAPTION_PX = 20
SCALE_PX = 34
"""Below a row of panels: keys and scales."""
MOST_UNCERTAIN = 0.5
"""The largest deviation that numbers in [0, 1] can have."""
NOISE = 2.5
"""x_t is shown from minus this to this: 99 % of a standard normal, and the mask's -1 and 1."""
NOISE_LEVELS = 5
"""Greys beside black: noise cannot be compressed, and in few greys it looks the same."""


def panels(sample: Sample, trained: TrainedModel, case_dice: float | None) -> Picture.Image:
    """Draw the modalities, and below them truth, prediction, probability and uncertainty.

    All in one row where there is one modality.

    Args:
        sample: The slice.
        trained: What sampled it.
        case_dice: Of the whole case, as the validation after the epoch measured it; None if that
            is not known.
    """
    names, uncertain = trained.inputs.modalities, len(sample.members) > 1
    in_one_row = len(names) == 1
    tile = _tile(4 + len(names) * in_one_row)
    small = tile if in_one_row else min(tile, _tile(len(names)))
    top = TITLE_PX + (0 if in_one_row else CAPTION_PX + small + GAP_PX)
    canvas = Canvas(WIDTH_PX, top + CAPTION_PX + tile + SCALE_PX)
    _title(canvas, sample, trained, case_dice)

    x = GAP_PX
    for number, (name, window) in enumerate(zip(names, trained.inputs.windows, strict=True)):
        unit = modality(name).unit
        end = canvas.text(x, TITLE_PX, name, 14)
        canvas.text(end + 6, TITLE_PX + 2, f"[{window[0]:g}, {window[1]:g}] {unit}", 12, MUTED)
        grey = scaled(enlarged((sample.seen[number] + 1) / 2, small), GREY)
        canvas.paste(grey, x, TITLE_PX + CAPTION_PX)
        if not number and _has_sides(trained):
            canvas.text(x + 4, TITLE_PX + CAPTION_PX + 2, "R", 13, MUTED)
            canvas.text(x + small - 12, TITLE_PX + CAPTION_PX + 2, "L", 13, MUTED)
        x += small + GAP_PX

    x = x if in_one_row else GAP_PX
    below = top + CAPTION_PX + tile
    truth, mask = outline(sample.truth, tile), outline(sample.mask, tile)
    base = scaled(enlarged((sample.seen[sample.telling] + 1) / 2, tile), GREY)
    canvas.text(x, top, f"truth on {names[sample.telling]}")
    canvas.paste(np.where(truth, np.uint8(TRUTH), base), x, top + CAPTION_PX)
    canvas.key(x, below + 5, TRUTH, "truth")
    x += tile + GAP_PX

    both = np.where(truth, np.uint8(TRUTH), base)
    canvas.text(x, top, f"prediction: Dice {sample.dice:.2f} in this slice")
    canvas.paste(np.where(mask, np.uint8(PREDICTION), both), x, top + CAPTION_PX)
    threshold = trained.config.sampling.threshold
    end = canvas.key(x, below + 5, PREDICTION, f"probability from {threshold:g}")
    canvas.key(end, below + 5, TRUTH, "truth")
    x += tile + GAP_PX

    outside = in_squares(sample.brain, tile) == 0
    canvas.text(x, top, "probability of lesion")
    likely = scaled(enlarged(sample.probability, tile), VIRIDIS)
    canvas.paste(np.where(outside, np.uint8(BACKGROUND), likely), x, top + CAPTION_PX)
    canvas.bar(x, below, tile - 12, VIRIDIS, [(0, "0"), (0.5, "0.5"), (1, "1")])
    x += tile + GAP_PX

    if uncertain:
        canvas.text(x, top, f"uncertainty: deviation of {len(sample.members)} masks")
        unsure = scaled(enlarged(sample.uncertainty, tile) / MOST_UNCERTAIN, CIVIDIS)
        canvas.paste(np.where(outside, np.uint8(BACKGROUND), unsure), x, top + CAPTION_PX)
        canvas.bar(x, below, tile - 12, CIVIDIS, [(0, "0"), (0.5, "0.25"), (1, "0.5")])
    return canvas.picture()


def strip(sample: Sample, trained: TrainedModel) -> Picture.Image:
    """Draw the path of one mask: x_t above, the x_start that the network makes of it below."""
    config, path = trained.config, sample.path
    tile = _tile(max(len(path), 5))
    left = GAP_PX
    top = TITLE_PX + CAPTION_PX
    canvas = Canvas(WIDTH_PX, top + 2 * tile + GAP_PX + CAPTION_PX + 4)
    who = f"From noise to mask: {_who(sample, trained)}"
    canvas.text(GAP_PX, 4, who, 18)
    if sample.path_steps == sample.sampling_steps:
        what = f"one of the {len(sample.members)} masks, {_method(trained, sample.path_steps)}"
    else:
        what = (
            f"one mask, {_method(trained, sample.path_steps)}: "
            f"this run itself samples in {_steps(sample.sampling_steps)}"
        )
    what += "; above x_t, below the x_start that the network makes of it, with this slice's Dice"
    canvas.text(GAP_PX, 28, what, 13, MUTED)
    truth = outline(sample.truth, tile, 1)
    for moment in path:
        canvas.text(left, TITLE_PX, f"t = {moment.t}", 14)
        noisy = in_squares(moment.x_t / (2 * NOISE) + 0.5, tile)
        canvas.paste(scaled(np.round(noisy * NOISE_LEVELS) / NOISE_LEVELS, GREY), left, top)
        probability = (moment.x_start + 1) / 2
        found = scaled(enlarged(probability, tile), GREY)
        canvas.paste(np.where(truth, np.uint8(TRUTH), found), left, top + tile + GAP_PX)
        dice = slice_dice(probability >= config.sampling.threshold, sample.truth)
        canvas.text(left, top + 2 * tile + GAP_PX + 3, f"Dice {dice:.2f}", 13, MUTED)
        left += tile + GAP_PX
    return canvas.picture()


def _tile(columns: int) -> int:
    """Return the side of a panel, in pixels, of which so many fill a row."""
    return (WIDTH_PX - GAP_PX) // columns - GAP_PX


def _title(canvas: Canvas, sample: Sample, trained: TrainedModel, case_dice: float | None) -> None:
    canvas.text(GAP_PX, 4, _who(sample, trained), 18)
    told, slices = [], sample.case.num_slices
    if slices > 1:
        told.append(f"slice {sample.index + 1} of {slices}, the one with most lesion")
    if sample.path:
        how = trained.config.sampling.fuse
        masks = f"{how} of {len(sample.members)} masks, {_method(trained, sample.sampling_steps)}"
        told.append(masks)
    if case_dice is not None:
        told.append(f"the whole case had Dice {case_dice:.2f} in the validation")
    if _has_sides(trained):
        told.append("patient's right on the left")
    canvas.text(GAP_PX, 28, "; ".join(told), 13, MUTED)


def _has_sides(trained: TrainedModel) -> bool:
    """Return whether it is known which side is which: not of PNG and JPEG."""
    return modality(trained.inputs.modalities[0]) is not PICTURE


def _who(sample: Sample, trained: TrainedModel) -> str:
    after = "" if trained.epoch is None else f",  epoch {trained.epoch}"
    return f"{sample.case.case_id},  lesion {sample.case.lesion_ml:.1f} mL{after}"


def _method(trained: TrainedModel, steps: int) -> str:
    return f"{trained.config.sampling.method} in {_steps(steps)}"


def _steps(count: int) -> str:
    return f"{count} step" + "s" * (count != 1)
