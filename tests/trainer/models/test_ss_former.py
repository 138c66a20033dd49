"""SS-Former, against the papers' formulas written out with full complex spectra."""

import pytest
import torch
from torch import Tensor

from tests.trainer.models.families import awaken
from trainer.model_config import V2Config
from trainer.models.ss_former import (
    AttentionProduct,
    CrossBlock,
    ElementwiseProduct,
    NeuralBandPassFilter,
    SSFormer,
)

TIME = 12


def maps(number: int, shape: tuple[int, ...] = (2, 6, 4, 6), seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator).double() for _ in range(number)]


def time(b: int = 2) -> Tensor:
    return torch.randn(b, TIME, generator=torch.Generator().manual_seed(9)).double()


def channels_last(x: Tensor) -> Tensor:
    """(b, c, h, w) -> tokens (b, n, c)."""
    return x.flatten(2).transpose(1, 2)


def whole_gate(half: Tensor, width: int) -> Tensor:
    """A gate on the frequencies of rfft2, (b, 1, h, w // 2 + 1) -> on those of fft2, (b, h, w).

    The other half mirrors it, as the result is real; where a frequency mirrors onto its own column,
    the real result feels the mean of both.
    """
    b, _, height, _ = half.shape
    whole = torch.zeros(b, height, width, dtype=half.dtype)
    for v in range(width):
        mirrored = half[:, 0, -torch.arange(height) % height, min(v, width - v)]
        own = half[:, 0, :, min(v, width - v)]
        on_itself = (2 * v) % width == 0
        whole[:, :, v] = (own + mirrored) / 2 if on_itself else own if 2 * v < width else mirrored
    return whole


@pytest.mark.parametrize("shape", [(2, 6, 4, 6), (2, 6, 5, 3), (2, 6, 1, 1)])
def test_attention_is_the_gated_product_of_spectra_transformed_back(shape):
    product = awaken(AttentionProduct(6, TIME, nbp_blocks=2)).double()
    query, key, value = maps(3, shape)
    b, c, height, width = shape
    n = height * width

    def spectrum(x: Tensor, weights: Tensor) -> Tensor:
        f = channels_last(torch.fft.fft2(x))
        return f @ weights[:, :, 0, 0].T.to(f.dtype)

    m = spectrum(query, product.q.weight) @ spectrum(key, product.k.weight).transpose(1, 2)
    gate = product.filter(height, width, time())
    rows, columns = (whole_gate(gate[:, i : i + 1], width).flatten(1) for i in range(2))
    gated = rows[:, :, None] * columns[:, None, :] * m
    axes = gated.view(b, height, width, height, width)
    affinity = torch.fft.ifftn(axes, dim=(1, 2, 3, 4)).view(b, n, n)
    assert affinity.imag.abs().max() < 1e-9
    values = channels_last(value) @ product.v.weight[:, :, 0, 0].T
    expected = affinity.real @ values / (n * c**0.5)
    f = product(query, key, value, time())
    torch.testing.assert_close(channels_last(f), expected, rtol=1e-9, atol=1e-9)


