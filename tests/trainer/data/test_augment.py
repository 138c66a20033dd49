"""Augmentation: image and mask move together, labels stay binary, and no split changes it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage, stats
from torch import Tensor

from tests.trainer.tiny import tiny_config
from trainer.data.augment import (
    ELASTIC_GRID,
    MAX_ELASTIC,
    augment,
    counter_normal,
    draw_heavy,
    draw_light,
)
from trainer.data.batches import Draws, augmented, rows_of
from trainer.data.inputs import Inputs
from trainer.data.store import Store

SIZE = 64
Y, X = torch.meshgrid(torch.arange(float(SIZE)), torch.arange(float(SIZE)), indexing="ij")
DRAWS = {"light": draw_light, "heavy": draw_heavy}


def drawn(strength: str, num: int, modalities: int = 1) -> Tensor:
    rng = np.random.default_rng(0)
    return torch.from_numpy(np.stack([DRAWS[strength](rng, modalities) for _ in range(num)]))


def geometry_only(parameters: Tensor) -> Tensor:
    """Switch off, for one modality, what changes intensities."""
    neutral = parameters.clone()
    neutral[:, 5], neutral[:, 6] = 1, 0
    neutral[:, 7 + 2 * ELASTIC_GRID**2 :] = torch.tensor([0.0, 1, 0, 0, 0])[
        : max(0, neutral.shape[1] - 7 - 2 * ELASTIC_GRID**2)
    ]
    return neutral


def sources(parameters: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Where each pixel's value comes from, told by warped ramps, and whether inside the image."""
    found = [
        augment(
            ramp.expand(len(parameters), 1, -1, -1) / (SIZE / 2) - 1,
            torch.ones(len(parameters), 1, SIZE, SIZE),
            geometry_only(parameters),
            1,
        )
        for ramp in (Y, X)
    ]
    y, x = ((image[:, 0] + 1) * SIZE / 2 for image, _ in found)
    inside = (y > 0.01) & (y < SIZE - 1.01) & (x > 0.01) & (x < SIZE - 1.01)
    return y, x, inside


def disk(y: Tensor, x: Tensor) -> Tensor:
    """Signed distance to a disk off the middle: positive inside."""
    return 11 - ((y - 26) ** 2 + (x - 40) ** 2).sqrt()


@pytest.mark.parametrize("strength", ["light", "heavy"])
def test_the_mask_of_the_warped_image_is_the_warped_mask(strength: str) -> None:
    parameters = drawn(strength, 48)
    y, x, inside = sources(parameters)
    mask = (disk(Y, X) > 0).float().expand(48, 1, -1, -1)
    images, masks = augment(mask * 2 - 1, mask, geometry_only(parameters), 1)
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    truth = disk(y, x)
    clear = inside & (truth.abs() > 1)  # further from the edge than interpolation reaches
    assert clear.float().mean() > 0.6
    assert torch.equal(masks[:, 0][clear] > 0.5, truth[clear] > 0)
    assert torch.equal(images[:, 0][clear] > 0, truth[clear] > 0)
    assert ((images > 0) == (masks > 0.5)).float().mean() > 0.999


def test_light_goes_as_far_as_it_says_and_heavy_twice_as_far() -> None:
    for strength, reach in (("light", 1), ("heavy", 2)):
        parameters = drawn(strength, 4000)
        flip, rotation, scale, shift_y, shift_x, gain, offset = parameters[:, :7].unbind(1)
        assert set(flip.tolist()) == {-1.0, 1.0}
        limits = [np.deg2rad(10), 0.1, 0.2, 0.2, 0.1, 0.1]
        for values, limit in zip(
            (rotation, scale - 1, shift_y, shift_x, gain - 1, offset), limits, strict=True
        ):
            assert values.abs().max() == pytest.approx(reach * limit, rel=0.01)
            assert values.abs().max() <= reach * limit * (1 + 1e-6)


def test_elastic_bends_and_never_folds() -> None:
    parameters = drawn("heavy", 64)
    points = 2 * ELASTIC_GRID**2
    parameters[:, 1:5] = torch.tensor([0.0, 1, 0, 0])
    # The worst that can be drawn: neighbouring control points pushed against each other.
    signs = torch.tensor([1.0, -1])[torch.arange(ELASTIC_GRID) % 2] * 2 * MAX_ELASTIC
    parameters[0, 7 : 7 + points] = (signs[:, None] * signs.sign()).expand(2, -1, -1).flatten()
    parameters[1, 7 : 7 + points] = torch.stack(
        [signs.expand(ELASTIC_GRID, -1), signs[:, None].expand(-1, ELASTIC_GRID)]
    ).flatten()
    y, x, inside = sources(parameters)
    dy_dy, dy_dx = torch.gradient(y, dim=(1, 2))
    dx_dy, dx_dx = torch.gradient(x, dim=(1, 2))
    area = (dx_dx * dy_dy - dx_dy * dy_dx) * parameters[:, 0, None, None]
    edge = torch.nn.functional.max_pool2d((~inside).float(), 3, 1, 1) > 0
    assert area[~edge].min() > 0
    straight = torch.where(parameters[:, 0, None, None] > 0, X, SIZE - 1 - X)
    bend = torch.stack([(y - Y)[inside].abs().max(), (x - straight)[inside].abs().max()])
    assert bend.min() > 2  # pixels
    assert bend.max() < 1.4 * MAX_ELASTIC * SIZE  # a bicubic curve overshoots its points


