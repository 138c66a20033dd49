"""A micro-batch's pass waits for nothing: neither for the device nor for a tensor of the CPU."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.models.on_meta import Watching, fuse, like_a_gpu
from tests.trainer.tiny import tiny_config
from trainer.data.batches import Draws, rows_of
from trainer.data.inputs import Inputs
from trainer.data.store import Store
from trainer.diffusion.process import Process
from trainer.models.new_network import new_network
from trainer.training.loss_weighting import TermWeights
from trainer.training.losses import term_names
from trainer.training.micro_batch import MicroStep, micro_batches, noise_of

META, CPU = torch.device("meta"), torch.device("cpu")

VARIANTS: dict[str, dict[str, Any]] = {
    "v1": {},
    "v2": {"model__family": "medsegdiff_v2"},
    "diffusion_unet": {"model__family": "diffusion_unet"},
    "unet": {"model__family": "unet"},
    "heavy, dropout, self-conditioning, eps": {
        "data__augment": "heavy",
        "model__dropout": 0.2,
        "diffusion__self_conditioning": 0.5,
        "diffusion__target": "eps",
    },
    "recycling, learned": {
        "diffusion__recycling": 0.5,
        "loss__weighting": "learned",
        "diffusion__variance": "learned_range",
    },
}


@pytest.mark.parametrize("name", VARIANTS)
def test_a_pass_needs_nothing_of_the_cpu_and_waits_for_nothing(
    phantom_store: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    store = Store.open(phantom_store)
    config = tiny_config(phantom_store, **VARIANTS[name])
    process, inputs = Process(config.diffusion), Inputs(store, config, META)
    model = new_network(config, inputs.spec, CPU).to(META)
    fuse(model)
    names = term_names(
        config.loss,
        segments_directly=model.segments_directly,
        has_anchor=model.has_anchor,
        learned_range=config.diffusion.variance == "learned_range",
    )
    term_weights = TermWeights(config.loss, names).to(META)
    step = MicroStep(
        config,
        model=model,
        term_weights=term_weights,
        process=process,
        inputs=inputs,
        autocast=torch.autocast("cpu", enabled=False),
    )
    batch = Draws(store, config, rows_of(store.split(0)[0])).batch(0, draws_noise=False)
    size = len(batch.numbers)
    t, importance, given = torch.zeros(size).long(), torch.ones(size), torch.ones(len(names))
    (micro,) = micro_batches(batch, size, t, importance, given)
    on_meta = micro._replace(**{k: v.to(META) for k, v in micro._asdict().items()})

    hosts: list[str] = []

    def tell(name: str, given: list[Tensor], out: list[Tensor]) -> None:
        if any(x.device.type == "cpu" for x in [*given, *out]):
            hosts.append(name)

    def one_pass() -> None:
        # Whoever asks the meta device for a value, as `item` and `tolist` do, gets an error.
        step(on_meta, recycles=True, conditions=config.diffusion.self_conditioning > 0)

    with like_a_gpu(monkeypatch):
        one_pass()  # brings tables and dropout's words to the device, once
        with Watching(tell):
            one_pass()
    assert hosts == []


def test_a_wait_would_be_found() -> None:
    with pytest.raises(RuntimeError, match="meta"):
        bool(torch.zeros(3, device=META).any())


def test_noise_from_keys_is_normal_and_belongs_to_its_image(phantom_store: Path) -> None:
    store = Store.open(phantom_store)
    config = tiny_config(phantom_store, batch__effective=64, epoch_images=64)
    keys = Draws(store, config, rows_of(store.split(0)[0])).batch(0, draws_noise=False).noise
    assert keys.shape == (64, 2)
    shape = torch.Size((1, 64, 64))
    noise = noise_of(keys, shape)
    assert noise.shape == (64, *shape)
    assert len(noise.flatten(1)[:, 0].unique()) == 64
    assert noise.mean().abs() < 0.01  # sd 0.002
    assert noise.std() == pytest.approx(1, abs=0.01)
    assert torch.equal(noise_of(keys[5:7], shape), noise[5:7])
    correlation = nn.functional.cosine_similarity(noise[:-1].flatten(1), noise[1:].flatten(1))
    assert correlation.abs().max() < 0.08  # sd 0.016
