"""MedSegDiff V1: its parts as the paper defines them, and the defects of known implementations."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.models import families
from tests.trainer.models.families import awaken, call
from trainer.models.medsegdiff_v1 import AttentiveFusion, FFParser, MedSegDiffV1


def build(**settings) -> MedSegDiffV1:
    model = families.build(image_size=settings.pop("image_size", 16), **settings)
    assert isinstance(model, MedSegDiffV1)
    return model


def inputs(b: int = 2) -> tuple[Tensor, Tensor, Tensor]:
    return families.inputs(b, size=16)


def test_each_encoder_sees_its_own_input_until_they_are_fused():
    model = awaken(build(depth=4)).eval()
    seen: dict[str, Tensor] = {}
    for name in ("image_levels", "mask_levels"):
        for i, level in enumerate(getattr(model, name)):
            level.register_forward_hook(
                lambda _module, _input, output, key=f"{name}.{i}": seen.update({key: output})
            )
    x_t, t, cond = inputs()
    call(model, x_t, t, cond)
    first = dict(seen)
    call(model, x_t, t, cond.flip(0))
    assert all(torch.equal(seen[f"mask_levels.{i}"], first[f"mask_levels.{i}"]) for i in range(4))
    call(model, x_t.flip(0), t, cond)
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
    call(model, *inputs())
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
    before = call(model, *inputs())
    for module in getattr(model, part):
        module.forward = lambda m, *others: m
    assert (call(model, *inputs()) - before).abs().max() > 1e-3


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
        half = parser(m.bfloat16())
    assert torch.equal(half, parser(m.bfloat16().float()).bfloat16())


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


def test_fusion_begins_near_the_image_feature():
    m_image, m_mask = torch.randn(2, 16, 4, 4), torch.randn(2, 16, 4, 4)
    fused = AttentiveFusion(16)(m_image, m_mask)
    assert (fused - m_image).std() < 0.3 * m_image.std()


@pytest.mark.parametrize(
    ("switches", "gone"),
    [
        ({"ff_parser": False}, {"parsers"}),
        ({"fusion": False}, {"fusions"}),
        ({"ff_parser": False, "fusion": False}, {"parsers", "fusions"}),
    ],
)
def test_without_a_part_the_rest_begins_as_it_would_with_it(switches, gone):
    whole, ablated = build().state_dict(), build(v1=switches).state_dict()
    assert {name.split(".")[0] for name in whole.keys() - ablated.keys()} == gone
    assert ablated.keys() < whole.keys()
    assert all(torch.equal(ablated[name], whole[name]) for name in ablated)


def test_without_fusion_the_decoder_has_the_filtered_feature_and_the_image_encoder_none():
    model = awaken(build(depth=4, v1={"fusion": False})).eval()
    seen: dict[str, Tensor] = {}
    for name in ("image_levels", "mask_levels"):
        getattr(model, name)[1].register_forward_hook(
            lambda _module, _input, output, key=name: seen.update({key: output})
        )
    model.image_levels[3].register_forward_hook(
        lambda _module, _input, output: seen.update(deepest=output)
    )
    model.skips[1].register_forward_pre_hook(lambda _module, args: seen.update(skip=args[0]))
    x_t, t, cond = inputs()
    call(model, x_t, t, cond)
    filtered = model.parsers[0](seen["mask_levels"])
    torch.testing.assert_close(seen["skip"], seen["image_levels"] + filtered)
    assert (filtered - seen["mask_levels"]).abs().max() > 1e-3
    before = seen["deepest"]
    call(model, x_t.flip(0), t, cond)
    assert torch.equal(seen["deepest"], before)
