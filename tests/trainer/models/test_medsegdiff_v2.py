"""MedSegDiff V2: how its parts are put together."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.models import families
from tests.trainer.models.families import awaken, call, inputs
from trainer.models.medsegdiff_v2 import MedSegDiffV2


def build(**settings) -> MedSegDiffV2:
    model = families.build(family="medsegdiff_v2", **settings)
    assert isinstance(model, MedSegDiffV2)
    return model


def seen(model: nn.Module, parts: dict[str, nn.Module], *arguments: Tensor) -> dict[str, Tensor]:
    """Call the model; return what went into and came out of some of its parts."""
    found: dict[str, Tensor] = {}
    hooks = []
    for name, part in parts.items():
        hooks += [
            part.register_forward_hook(
                lambda _module, args, out, name=name: found.update(
                    {f"{name}.in{i}": arg for i, arg in enumerate(args)} | {f"{name}.out": out}
                )
            )
        ]
    call(model, *arguments)
    for hook in hooks:
        hook.remove()
    return found


@pytest.mark.parametrize("anchor_levels", [1, 2])
def test_condition_is_mask_deepest_and_anchoring_features(anchor_levels):
    model = awaken(build(depth=4, v2={"anchor_levels": anchor_levels})).eval()
    shapes = [tuple(part.shape) for part in model.condition(inputs()[2])]
    assert shapes[:2] == [(2, 1, 32, 32), (2, 64, 4, 4)]
    assert shapes[2:] == [(2, 8, 32, 32), (2, 16, 16, 16)][:anchor_levels]
    assert model.has_anchor and not model.segments_directly


@pytest.mark.parametrize("anchor_levels", [1, 2])
def test_anchored_features_are_what_the_next_stage_sees(anchor_levels):
    model = awaken(build(depth=4, v2={"anchor_levels": anchor_levels})).eval()
    parts = {f"down{i}": model.encoder.enter[i] for i in (1, 2, 3)}
    parts |= {f"level{i}": model.encoder.levels[i] for i in range(3)}
    x_t, t, cond = inputs()
    found = seen(model, parts, x_t, t, cond)
    features = model.condition(cond)[2:]
    for level in range(3):
        expected = found[f"level{level}.out"]
        if level < anchor_levels:
            expected = model.anchors[level](expected, features[level])
        torch.testing.assert_close(found[f"down{level + 1}.in0"], expected)


def test_the_decoder_has_image_detail_at_the_anchored_level_and_both_deepest_features():
    model = awaken(build(depth=3, attention_levels=0)).eval()
    x_t, t, cond = inputs()
    parts = {
        "skip": model.decoder.skips[0],
        "deepest": model.decoder.levels[-1],
        "noisy": model.encoder.levels[-1],
        "down": model.encoder.enter[1],
        "former": model.ss_former,
    }
    found = seen(model, parts, x_t, t, cond)
    _, semantic, f_c = model.condition(cond)
    torch.testing.assert_close(found["skip.in0"], found["down.in0"] + f_c)
    torch.testing.assert_close(found["former.in0"], semantic)
    torch.testing.assert_close(found["former.in1"], found["noisy.out"])
    torch.testing.assert_close(found["deepest.in0"], found["noisy.out"] + found["former.out"])


def test_removing_a_part_changes_the_output():
    model = awaken(build(depth=4, v2={"anchor_levels": 2, "ss_former_blocks": 2})).eval()
    whole = call(model, *inputs()).detach()

    def without(part: nn.Module, replacement) -> float:
        forward, part.forward = part.forward, replacement
        moved = float((call(model, *inputs()).detach() - whole).abs().max())
        part.forward = forward
        return moved

    for anchor in model.anchors:
        assert without(anchor, lambda f_d, f_c: f_d) > 1e-3
        assert without(anchor.gaussian, lambda f_c: f_c) > 1e-3
    assert without(model.ss_former, lambda semantic, noisy, time: semantic) > 1e-3
    for block in model.ss_former.blocks:
        assert without(block, lambda semantic, noisy, time, value: semantic) > 1e-3
        opened = torch.ones(2, 2, 4, 3)
        assert without(block.product.filter, lambda h, w, time, gate=opened: gate) > 1e-4
    assert torch.equal(call(model, *inputs()), whole)


def test_one_set_of_weights_serves_every_image_size():
    model = awaken(build(depth=4)).eval()
    other = awaken(build(depth=4, image_size=96))
    other.load_state_dict(model.state_dict())
    assert call(model, *inputs(size=96)).shape == (2, 1, 96, 96)


@pytest.mark.parametrize("anchor_levels", [1, 2])
def test_two_levels_are_enough(anchor_levels):
    model = awaken(build(depth=2, v2={"anchor_levels": anchor_levels}))
    call(model, *inputs()).sum().backward()
    assert all(p.grad.any() for n, p in model.named_parameters() if "condition.mask_" not in n)


def test_the_anchor_loss_trains_the_condition_unet_alone():
    model = awaken(build())
    model.condition(inputs()[2])[0].sum().backward()
    trained = {name for name, p in model.named_parameters() if p.grad is not None}
    assert trained == {name for name, _ in model.named_parameters() if "condition." in name}


@pytest.mark.parametrize(
    ("switch", "gone"),
    [
        ({"anchor_levels": 0}, "anchors."),
        ({"ss_former_blocks": 0}, "ss_former."),
        ({"nbp_blocks": 0}, "ss_former.blocks.{}.product.filter."),
    ],
)
def test_without_a_part_just_its_weights_are_gone(switch, gone):
    whole, ablated = dict(build().named_parameters()), dict(build(v2=switch).named_parameters())
    parts = tuple(gone.format(i) for i in range(2))
    assert whole.keys() - ablated.keys() == {name for name in whole if name.startswith(parts)}
    assert ablated.keys() < whole.keys()
    assert all(ablated[name].shape == whole[name].shape for name in ablated)


def test_without_the_anchor_the_finest_skip_still_has_image_detail():
    model = awaken(build(v2={"anchor_levels": 0})).eval()
    x_t, t, cond = inputs()
    found = seen(
        model, {"skip": model.decoder.skips[0], "down": model.encoder.enter[1]}, x_t, t, cond
    )
    _, _, f_c = model.condition(cond)
    torch.testing.assert_close(found["skip.in0"], found["down.in0"] + f_c)


def test_without_an_ss_former_the_deepest_features_are_added():
    model = awaken(build(attention_levels=0, v2={"ss_former_blocks": 0})).eval()
    parts = {"deepest": model.decoder.levels[-1], "noisy": model.encoder.levels[-1]}
    x_t, t, cond = inputs()
    found = seen(model, parts, x_t, t, cond)
    torch.testing.assert_close(found["deepest.in0"], found["noisy.out"] + model.condition(cond)[1])
