"""Gradient checkpointing: less memory, the same gradient."""

import copy

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.models.families import VARIANTS, awaken, build, call, everything, inputs, size_of
from trainer.models.dropout import set_images


def kept_bytes(model: nn.Module, *arguments: Tensor) -> int:
    """Run forward and backward, and return how much the forward pass kept for it."""
    kept = {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
        output = everything(model, *arguments)
    for parameter in model.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    output.square().mean().backward()
    return sum(kept.values())


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.one_in(3)
def test_gradients_are_equal_bit_for_bit_in_less_memory(variant):
    settings = VARIANTS[variant] | {"dropout": 0.2, "num_res_blocks": 2}
    plain = awaken(build(**settings))
    saving = awaken(build(**settings, gradient_checkpointing=True))
    saving.load_state_dict(plain.state_dict())
    arguments = inputs(size=size_of(settings["family"]))
    numbers = torch.tensor([4, 9])
    for model in (plain, saving):
        set_images(model, 0, numbers)
    assert kept_bytes(saving, *arguments) < 0.7 * kept_bytes(plain, *arguments)
    for (name, p), q in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


@pytest.mark.parametrize("variant", ["medsegdiff_v2", "unet"])
def test_a_copy_computes_with_its_own_weights(variant):
    model = awaken(build(**VARIANTS[variant], gradient_checkpointing=True)).eval()
    average, arguments = copy.deepcopy(model), inputs()
    before = call(average, *arguments)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2)
    assert torch.equal(call(average, *arguments), before)
