"""MedSegDiff V1: its parts as the paper defines them, and the defects of known implementations."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from trainer.config import DiffusionConfig, LossConfig, ModelConfig, SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample
from trainer.losses import loss_terms
from trainer.models import build_model
from trainer.models.medsegdiff_v1 import AttentiveFusion, FFParser, MedSegDiffV1


def build(seed: int = 0, *, in_channels: int = 2, image_size: int = 16, **settings) -> MedSegDiffV1:
    torch.manual_seed(seed)
    config = ModelConfig(**{"width": 8, "depth": 3, **settings})
    model = build_model(
        config, in_channels=in_channels, image_size=image_size, outputs_logits=False
    )
    assert isinstance(model, MedSegDiffV1)
    return model


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Small tensors: threads would only wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def awaken(model: nn.Module) -> nn.Module:
    """Give every parameter a value as after training: nothing is the identity any more."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def inputs(b: int = 2, channels: int = 2, size: int = 16) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(2)
    x_t = torch.randn(b, 1, size, size, generator=generator)
    cond = torch.randn(b, channels, size, size, generator=generator)
    return x_t, torch.randint(0, 1000, (b,), generator=generator), cond


@pytest.mark.parametrize(
    ("size", "channels", "settings"),
    [
        (32, 1, {"depth": 2, "width": 24}),
        (48, 5, {"depth": 3, "num_res_blocks": 2}),
        (64, 2, {"depth": 4, "attention_levels": 0}),
        (96, 3, {"depth": 5, "attention_levels": 2}),
        (64, 1, {"depth": 7}),
        (20, 1, {"depth": 3, "attention_levels": 3, "dropout": 0.2}),
    ],
)
def test_any_size_depth_width_and_number_of_channels(size, channels, settings):
    model = build(in_channels=channels, image_size=size, **settings)
    output = model(*inputs(2, channels, size))
    assert output.shape == (2, 1, size, size) and output.isfinite().all()
    output.sum().backward()


@pytest.mark.parametrize("family", ["medsegdiff_v1", "unet"])
def test_an_image_size_that_does_not_divide_is_refused_in_one_line(family):
    config = ModelConfig(family=family, depth=5)
    with pytest.raises(
        ValueError,
        match=r"^image_size is 56, but model.depth 5 needs a multiple of 16 .*$",
    ):
        build_model(config, in_channels=1, image_size=56, outputs_logits=False)


@pytest.mark.parametrize("settings", [{}, {"num_res_blocks": 2, "attention_levels": 3}])
def test_every_parameter_learns_within_two_steps(settings):
    model = build(**settings)
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(2):
        optimizer.zero_grad()
        (model(*inputs()) - 1).square().mean().backward()
        optimizer.step()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert dead == []


