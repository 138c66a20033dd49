"""Augmentation of whole batches on the device, from parameters drawn per image.

Geometry is one map for all of an image's channels and its mask. Intensities are drawn per modality
and shared by its neighbouring slices, which one scan made; pixel noise is each channel's own.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

MAX_SHIFT = 0.1
"""Of the image's side."""
MAX_ROTATION = math.radians(10)
MAX_SCALE = 0.1
MAX_INTENSITY = 0.1
"""Of the window's half width, added and multiplied, per modality."""

HEAVY_REACH = 2.0
"""heavy goes so many times as far as light, and adds what follows."""
MAX_GAMMA = 1.5
"""Exponent of the windowed values in 0..1, or its inverse; per modality."""
MAX_NOISE = 0.1
"""Standard deviation, of the window's half width; per modality."""
MAX_BLUR = 1.0
"""Standard deviation in pixels."""
BLUR_RADIUS = 3
ELASTIC_GRID = 4
"""Control points along a side, the outermost at its ends."""
MAX_ELASTIC = 0.05
"""Displacement of a control point along each axis, of the image's side. Their distance is 0.33, so
that no draw folds the image over itself."""


def draw_light(
    rng: np.random.Generator, num_modalities: int, reach: float = 1.0
) -> NDArray[np.float32]:
    """Draw one image's flip (-1 or 1), rotation, scale, shift y, shift x, gains and offsets.

    Args:
        num_modalities: M; each has its own gain and offset.
        reach: Widens every range but the flip's.

    Returns:
        float32, shape (5 + 2M,).
    """
    flip = rng.choice([-1.0, 1.0])
    rotation = rng.uniform(-reach * MAX_ROTATION, reach * MAX_ROTATION)
    scale = 1 + rng.uniform(-reach * MAX_SCALE, reach * MAX_SCALE)
    # affine_grid's coordinates span 2 over the image's side.
    shift = 2 * rng.uniform(-reach * MAX_SHIFT, reach * MAX_SHIFT, 2)
    intensity = reach * MAX_INTENSITY
    gains = 1 + rng.uniform(-intensity, intensity, num_modalities)
    offsets = rng.uniform(-intensity, intensity, num_modalities)
    return np.array([flip, rotation, scale, *shift, *gains, *offsets], np.float32)


def draw_heavy(rng: np.random.Generator, num_modalities: int) -> NDArray[np.float32]:
    """Draw one image's `draw_light` at twice the reach, and elastic field, blur, gamma and noise.

    Returns:
        float32, shape (40 + 4M,): after the light ones, the displacements x and y of the control
        points, the blur's standard deviation, M gammas, M standard deviations of noise, and the
        noise's key as two integers below 2**24.
    """
    light = draw_light(rng, num_modalities, HEAVY_REACH)
    elastic = 2 * rng.uniform(-MAX_ELASTIC, MAX_ELASTIC, 2 * ELASTIC_GRID**2)
    blur = rng.uniform(0, MAX_BLUR)
    gammas = MAX_GAMMA ** rng.uniform(-1, 1, num_modalities)
    sigmas = rng.uniform(0, MAX_NOISE, num_modalities)
    key = rng.integers(2**24, size=2)
    return np.array([*light, *elastic, blur, *gammas, *sigmas, *key], np.float32)


