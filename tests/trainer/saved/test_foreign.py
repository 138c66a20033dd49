"""Weights of other programs: read, refused with what to do, and the same outputs as there."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor, nn

from tests.trainer.saved.improved_unet import ImprovedUNet
from tests.trainer.tiny import tiny_config
from trainer.config import DiffusionConfig, SamplingConfig
from trainer.configfile import ConfigError
from trainer.data.store import Store
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample
from trainer.loop import fit
from trainer.saved.model_io import TrainedModel, load, run_folder, unseen

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


def monai_ckpt(path: Path, hyper: dict[str, Any], **layout: Any) -> Path:
    from monai.networks.nets.diffusion_model_unet import DiffusionModelUNet

    usual = {"channels": (16, 32), "attention_levels": (False, True), "num_res_blocks": 1,
             "norm_num_groups": 8, "num_head_channels": 8}  # fmt: skip
    network = DiffusionModelUNet(spatial_dims=2, in_channels=2, out_channels=1, **usual | layout)
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": hyper}, path)
    return path


@pytest.mark.parametrize(
    "hyper",
    [
        {"num_head_channels": None},
        {"net": {"num_head_channels": 8}, "autoencoder": {"num_head_channels": 16}},
    ],
)
def test_what_hyper_parameters_do_not_tell_alike_is_asked_for(
    phantom_store: Path, tmp_path: Path, hyper: dict[str, Any]
) -> None:
    path = monai_ckpt(tmp_path / "w.ckpt", hyper | {"norm_num_groups": 8, "norm_eps": 1e-6})
    assert "it does not say model.layout.head_channels: write" in refusal(
        described(path, phantom_store, ["ncct"])
    )
    line = refusal(described(path, phantom_store, ["ncct"], model__layout__head_channels=None))
    assert "it does not say model.layout.head_channels" in line
    said = described(path, phantom_store, ["ncct"], model__layout__head_channels=8)
    assert load(said, "cpu").config.model.layout.head_channels == (8,)


@pytest.mark.parametrize(("schedule", "timesteps"), [("sigmoid", 1000), ("linear", 500)])
def test_schedules_that_monai_has_otherwise_are_refused(
    phantom_store: Path, tmp_path: Path, schedule: str, timesteps: int
) -> None:
    path = monai_ckpt(tmp_path / "w.ckpt", {"norm_num_groups": 8, "norm_eps": 1e-6})
    told = {"diffusion__noise_schedule": schedule, "diffusion__num_timesteps": timesteps}
    path = described(path, phantom_store, ["ncct"], model__layout__head_channels=8, **told)
    assert f"diffusion.noise_schedule: {schedule}: MONAI has another of" in refusal(path)


def test_a_level_without_attention_has_no_heads(phantom_store: Path, tmp_path: Path) -> None:
    """As MONAI's tutorials have it: 256 channels a head, and a first level of 128."""
    path = monai_ckpt(
        tmp_path / "w.ckpt",
        {"num_head_channels": 32, "norm_num_groups": 8, "norm_eps": 1e-6},
        num_head_channels=(0, 32),
    )
    assert load(described(path, phantom_store, ["ncct"]), "cpu").config.model.depth == 2


def test_more_layouts_of_the_same_weights(phantom_store: Path, tmp_path: Path) -> None:
    """Data parallel, beside others' weights, in half, and of torch before 1.6."""
    network = shaken(ImprovedUNet(2, 1))
    state = {f"module.{name}": value for name, value in network.state_dict().items()}
    others = {"loss.weight": torch.zeros(3)}
    old = {"_use_new_zipfile_serialization": False}
    plain = load(saved(tmp_path / "a.pt", phantom_store, {"model": {**state, **others}}), "cpu")
    ancient = load(saved(tmp_path / "b.pt", phantom_store, state, **old), "cpu")
    half = {name: value.half() for name, value in state.items()}
    rough = load(saved(tmp_path / "c.pt", phantom_store, half), "cpu")
    for name, value in plain.model.state_dict().items():
        assert torch.equal(value, ancient.model.state_dict()[name])
        assert rough.model.state_dict()[name].dtype == torch.float32
    assert plain.config.diffusion.variance == "fixed_small"


def saved(path: Path, store: Path, content: Any, **how: Any) -> Path:
    torch.save(content, path, **how)
    return described(path, store, ["ncct"], model__layout__num_heads=1)


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, "cpu")
    [line] = caught.value.lines
    assert "\n" not in line
    return line


