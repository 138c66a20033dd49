"""The parts of the networks, each against what defines it."""

import pytest
import torch
from torch import nn

from trainer.models.blocks import (
    ChannelNorm,
    ResBlock,
    SelfAttention,
    TimeEmbedding,
    level_widths,
)
from trainer.models.norm_silu import Norm


def test_level_widths_double_up_to_eightfold():
    assert level_widths(16, 6) == [16, 32, 64, 128, 128, 128]


def test_time_embedding_tells_all_timesteps_apart_at_bounded_norm():
    torch.manual_seed(0)
    embedding = TimeEmbedding(128).double()
    t = torch.arange(1000)
    features, embedded = embedding.sinusoids(t), embedding(t)
    # A sine of the frequency, multiplied by t, has rank 1 and norm 2826 at t = 999.
    assert torch.linalg.matrix_rank(features, rtol=1e-3) >= features.shape[1] / 3
    assert features.abs().max() <= 1
    assert torch.linalg.matrix_rank(embedded, rtol=1e-3) >= features.shape[1] / 3
    norms = embedded.norm(dim=1)
    assert norms.max() < 10 and norms.max() < 2 * norms.min()
    distances = torch.cdist(features, features) + 10 * torch.eye(1000)
    assert distances.min() > 0.1


def test_time_embedding_is_ho_et_als_sinusoid():
    t, frequency = 37, 10000 ** -(5 / 32)
    features = TimeEmbedding(8, sinusoids=64).double().sinusoids(torch.tensor([t]))[0]
    expected = torch.tensor([t * frequency]).double()
    torch.testing.assert_close(features[[5]], expected.cos(), atol=1e-5, rtol=0)
    torch.testing.assert_close(features[[32 + 5]], expected.sin(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("block", [ResBlock(16, 8, dropout=0.0), SelfAttention(16)])
def test_residual_branches_begin_as_the_identity_and_then_act(block):
    x, time = torch.randn(2, 16, 6, 6), torch.randn(2, 8)
    arguments = (x, time) if isinstance(block, ResBlock) else (x,)
    assert torch.equal(block(*arguments), x)
    nn.init.normal_((block.conv2 if isinstance(block, ResBlock) else block.out).weight)
    assert (block(*arguments) - x).std() > 0.1


def test_res_block_sees_the_timestep():
    block = ResBlock(16, 8, dropout=0.0)
    nn.init.normal_(block.conv2.weight)
    x = torch.randn(1, 16, 6, 6)
    assert not torch.allclose(block(x, torch.zeros(1, 8)), block(x, torch.ones(1, 8)), atol=1e-3)


def test_attention_is_softmax_of_scaled_products_over_positions():
    torch.manual_seed(0)
    block = SelfAttention(64).double()
    nn.init.normal_(block.out.weight, std=0.1)
    x = torch.randn(2, 64, 3, 5).double()
    q, k, v = (
        part.flatten(2).unflatten(1, (2, 32)) for part in block.qkv(block.norm(x)).chunk(3, 1)
    )
    scores = torch.einsum("bhcn,bhcm->bhnm", q, k) / 32**0.5
    mixed = torch.einsum("bhnm,bhcm->bhcn", scores.softmax(-1), v).reshape(2, 64, 3, 5)
    torch.testing.assert_close(block(x), x + block.out(mixed))


def test_channel_norm_standardises_each_position():
    norm = ChannelNorm(16)
    nn.init.ones_(norm.norm.weight)
    nn.init.zeros_(norm.norm.bias)
    normed = norm(5 + 3 * torch.randn(2, 16, 4, 4))
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.var(1, correction=0), torch.ones(2, 4, 4), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("channels", "groups"), [(8, 8), (64, 8), (12, 6), (20, 5), (7, 7), (13, 1), (26, 2)]
)
def test_group_norm_has_the_most_groups_up_to_8_that_divide(channels, groups):
    assert Norm(channels).num_groups == groups


@pytest.mark.parametrize(
    ("channels", "heads"), [(20, 1), (32, 1), (64, 2), (96, 3), (160, 5), (104, 2), (76, 2)]
)
def test_attention_has_heads_of_32_channels_or_more(channels, heads):
    assert SelfAttention(channels).num_heads == heads


def test_without_a_timestep_a_res_block_has_nothing_for_it():
    block = ResBlock(8, None, dropout=0.0)
    assert not any("time" in name for name, _ in block.named_parameters())
    nn.init.normal_(block.conv2.weight)
    x = torch.randn(1, 8, 6, 6)
    assert (block(x) - x).std() > 0.1
