"""Dropout that is counted, not drawn."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.models.families import FAMILIES, awaken, build, call, inputs, size_of
from trainer.models.dropout import CountedDropout, count_dropout, mix, set_images

P = 0.3


def dropout(numbers: list[int], *, seed: int = 0, layer: int = 0) -> CountedDropout:
    module = CountedDropout(P, layer)
    set_images(module, seed, torch.tensor(numbers))
    return module


def kept(numbers: list[int], shape: tuple[int, ...] = (64, 16, 16), **which: int) -> torch.Tensor:
    return dropout(numbers, **which)(torch.ones(len(numbers), *shape)) > 0


def test_hash_is_the_formula_in_unsigned_arithmetic_and_avalanches():
    x = np.random.default_rng(0).integers(2**32, size=4096, dtype=np.uint32)

    def formula(x: np.ndarray) -> np.ndarray:
        x = (x ^ (x >> 15)) * np.uint32(0x2C1B3C6D)
        x = (x ^ (x >> 12)) * np.uint32(0x297A2D39)
        return x ^ (x >> 15)

    hashed = mix(torch.from_numpy(x.view(np.int32))).numpy().view(np.uint32)
    assert np.array_equal(hashed, formula(x))
    for bit in range(32):
        changed = hashed ^ formula(x ^ np.uint32(1 << bit))
        share = np.unpackbits(changed.view(np.uint8)).reshape(len(x), 32).mean(0)
        assert np.abs(share - 0.5).max() < 0.05  # 6 standard deviations


def test_keeps_its_share_everywhere_and_the_mean():
    x = torch.randn(8, 64, 16, 16)
    y = dropout(list(range(8)))(x)
    mask = y != 0
    deviation = (P * (1 - P) / mask[0].numel()) ** 0.5
    assert ((mask.float().mean((1, 2, 3)) - (1 - P)).abs() < 4.5 * deviation).all()
    by_position = mask.float().mean((0, 1))  # 512 draws each
    assert ((by_position - (1 - P)).abs() < 5 * (P * (1 - P) / 512) ** 0.5).all()
    torch.testing.assert_close(y[mask], x[mask] / (1 - P))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"numbers": [5]}, {"numbers": [6]}),
        ({"numbers": [5]}, {"numbers": [5 + 2**31]}),
        ({"numbers": [5], "layer": 0}, {"numbers": [5], "layer": 1}),
        ({"numbers": [5], "layer": 1}, {"numbers": [6], "layer": 0}),
        ({"numbers": [5], "seed": 0}, {"numbers": [5], "seed": 1}),
    ],
)
def test_images_layers_and_seeds_are_independent(one, other):
    a, b = kept(**one)[0], kept(**other)[0]
    expected = P**2 + (1 - P) ** 2
    deviation = (expected * (1 - expected) / a.numel()) ** 0.5
    assert abs((a == b).float().mean() - expected) < 4.5 * deviation
    for shift in (1, 16, 256):  # neither is one a shifted copy of the other, nor of itself
        for c in (a, b):
            agreement = (a.flatten()[shift:] == c.flatten()[:-shift]).float().mean()
            assert abs(agreement - expected) < 4.5 * deviation


def test_an_images_mask_does_not_know_its_batch():
    together = kept([3, 1, 4, 1])
    assert torch.equal(together, torch.cat([kept([3]), kept([1, 4]), kept([1])]))
    assert torch.equal(together[1], together[3])
    # Windows of a transformer: each image has several rows.
    windows = dropout([3, 1])(torch.ones(8, 10, 6)) > 0
    assert torch.equal(windows[4:], dropout([1])(torch.ones(4, 10, 6)) > 0)
    assert not torch.equal(windows[0], windows[1])


def test_gradient_passes_where_features_do_and_no_random_state_is_touched():
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    layer, state = dropout([1, 2]), torch.get_rng_state()
    y = layer(x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, (y != 0) / (1 - P))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(layer.eval()(x), x)
    assert dropout([1])(torch.ones(1, 9, dtype=torch.bfloat16)).dtype == torch.bfloat16


def test_one_layer_in_two_places_counts_twice():
    shared = nn.Dropout(P)
    model = nn.ModuleDict({"a": shared, "b": nn.Sequential(shared, nn.Dropout(0.0))})
    count_dropout(model)
    assert model["a"].layer != model["b"][0].layer
    assert isinstance(model["b"][1], nn.Identity)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.one_in(5)
def test_is_in_every_family_and_the_same_for_any_micro_batch(family):
    model = awaken(build(family=family, dropout=P)).double().train()
    x_t, t, cond = inputs(3, size=size_of(family))
    x_t, cond, numbers = x_t.double(), cond.double(), torch.tensor([8, 2, 5])

    def forward(rows: slice, numbers: torch.Tensor = numbers) -> torch.Tensor:
        set_images(model, 7, numbers[rows])
        return call(model, x_t[rows], t[rows], cond[rows])

    whole = forward(slice(3))
    assert torch.equal(whole, forward(slice(3)))
    parts = torch.cat([forward(slice(0, 1)), forward(slice(1, 3))])
    torch.testing.assert_close(parts, whole, rtol=1e-9, atol=1e-9)
    assert (forward(slice(3), numbers + 1) - whole).abs().max() > 1e-3
    assert (copy.deepcopy(model).eval()(x_t, t, model.condition(cond)) - whole).abs().max() > 1e-3
    layers = [module.layer for module in model.modules() if isinstance(module, CountedDropout)]
    assert len(layers) >= 5 and len(set(layers)) == len(layers)
    assert not any(isinstance(m, nn.modules.dropout._DropoutNd) for m in model.modules())