def test_what_a_file_does_not_say_is_asked_for_in_one_line(
    phantom_store: Path, tmp_path: Path
) -> None:
    state = shaken(ImprovedUNet(2, 2)).state_dict()
    torch.save(state, tmp_path / "w.pt")
    line = refusal(tmp_path / "w.pt")
    assert line.startswith(f"{tmp_path / 'w.pt'}: improved-diffusion's U-Net ")
    for name in ("model.layout.num_heads", "diffusion.target", "diffusion.background"):
        assert name in line
    assert f"write them into {tmp_path / 'w.yaml'}" in line
    for settings, expected in (
        ({"data__modalities": ["ncct", "tmax"]}, "2 channels, but w.pt takes 1 beside the noisy"),
        ({"model__width": 64}, "model.width: 64: but its weights have 32"),
        ({"diffusion__target": "x_start"}, "diffusion.target: x_start: there it is the mask"),
        ({"diffusion__variance": "fixed_small"}, "its weights predict 2 channels"),
        ({"model__layout__num_heads": 3}, "model.layout.num_heads: 3: must divide the channels"),
        ({"diffusion__targt": "eps"}, "diffusion.targt: no such key"),
    ):
        given = {"data__modalities": ["ncct"], "model__layout__num_heads": 1, **settings}
        modalities = given.pop("data__modalities")
        if given["model__layout__num_heads"] == 3:
            given["model__layout__attention_order"] = "legacy"
        assert expected in refusal(described(tmp_path / "w.pt", phantom_store, modalities, **given))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"hwm.conv.weight": (3, 3)}, "hwm.conv.weight (3, 3) is of the highway network of MedSeg"),
        ({"label_emb.weight": (4, 128)}, "a network that is told a class"),
        ({"out.2.weight": (3, 32, 3, 3)}, "it predicts 3 channels, and a mask has one"),
        ({"input_blocks.0.0.weight": (32, 2, 3, 3, 3)}, "these are 2-D"),
        (
            {"middle_block.1.norm.weight": (7,)},
            "middle_block.1.norm.weight is (7,) there and (64,)",
        ),
        ({"input_blocks.1.0.extra": (7,)}, "input_blocks.1.0.extra is (7,) there and not here"),
    ],
)
def test_another_network_is_said_with_its_first_weights_that_differ(
    phantom_store: Path, tmp_path: Path, change: dict[str, tuple[int, ...]], expected: str
) -> None:
    state = shaken(ImprovedUNet(2, 2)).state_dict()
    state |= {name: torch.zeros(shape) for name, shape in change.items()}
    line = refusal(saved(tmp_path / "w.pt", phantom_store, state))
    assert expected in line and "docs/weights.md" in line


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda weight: weight.to(torch.int8), "is no weight: int8, and not floating point"),
        (lambda weight: weight * math.nan, "is not finite: its training diverged"),
        (lambda weight: weight.to_sparse(), "is no weight: it has no values of its own, or is"),
    ],
)
def test_values_that_are_no_weights_are_said(
    phantom_store: Path, tmp_path: Path, change: Callable[[Tensor], Tensor], expected: str
) -> None:
    state = shaken(ImprovedUNet(2, 1)).state_dict()
    state["out.2.weight"] = change(state["out.2.weight"])
    assert f"out.2.weight: {expected}" in refusal(saved(tmp_path / "w.pt", phantom_store, state))


def test_weights_that_lie_in_one_folder_have_a_folder_each(
    phantom_store: Path, tmp_path: Path
) -> None:
    state = shaken(ImprovedUNet(2, 1)).state_dict()
    found = [load(saved(tmp_path / name, phantom_store, state), "cpu") for name in ("a.pt", "b.pt")]
    assert [run_folder(each) for each in found] == [tmp_path / "a.segtune", tmp_path / "b.segtune"]


def test_a_file_that_would_run_code_says_what_and_how_to_do_without(tmp_path: Path) -> None:
    import argparse

    torch.save({"state_dict": {}, "args": argparse.Namespace(lr=1)}, tmp_path / "w.ckpt")
    line = refusal(tmp_path / "w.ckpt")
    assert "it would run argparse.Namespace: " in line and "torch.save(model.state_dict()," in line


def test_a_background_of_zero_is_noised_and_found_again() -> None:
    """x_t as MedSegDiff makes it, of 0 and 1; and a perfect network gives the mask back."""
    plain = DiffusionConfig(target="eps", noise_schedule="linear")
    process = Process(plain.model_copy(update={"background": 0}))
    mask = (torch.randn(4, 1, 8, 8) > 0).double() * 2 - 1
    noise, t = torch.randn(4, 1, 8, 8).double(), torch.tensor([0, 10, 500, 900])
    kept = process.alphas_cumprod[t][:, None, None, None]
    x_t = process.q_sample(mask, t, noise)
    torch.testing.assert_close(x_t, kept.sqrt() * (mask + 1) / 2 + (1 - kept).sqrt() * noise)
    torch.testing.assert_close(process.x_start(noise, x_t, t), mask)
    torch.testing.assert_close(process.snr(t), Process(plain).snr(t) / 4)

    def perfect(x_t: Tensor, t: Tensor) -> Tensor:
        return process.eps(mask, x_t, t)

    for method in ("ddim", "ddpm", "dpmpp_2m"):
        how = SamplingConfig(method=method, timestep_respacing=5)
        found = sample(process, perfect, noise, how, lambda step: torch.randn_like(noise))
        torch.testing.assert_close(found, mask)


@pytest.mark.slow
def test_a_run_begins_with_them_and_its_model_goes_on(phantom_store: Path, tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(shaken(ImprovedUNet(2, 2)).state_dict(), path)
    given = {"model.layout.num_heads": 1, **CONVENTIONS}  # and the run's own data
    path.with_suffix(".yaml").write_text(yaml.safe_dump(given))
    settings = {
        "model__family": "guided_unet",
        "model__width": 32,
        "model__depth": 2,
        "model__layout__norm_groups": 32,
        "model__layout__input_order": "image_first",
        "model__layout__image_range": [0, 1],
        "diffusion__target": "eps",
        "diffusion__variance": "learned_range",
        "data__modalities": ["ncct"],
        "init_from": str(path),
        "epochs": 1,
    }
    other = tiny_config(phantom_store, **{**settings, "model__layout__image_range": [-1, 1]})
    with pytest.raises(ConfigError, match=r"layout.image_range is \(0.0, 1.0\) there, but \(-1.0,"):
        next(fit(other, tmp_path / "run"))
    assert not (tmp_path / "run").exists()
    validations = list(fit(tiny_config(phantom_store, **settings), tmp_path / "run"))
    assert [v.epoch for v in validations] == [1]
    trained = load(tmp_path / "run", "cpu")
    assert not trained.layout and trained.trained_on and not trained.trained_on.is_all
    assert "perhaps not unseen" in unseen(trained, Store.open(phantom_store))