def augment(
    images: Tensor, masks: Tensor, parameters: Tensor, num_modalities: int
) -> tuple[Tensor, Tensor]:
    """Move, turn, rescale and bend images with their masks, and vary the images' intensity.

    Args:
        images: (b, C, h, w) in [-1, 1], C a multiple of M; the border value continues outside.
        masks: (b, 1, h, w), 0 or 1; stays so.
        parameters: (b, P) of `draw_light` or `draw_heavy`, on the images' device.
        num_modalities: M.
    """
    num_slices = images.shape[1] // num_modalities
    num_light = 5 + 2 * num_modalities
    flip, rotation, scale, shift_y, shift_x = parameters[:, :5].unbind(1)
    gains, offsets = (
        each.repeat(1, num_slices, 1, 1)
        for each in parameters[:, 5:num_light, None, None].chunk(2, 1)
    )
    cosine, sine = torch.cos(rotation) / scale, torch.sin(rotation) / scale
    rows = [
        torch.stack([flip * cosine, -sine, shift_x], 1),
        torch.stack([flip * sine, cosine, shift_y], 1),
    ]
    grid = F.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    heavy = parameters[:, num_light:]
    if is_heavy := heavy.shape[1] > 0:
        points = 2 * ELASTIC_GRID**2
        elastic, blurs, gammas, sigmas, keys = heavy.split(
            [points, 1, num_modalities, num_modalities, 2], 1
        )
        grid = grid + _displacement(elastic, images.shape[2:])
    moved = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    moved_masks = F.grid_sample(masks, grid, padding_mode="zeros", align_corners=False)
    if is_heavy:
        gammas, sigmas = (
            each[..., None, None].repeat(1, num_slices, 1, 1) for each in (gammas, sigmas)
        )
        share = (_blur(moved, blurs[:, 0]) + 1) / 2
        moved = share.clamp(0, 1) ** gammas * 2 - 1
        offsets = offsets + sigmas * counter_normal(keys.long(), images.shape[1:])
    return moved * gains + offsets, (moved_masks >= 0.5).to(masks.dtype)


def _displacement(elastic: Tensor, size: torch.Size) -> Tensor:
    """Return the smooth field, (b, h, w, 2), through the control points' displacements."""
    coarse = elastic.unflatten(1, (2, ELASTIC_GRID, ELASTIC_GRID))
    fine = F.interpolate(coarse, tuple(size), mode="bicubic", align_corners=True)
    return fine.permute(0, 2, 3, 1)


def _blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Convolve each image of (b, c, h, w) with a Gaussian of its own standard deviation, (b,)."""
    offsets = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device)
    # At 0 the exponent would be 0/0; at 0.01 the neighbours' weights are 0 already.
    weights = torch.exp(-0.5 * (offsets / sigmas[:, None].clamp(min=0.01)) ** 2)
    weights = (weights / weights.sum(1, keepdim=True))[..., None, None, None]
    blurred = F.pad(images, [BLUR_RADIUS] * 4, mode="replicate")
    for axis in (2, 3):
        # Shifted images are added: a grouped convolution might round differently in another batch.
        shifted = [blurred.narrow(axis, tap, images.shape[axis]) for tap in range(len(offsets))]
        blurred = weights[:, 0] * shifted[0]
        for tap in range(1, len(offsets)):
            blurred.addcmul_(weights[:, tap], shifted[tap])
    return blurred


def counter_normal(keys: Tensor, shape: torch.Size) -> Tensor:
    """Draw standard normal fields from a key and a counter alone, on any device.

    Each value is its position and its image's key, hashed, after Box and Muller's transform. So
    no field is drawn on the CPU and moved, and no generator has a state that a split would change.

    Args:
        keys: (b, 2) int64 in 0..2**24 - 1.
        shape: Of one field.

    Returns:
        float32 (b, *shape).
    """
    position = torch.arange(math.prod(shape), device=keys.device)
    word = _mix(_mix(position + keys[:, :1]) ^ keys[:, 1:])
    radius = (_mix(word ^ 0x9E3779B9) >> 8).float().add(0.5).mul(2.0**-24).log().mul(-2).sqrt()
    angle = (word >> 8).float() * (2 * math.pi * 2.0**-24)
    fields: Tensor = (radius * angle.cos()).unflatten(1, tuple(shape))
    return fields


def _mix(word: Tensor) -> Tensor:
    """Scramble 32-bit integers held in int64: the finalizer of MurmurHash3 (Appleby)."""
    word = (word ^ (word >> 16)) * 0x85EBCA6B & 0xFFFFFFFF
    word = (word ^ (word >> 13)) * 0xC2B2AE35 & 0xFFFFFFFF
    return word ^ (word >> 16)