@pytest.mark.parametrize("settings", [{"dropout": 0.3}, {"attention_levels": 3}])
def test_identical_calls_agree_and_samples_are_independent(settings):
    model = awaken(build(**settings)).double().eval()
    x_t, t, cond = inputs(3)
    x_t, cond = x_t.double(), cond.double()
    together = model(x_t, t, cond)
    assert torch.equal(together, model(x_t, t, cond))
    alone = torch.cat([model(x_t[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    assert not any(
        isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()
    )


def test_output_depends_on_mask_timestep_and_image():
    model = awaken(build()).eval()
    x_t, t, cond = inputs()
    output = model(x_t, t, cond)
    for other in [(x_t.flip(0), t, cond), (x_t, (t + 300) % 1000, cond), (x_t, t, cond.flip(0))]:
        assert (model(*other) - output).abs().max() > 1e-3


def test_each_encoder_sees_its_own_input_until_they_are_fused():
    model = awaken(build(depth=4)).eval()
    seen: dict[str, Tensor] = {}
    for name in ("image_levels", "mask_levels"):
        for i, level in enumerate(getattr(model, name)):
            level.register_forward_hook(
                lambda _module, _input, output, key=f"{name}.{i}": seen.update({key: output})
            )
    x_t, t, cond = inputs()
    model(x_t, t, cond)
    first = dict(seen)
    model(x_t, t, cond.flip(0))
    assert all(torch.equal(seen[f"mask_levels.{i}"], first[f"mask_levels.{i}"]) for i in range(4))
    model(x_t.flip(0), t, cond)
    unchanged = [
        torch.equal(seen[f"image_levels.{i}"], first[f"image_levels.{i}"]) for i in range(4)
    ]
    assert unchanged == [True, True, False, False]  # fused after levels 1 and 2


def test_image_detail_reaches_the_decoder_at_full_resolution():
    model = awaken(build(depth=4)).eval()
    seen: dict[str, Tensor] = {}
    for name in ("image_levels", "mask_levels"):
        getattr(model, name)[0].register_forward_hook(
            lambda _module, _input, output, key=name: seen.update({key: output})
        )
    model.skips[0].register_forward_pre_hook(lambda _module, args: seen.update(skip=args[0]))
    model(*inputs())
    torch.testing.assert_close(seen["skip"], seen["image_levels"] + seen["mask_levels"])


@pytest.mark.parametrize(
    ("depth", "fused"),
    [(2, (0, 1)), (3, (1, 2)), (4, (1, 2)), (5, (2, 3)), (6, (2, 3)), (7, (3, 4))],
)
def test_the_middle_two_levels_are_fused(depth, fused):
    assert build(depth=depth, image_size=64).fused == fused


@pytest.mark.parametrize("part", ["parsers", "fusions"])
def test_removing_a_part_changes_the_output(part):
    model = awaken(build()).eval()
    before = model(*inputs())
    for module in getattr(model, part):
        module.forward = lambda m, *others: m
    assert (model(*inputs()) - before).abs().max() > 1e-3


def test_ff_parser_begins_as_the_identity():
    m = torch.randn(2, 8, 12, 12)
    torch.testing.assert_close(FFParser(8, 12)(m), m)


def test_ff_parser_multiplies_the_spectrum_by_complex_weights():
    parser, m = FFParser(3, 10).double(), torch.randn(2, 3, 10, 10).double()
    frequency = torch.fft.rfftfreq(10, dtype=torch.float64)
    with torch.no_grad():  # a phase ramp moves the map; no real weights can
        parser.real.copy_(torch.cos(2 * torch.pi * 3 * frequency).expand_as(parser.real))
        parser.imag.copy_(-torch.sin(2 * torch.pi * 3 * frequency).expand_as(parser.imag))
    torch.testing.assert_close(parser(m), m.roll(3, dims=-1))
    with torch.no_grad():
        parser.imag.zero_()
        parser.real.zero_()[:, 0, 0] = 1
    torch.testing.assert_close(parser(m), m.mean((2, 3), keepdim=True).expand_as(m))


def test_ff_parser_computes_in_float32_under_autocast():
    parser, m = FFParser(8, 16), torch.randn(2, 8, 16, 16)
    nn.init.normal_(parser.imag)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(parser(m), parser(m.float()))
        assert parser(m.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(parser(m.bfloat16()), parser(m), atol=0.05, rtol=0.05)


def test_fusion_multiplies_both_norms_with_the_raw_image_feature():
    fusion = awaken(AttentiveFusion(8))
    m_image, m_mask = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 4, 4)

    def layer_norm(m: Tensor, norm: nn.LayerNorm) -> Tensor:
        mean, variance = m.mean(1, keepdim=True), m.var(1, correction=0, keepdim=True)
        gain, bias = norm.weight[:, None, None], norm.bias[:, None, None]
        return (m - mean) / (variance + norm.eps).sqrt() * gain + bias

    expected = (
        layer_norm(m_image, fusion.norm_image.norm)
        * layer_norm(m_mask, fusion.norm_mask.norm)
        * m_image
    )
    torch.testing.assert_close(fusion(m_image, m_mask), expected)


def test_bfloat16_autocast_trains_and_returns_float32():
    model = awaken(build(attention_levels=2))
    exact = model(*inputs())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = model(*inputs())
    output.square().mean().backward()
    assert output.dtype == torch.float32
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert (output - exact).abs().max() < 0.1 * exact.abs().max()


def test_fusion_begins_near_the_image_feature():
    m_image, m_mask = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 4, 4)
    fused = AttentiveFusion(16)(m_image, m_mask)
    assert (fused - m_image).std() < 0.3 * m_image.std()


@pytest.mark.parametrize(("target", "dice"), [("x_start", 0.9), ("v", 0.7)])
def test_memorises_four_tiny_lesions(target, dice):
    process = Process(DiffusionConfig(target=target))
    loss, sampling = LossConfig(), SamplingConfig(timestep_respacing=10)
    model = build(in_channels=1, image_size=32, width=8)
    generator = torch.Generator().manual_seed(0)

    def normal() -> Tensor:
        return torch.randn(4, 1, 32, 32, generator=generator)

    cond, x_start = normal(), -torch.ones(4, 1, 32, 32)
    for i, (row, column) in enumerate([(5, 7), (20, 11), (9, 24), (26, 26)]):
        x_start[i, 0, row : row + 2, column : column + 2] = 1
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    losses = []
    for _ in range(120):
        t = torch.randint(0, process.num_timesteps, (4,), generator=generator)
        noise = normal()
        x_t = process.q_sample(x_start, t, noise)
        terms = loss_terms(
            model(x_t, t, cond),
            process=process,
            x_start=x_start,
            x_t=x_t,
            noise=noise,
            t=t,
            config=loss,
            segments_directly=False,
        )
        total = sum(getattr(loss, name) * term.mean() for name, term in terms.items())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(total.item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])

    model.eval()
    mask = sample(process, lambda x_t, t: model(x_t, t, cond), normal(), sampling, lambda i: noise)
    predicted, true = mask > 0, x_start > 0
    assert 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) > dice
