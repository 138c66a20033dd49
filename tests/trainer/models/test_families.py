"""What holds for the networks of every family."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.models.families import (
    ABLATIONS,
    FAMILIES,
    VARIANTS,
    awaken,
    build,
    call,
    everything,
    inputs,
    size_of,
)
from trainer.model_config import ModelConfig
from trainer.models import build_model
from trainer.models.dropout import set_images


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("size", "channels", "settings"),
    [
        (64, 1, {"width": 8, "depth": 4, "attention_levels": 0}),
        (96, 5, {"width": 12, "depth": 5, "num_res_blocks": 2}),
        (128, 2, {"width": 20, "depth": 6, "attention_levels": 2}),
        (64, 3, {"width": 32, "depth": 3, "dropout": 0.2}),
        (64, 1, {"width": 7, "depth": 6}),
    ],
)
@pytest.mark.one_in(7)
def test_any_size_width_depth_and_number_of_channels(family, size, channels, settings):
    model = build(
        family=family,
        image_size=size,
        in_channels=channels,
        mask_channels=2,
        out_channels=2,
        **settings,
    )
    set_images(model, 0, torch.arange(2))
    output = call(model, *inputs(2, channels, size, mask_channels=2))
    assert output.shape == (2, 2, size, size) and output.isfinite().all()
    assert output.dtype == torch.float32
    output.sum().backward()


@pytest.mark.parametrize("family", sorted({*FAMILIES} - {"swin_unetr"}))
def test_an_image_size_that_does_not_divide_is_refused_in_one_line(family):
    with pytest.raises(
        ValueError, match=r"^image_size is 56, but model.depth 5 needs a multiple of 16 .*$"
    ):
        build(family=family, image_size=56, depth=5)


@pytest.mark.parametrize("variant", VARIANTS | ABLATIONS)
@pytest.mark.one_in(4)
def test_every_parameter_learns_within_two_steps(variant):
    settings = (VARIANTS | ABLATIONS)[variant]
    model = build(**settings, num_res_blocks=2)
    optimizer = torch.optim.AdamW(model.parameters())
    arguments = inputs(size=size_of(settings.get("family", "")))
    for _ in range(2):
        optimizer.zero_grad()
        (everything(model, *arguments) - 1).square().mean().backward()
        optimizer.step()
    dead = [
        name
        for name, parameter in model.named_parameters()
        if parameter.grad is None or not parameter.grad.any()
    ]
    assert dead == []


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.one_in(3)
def test_nothing_in_it_is_without_effect(variant):
    model = awaken(build(**VARIANTS[variant])).eval()
    arguments = inputs(1, size=size_of(VARIANTS[variant]["family"]))
    without_effect = []
    with torch.no_grad():
        whole = everything(model, *arguments)
        for name, module in model.named_modules():
            if not list(module.parameters(recurse=False)):
                continue
            hook = module.register_forward_hook(lambda _module, _input, out: torch.zeros_like(out))
            if (everything(model, *arguments) - whole).abs().max() < 1e-4:
                without_effect.append(name)
            hook.remove()
    assert without_effect == []


@pytest.mark.parametrize("variant", VARIANTS)
def test_identical_calls_agree_and_add_no_layer(variant):
    model = awaken(build(**VARIANTS[variant], dropout=0.3)).eval()
    arguments = inputs(size=size_of(VARIANTS[variant]["family"]))
    names = list(model.state_dict())
    first = call(model, *arguments)
    assert torch.equal(first, call(model, *arguments))
    assert list(model.state_dict()) == names
    with torch.autocast("cpu", dtype=torch.bfloat16):
        half = call(model, *arguments)
        assert torch.equal(half, call(model, *arguments))
    assert half.dtype == torch.float32 and half.isfinite().all()
    assert (half - first).abs().max() < 0.1 * first.abs().max()


@pytest.mark.parametrize("variant", VARIANTS)
def test_bfloat16_autocast_trains(variant):
    model = awaken(build(**VARIANTS[variant]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = everything(model, *inputs(size=size_of(VARIANTS[variant]["family"])))
    output.square().mean().backward()
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("variant", VARIANTS)
def test_float64_stays_float64_and_samples_do_not_know_each_other(variant):
    model = awaken(build(**VARIANTS[variant])).double().eval()
    x_t, t, cond = inputs(3, size=size_of(VARIANTS[variant]["family"]))
    x_t, cond = x_t.double(), cond.double()
    together = everything(model, x_t, t, cond)
    alone = torch.cat(
        [everything(model, x_t[i : i + 1], t[i : i + 1], cond[i : i + 1]) for i in range(3)]
    )
    assert together.dtype == torch.float64
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9)
    assert not any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in model.modules())


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_condition_serves_every_step_and_member(variant):
    model = awaken(build(**VARIANTS[variant])).double().eval()
    size = size_of(VARIANTS[variant]["family"])
    x_t, t, cond = (x.double() if x.is_floating_point() else x for x in inputs(2, size=size))
    condition = model.condition(cond)
    assert isinstance(condition, tuple) and all(len(part) == 2 for part in condition)
    model(x_t, t, condition)
    for seed in (3, 4):  # other noise and timesteps, the same images
        x_t, t, _ = inputs(2, size=size, seed=seed)
        assert torch.equal(model(x_t.double(), t, condition), call(model, x_t.double(), t, cond))
    members = tuple(torch.cat([part, part]) for part in condition)
    x_t, t, _ = inputs(4, size=size)
    torch.testing.assert_close(
        model(x_t.double(), t, members),
        call(model, x_t.double(), t, torch.cat([cond, cond])),
        rtol=1e-9,
        atol=1e-9,
    )


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_output_depends_on_all_that_it_should(variant):
    model = awaken(build(**VARIANTS[variant])).eval()
    x_t, t, cond = inputs(size=size_of(VARIANTS[variant]["family"]))
    output = call(model, x_t, t, cond)

    def moves(*arguments: Tensor) -> bool:
        return bool((call(model, *arguments) - output).abs().max() > 1e-3)

    assert moves(x_t, t, cond.flip(0))
    seen = [moves(x_t.flip(0), t, cond), moves(x_t, (t + 300) % 1000, cond)]
    assert seen == [not model.segments_directly] * 2


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_begin_at_the_lesions_share(family):
    model = build(family=family, outputs_logits=True, out_channels=2).eval()
    arguments = inputs(size=size_of(family))
    logits = everything(model, *arguments)
    assert 0.002 < torch.sigmoid(logits[:, 0]).mean() < 0.1
    if model.has_anchor:
        assert 0.002 < torch.sigmoid(logits[:, 2]).mean() < 0.1
    assert logits[:, 1].abs().mean() < 1.5  # a variance between its bounds, not a logit


@pytest.mark.parametrize("family", FAMILIES)
def test_both_memory_layouts_compute_the_same(family):
    model = awaken(build(family=family)).double().eval()
    x_t, t, cond = (x.double() if x.is_floating_point() else x for x in inputs(size=64))
    if family == "medsegdiff_v1":  # its weights know the image size
        x_t, cond = x_t[..., :32, :32], cond[..., :32, :32]
    plain = call(model, x_t, t, cond)
    model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(call(model, x_t, t, cond), plain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["medsegdiff_v1", "medsegdiff_v2"])
@pytest.mark.parametrize(("preset", "downsamplings"), [("S", 4), ("B", 5), ("L", 6)])
def test_presets_have_the_papers_downsamplings(family, preset, downsamplings):
    config = ModelConfig(family=family, preset=preset)
    with torch.device("meta"):
        model = build_model(config, in_channels=3, image_size=256, outputs_logits=False)
    downs = model.mask_downs if family == "medsegdiff_v1" else model.encoder.enter[1:]
    assert [down.stride for down in downs] == [(2, 2)] * downsamplings
    assert downs[-1].out_channels == 512