def test_blur_is_a_gaussian_of_the_drawn_width() -> None:
    image = torch.from_numpy(np.random.default_rng(0).random((1, 1, SIZE, SIZE), np.float32))
    parameters = drawn("heavy", 3)
    parameters[:] = geometry_only(parameters)
    parameters[:, :7] = torch.tensor([1.0, 0, 1, 0, 0, 1, 0])
    parameters[:, 7 : 7 + 2 * ELASTIC_GRID**2] = 0
    widths = [0.0, 0.5, 1.0]
    parameters[:, 7 + 2 * ELASTIC_GRID**2] = torch.tensor(widths)
    blurred, _ = augment(image.expand(3, -1, -1, -1), image.expand(3, -1, -1, -1), parameters, 1)
    for result, width in zip(blurred, widths, strict=True):
        expected = ndimage.gaussian_filter(image[0, 0].numpy(), width, radius=3, mode="nearest")
        np.testing.assert_allclose(result[0], expected, atol=2e-5)


def test_gamma_gain_offset_and_noise_are_a_modalitys_and_shared_by_its_neighbours() -> None:
    parameters = drawn("heavy", 2, modalities=2)
    parameters[:, :5] = torch.tensor([1.0, 0, 1, 0, 0])
    points = 2 * ELASTIC_GRID**2
    elastic, blur, gamma, sigma = 9, 9 + points, 10 + points, 12 + points
    parameters[:, elastic : blur + 1] = 0
    parameters[:, sigma : sigma + 2] = torch.tensor([0.0, 0.05])
    flat = torch.full((2, 6, SIZE, SIZE), -0.5)
    images, _ = augment(flat, torch.zeros(2, 1, SIZE, SIZE), parameters, 2)
    for image, drawn_ in zip(images, parameters, strict=True):
        for modality in (0, 1):
            level = 0.25 ** drawn_[gamma + modality] * 2 - 1
            expected = level * drawn_[5 + modality] + drawn_[7 + modality]
            for channel in (modality, modality + 2, modality + 4):
                assert image[channel].mean() == pytest.approx(float(expected), abs=4e-3)
        assert image[[0, 2, 4]].std() < 1e-5
        noise = [image[channel] - image[channel].mean() for channel in (1, 3, 5)]
        assert torch.stack(noise).std() == pytest.approx(0.05, rel=0.05)
        assert abs(np.corrcoef(noise[0].flatten(), noise[1].flatten())[0, 1]) < 0.06  # sd 0.016


def test_counted_noise_is_normal_and_white() -> None:
    keys = torch.tensor([[0, 0], [0, 1], [1, 0], [2**24 - 1, 12345]])
    fields = counter_normal(keys, torch.Size([2, 128, 128]))
    assert torch.equal(fields, counter_normal(keys, torch.Size([2, 128, 128])))
    assert torch.equal(fields[2:3], counter_normal(keys[2:3], torch.Size([2, 128, 128])))
    for field in fields:
        assert stats.kstest(field.flatten().numpy(), "norm").pvalue > 1e-3
        assert stats.kurtosis(field.flatten().numpy()) == pytest.approx(0, abs=0.15)  # sd 0.027
    spectrum = torch.fft.fft2(fields[0, 0]).abs().square() / 128**2
    assert spectrum.max() < 20  # exponential with mean 1: above 20 once in 30,000 fields
    for lag in (1, 128, 128**2):
        flat = fields.flatten(1)
        for field in flat:
            assert abs(np.corrcoef(field[:-lag], field[lag:])[0, 1]) < 0.03  # sd 0.0055..0.0078
    assert np.abs(np.corrcoef(fields.flatten(1)) - np.eye(4)).max() < 0.03


@pytest.fixture(scope="module")
def store(phantom_store: Path) -> Store:
    return Store.open(phantom_store)


@pytest.mark.parametrize("context", [0, 1])
@pytest.mark.parametrize("strength", ["light", "heavy"])
def test_no_split_changes_it(store: Store, strength: str, context: int) -> None:
    config = tiny_config(
        store.path, data__augment=strength, data__context_slices=context, batch__effective=8
    )
    inputs = Inputs(store, config, torch.device("cpu"))
    batch = Draws(store, config, rows_of(store.split(0)[0])).batch(0)
    images, masks = augmented(batch, inputs)
    assert images.isfinite().all()
    assert images.shape == (8, inputs.num_channels, 32, 32)
    assert set(masks.unique().tolist()) == {-1.0, 1.0}
    for size in (1, 2, 4):
        parts = [augmented(part, inputs) for part in batch.micro(size)]
        assert torch.equal(torch.cat([part for part, _ in parts]), images)
        assert torch.equal(torch.cat([part for _, part in parts]), masks)


def test_none_changes_nothing(store: Store) -> None:
    config = tiny_config(store.path, data__augment="none")
    inputs = Inputs(store, config, torch.device("cpu"))
    batch = Draws(store, config, rows_of(store.split(0)[0])).batch(0)
    images, masks = augmented(batch, inputs)
    assert torch.equal(images, inputs.window(batch.images))
    assert torch.equal(masks, batch.masks * 2.0 - 1)


def test_neutral_parameters_change_nothing() -> None:
    image = torch.rand(2, 1, SIZE, SIZE) * 2 - 1
    mask = (image > 0).float()
    light = torch.tensor([[1.0, 0, 1, 0, 0, 1, 0]]).repeat(2, 1)
    heavy = torch.cat([light, torch.zeros(2, 2 * ELASTIC_GRID**2 + 5)], 1)
    heavy[:, -4] = 1  # gamma
    for parameters in (light, heavy):
        same, same_mask = augment(image, mask, parameters, 1)
        torch.testing.assert_close(same, image, rtol=0, atol=1e-5)
        assert torch.equal(same_mask, mask)
