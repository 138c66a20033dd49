"""Weights of other programs: read, refused with what to do, and the same outputs as there."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.trainer.saved.improved_unet import ImprovedUNet
from trainer.configfile import ConfigError
from trainer.saved.model_io import TrainedModel, load

CONVENTIONS = {
    "model.layout.input_order": "image_first",
    "model.layout.image_range": [0, 1],
    "diffusion.target": "eps",
    "diffusion.noise_schedule": "linear",
    "diffusion.num_timesteps": 1000,
    "diffusion.background": 0,
}


def shaken(network: nn.Module, seed: int = 0) -> nn.Module:
    """Weights as after training, none of which is without effect."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_(0.1 * torch.randn(parameter.shape, generator=generator))
            parameter.add_(1.0 if parameter.dim() == 1 else 0.0)
    return network.eval()


def described(path: Path, store: Path, modalities: list[str], **settings: Any) -> Path:
    """Write what a file does not say beside it; write dots as two underscores."""
    own = {key.replace("__", "."): value for key, value in settings.items()}
    given = {**CONVENTIONS, "data.store": str(store), "data.modalities": modalities, **own}
    given = {key: value for key, value in given.items() if value is not None}
    path.with_suffix(".yaml").write_text(yaml.safe_dump(given))
    return path


def outputs(trained: TrainedModel, network: nn.Module) -> tuple[Tensor, Tensor]:
    """Ours and theirs for random masks and images, in double precision."""
    generator = torch.Generator().manual_seed(5)
    channels = trained.inputs.num_channels
    x_t = torch.randn(3, 1, 32, 32, generator=generator).double()
    cond = torch.rand(3, channels, 32, 32, generator=generator).double() * 2 - 1
    t = torch.tensor([0, 431, 999])
    model = trained.model.double()
    with torch.no_grad():
        ours = model(x_t, t, model.condition(cond))
        theirs = network.double()(torch.cat([(cond + 1) / 2, x_t], dim=1), t)
    return ours, theirs


@pytest.mark.parametrize(
    ("modalities", "layout", "said"),
    [
        (["ncct"], {}, {"num_heads": 1}),
        (["tmax", "ncct"], {"heads": 4, "mult": (1, 2, 2), "blocks": 2}, {"num_heads": 4}),
        (["ncct"], {"heads": 2, "film": True, "new_order": True, "updown": True},
         {"num_heads": 2, "attention_order": "new"}),
        (["ncct"], {"conv_resample": False, "attention": (1,)}, {"head_channels": 32}),
    ],
    ids=["one channel", "two channels", "guided-diffusion's", "without convolutions"],
)  # fmt: skip
def test_improved_diffusions_u_net_computes_what_it_did_there(
    phantom_store: Path,
    tmp_path: Path,
    modalities: list[str],
    layout: dict[str, Any],
    said: dict[str, Any],
) -> None:
    if "head_channels" in said:  # of both levels, which have 32 and 64
        layout = {**layout, "heads": 1, "mult": (1, 1)}
    network = shaken(ImprovedUNet(1 + len(modalities), 2, **layout))
    path = tmp_path / "emasavedmodel_0.9999_100000.pt"
    torch.save(network.state_dict(), path)
    said = {f"model__layout__{key}": value for key, value in said.items()}
    if said.get("model__layout__num_heads") != 1:
        said = {"model__layout__attention_order": "legacy", **said}
    trained = load(described(path, phantom_store, modalities, **said), "cpu")
    assert trained.config.model.family == "guided_unet"
    assert trained.config.diffusion.variance == "learned_range"
    ours, theirs = outputs(trained, network)
    assert ours.shape == (3, 2, 32, 32) and theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(
    "kinds",
    [{}, {"resblock_updown": True, "use_combined_linear": True, "include_fc": False}],
    ids=["as by default", "resblock_updown"],
)
def test_monais_diffusion_model_unet_computes_what_it_did_there(
    phantom_store: Path, tmp_path: Path, kinds: dict[str, Any]
) -> None:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    network = shaken(
        DiffusionModelUNet(
            spatial_dims=2,
            in_channels=3,
            out_channels=1,
            channels=(16, 32),
            attention_levels=(False, True),
            num_res_blocks=(2, 1),
            norm_num_groups=8,
            num_head_channels=8,
            **kinds,
        )
    )
    path = tmp_path / "epoch=3.ckpt"
    lightning = {
        "state_dict": {f"model.unet.{k}": v for k, v in network.state_dict().items()},
        "hyper_parameters": {"lr": 1e-4, "unet": {"norm_num_groups": 8}},
        "epoch": 3,
    }
    torch.save(lightning, path)
    said = {"model__layout__head_channels": 8, "model__layout__norm_eps": 1e-6}
    trained = load(described(path, phantom_store, ["ncct", "tmax"], **said), "cpu")
    assert trained.config.model.family == "monai_unet"
    ours, theirs = outputs(trained, network)
    assert theirs.std() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)