def test_an_open_filter_leaves_the_plain_affinity_of_positions():
    product = awaken(AttentionProduct(6, TIME, nbp_blocks=2)).double()
    query, key, value = maps(3)
    gated = product(query, key, value, time())
    product.filter.forward = lambda height, width, t: torch.ones(2, 2, height, width // 2 + 1)
    q, k, v = (
        channels_last(layer(x))
        for layer, x in ((product.q, query), (product.k, key), (product.v, value))
    )
    expected = q @ k.transpose(1, 2) @ v / (24 * 6**0.5)
    opened = product(query, key, value, time())
    torch.testing.assert_close(channels_last(opened), expected, rtol=1e-6, atol=1e-6)
    assert (gated - opened).abs().max() > 0.1 * opened.abs().max()
    without = AttentionProduct(6, TIME, nbp_blocks=0).double()
    without.load_state_dict({name: product.state_dict()[name] for name in without.state_dict()})
    torch.testing.assert_close(without(query, key, value, time()), opened, rtol=1e-6, atol=1e-6)


def test_elementwise_is_the_sine_of_the_product_of_spectra():
    product = awaken(ElementwiseProduct(6)).double()
    query, key, value = maps(3)
    q = torch.fft.fft2(product.q(query), norm="ortho")
    k = torch.fft.fft2(product.k(key), norm="ortho")
    waves = torch.complex((q * k).real.sin(), (q * k).imag.sin())
    back = torch.fft.ifft2(waves, norm="ortho")
    assert back.imag.abs().max() < 1e-9
    f = product(query, key, value, time())
    torch.testing.assert_close(f, back.real * product.v(value), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("size", [1, 4, 6, 12, 16])
def test_filter_gates_every_frequency_by_its_coordinates_and_the_timestep(size):
    nbp = awaken(NeuralBandPassFilter(3, 2, TIME)).double()
    gate = nbp(size, size, time())
    assert gate.shape == (2, 2, size, size // 2 + 1)
    assert (gate > 0).all() and (gate < 1).all()
    assert (gate[0] - gate[1]).abs().max() > 1e-3
    coordinates = torch.fft.ifftshift(nbp.coordinates(size, size, like=time()), dim=1)
    frequencies = torch.fft.fftfreq(size).double() * 2, torch.fft.rfftfreq(size).double() * 2
    expected = torch.stack(torch.meshgrid(*frequencies, indexing="ij"))
    torch.testing.assert_close(coordinates, expected)


def test_filter_can_learn_a_band():
    torch.manual_seed(0)
    nbp, t = NeuralBandPassFilter(3, 1, TIME), time(1).float()
    radius = torch.fft.ifftshift(nbp.coordinates(16, 16, like=t), dim=1).norm(dim=0)
    band = ((radius > 0.3) & (radius < 0.7)).float()
    optimizer = torch.optim.Adam(nbp.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        torch.nn.functional.binary_cross_entropy(nbp(16, 16, t)[0, 0], band).backward()
        optimizer.step()
    assert ((nbp(16, 16, t)[0, 0] > 0.5) == (band > 0.5)).float().mean() > 0.95


@pytest.mark.parametrize("product", ["attention", "elementwise"])
def test_blocks_begin_as_the_identity_and_then_everything_in_them_acts(product):
    config = V2Config(ss_former_blocks=2, ss_former_product=product)
    former = SSFormer(8, TIME, config).double()
    semantic, noisy = maps(2, (2, 8, 6, 6))
    assert torch.equal(former(semantic, noisy, time()), semantic)
    awaken(former)
    whole = former(semantic, noisy, time())
    assert len(former.blocks) == 4
    for other in [
        former(semantic.flip(0), noisy, time()),
        former(semantic, noisy.flip(0), time()),
        former(semantic, noisy, time().flip(0)),
    ]:
        assert (other - whole).abs().max() > 1e-2
    for block in former.blocks:
        for name in ("product", "norm", "film", "mlp", "norm_query", "norm_noisy"):
            part = getattr(block, name)
            forward, part.forward = part.forward, lambda x, *others: torch.zeros_like(x)
            assert (former(semantic, noisy, time()) - whole).abs().max() > 1e-3, name
            part.forward = forward


def test_the_second_block_takes_its_values_from_the_noisy_feature():
    block = awaken(CrossBlock(8, TIME, V2Config())).double()
    semantic, noisy = maps(2, (2, 8, 6, 6))
    taken: dict[str, Tensor] = {}
    block.product.v.register_forward_hook(lambda _m, args, _out: taken.update(value=args[0]))
    block(semantic, noisy, time(), value="semantic")
    torch.testing.assert_close(taken["value"], block.norm_query(semantic))
    block(semantic, noisy, time(), value="noisy")
    torch.testing.assert_close(taken["value"], block.norm_noisy(noisy))


@pytest.mark.parametrize("kind", ["attention", "elementwise"])
def test_spectra_are_float32_under_autocast(kind):
    torch.manual_seed(0)
    product = AttentionProduct(8, TIME, 2) if kind == "attention" else ElementwiseProduct(8)
    query, key, value = (x.float() for x in maps(3, (2, 8, 12, 12)))  # no power of 2
    exact = product(query, key, value, time().float()).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = product(query.bfloat16(), key.bfloat16(), value.bfloat16(), time().float())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0, atol=0.05 * float(exact.abs().max()))
