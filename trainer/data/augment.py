"""Augmentation of whole batches on the device, from parameters drawn per image."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SHIFT = 0.1
"""Of the image's side."""
MAX_ROTATION = math.radians(10)
MAX_SCALE = 0.1
MAX_INTENSITY = 0.1
"""Of the window's half width, added and multiplied, per channel."""


def draw_light(rng: np.random.Generator, num_channels: int) -> np.ndarray:
    """Draw one image's flip (-1 or 1), rotation, scale, shift y, shift x, gains and offsets.

    Returns:
        float32, shape (5 + 2 * num_channels,).
    """
    flip = rng.choice([-1.0, 1.0])
    rotation = rng.uniform(-MAX_ROTATION, MAX_ROTATION)
    scale = 1 + rng.uniform(-MAX_SCALE, MAX_SCALE)
    # affine_grid's coordinates span 2 over the image's side.
    shift = 2 * rng.uniform(-MAX_SHIFT, MAX_SHIFT, 2)
    gains = 1 + rng.uniform(-MAX_INTENSITY, MAX_INTENSITY, num_channels)
    offsets = rng.uniform(-MAX_INTENSITY, MAX_INTENSITY, num_channels)
    return np.array([flip, rotation, scale, *shift, *gains, *offsets], np.float32)


def augment(images: Tensor, masks: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
    """Move, turn and rescale images with their masks, and vary the images' intensity.

    Args:
        images: (b, c, h, w) in [-1, 1]; the border value continues outside.
        masks: (b, 1, h, w), 0 or 1; stays so.
        parameters: (b, 5 + 2c) from `draw_light`, on the images' device.
    """
    flip, rotation, scale, shift_y, shift_x = parameters[:, :5].unbind(1)
    gains, offsets = parameters[:, 5:, None, None].chunk(2, 1)
    cosine, sine = torch.cos(rotation) / scale, torch.sin(rotation) / scale
    rows = [
        torch.stack([flip * cosine, -sine, shift_x], 1),
        torch.stack([flip * sine, cosine, shift_y], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    moved_masks = F.grid_sample(masks, grid, padding_mode="zeros", align_corners=False)
    return moved * gains + offsets, (moved_masks >= 0.5).to(masks.dtype)
