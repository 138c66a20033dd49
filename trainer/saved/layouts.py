"""Weights by the names of other programs: which network they are of, and what they are called here.

What names and shapes tell is the network's architecture. What they do not (heads, groups, the order
of the input, what the network predicts) is asked for: trainer/saved/foreign.py.
"""

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor

Weights = Mapping[str, Tensor]


class Found(NamedTuple):
    """A network that weights are of."""

    program: str
    """Whose it is, in words."""
    family: str
    model: dict[str, Any]
    """Settings of `model` that names and shapes tell, by their path below it."""
    in_channels: int
    out_channels: int
    weights: dict[str, Tensor]
    """By the names of the family's network."""
    asked: tuple[str, ...]
    """Settings of `model` on which the output depends and which the weights do not tell."""


class Unknown(ValueError):
    """Weights of a network that none of the families is: why, in a few words."""


def recognize(weights: Weights) -> Found:
    """Find the network that weights are of.

    Raises:
        Unknown: There is none here that computes the same.
    """
    names = weights.keys()
    if wrong := next((n for n in names if weights[n].dim() == 5), None):
        raise Unknown(f"{_shown(weights, wrong)} is a convolution over volumes, and these are 2-D")
    for mark, of in FOREIGN.items():
        if name := next((n for n in names if re.search(mark, n)), None):
            raise Unknown(f"{_shown(weights, name)} is of {of}, which is not here")
    try:
        if {"input_blocks.0.0.weight", "time_embed.0.weight", "out.2.weight"} <= names:
            return _guided(weights)
        if {"conv_in.conv.weight", "time_embed.0.weight", "out.2.conv.weight"} <= names:
            return _monai(weights)
    except Unknown:
        raise
    except (IndexError, ValueError) as error:  # names as there, and others among them
        raise Unknown("its weights are called otherwise than there") from error
    first = ", ".join(_shown(weights, name) for name in list(names)[:3])
    raise Unknown(f"its first weights are {first}")


FOREIGN = {
    r"^hwm\.": "the highway network of MedSegDiff's own version",
    r"^(label_emb|class_embedding)\.": "a network that is told a class",
    r"transformer_blocks\.|^input_blocks\.\d+\.1\.proj_in\.": "a network with cross-attention",
    r"^(ffparser|anch|conv_ffparser|feature_extractor)": "MedSegDiff's own network",
}
"""Names of weights that a layout does not have, and what they belong to."""


def _shown(weights: Weights, name: str) -> str:
    return f"{name} {tuple(weights[name].shape)}"


def _guided(weights: Weights) -> Found:
    """Improved- and guided-diffusion's U-Net."""
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("input_blocks."))
    up, resample = _first_joint(weights)
    # Levels have one stage a residual block, and one more that leads to the next.
    num_res_blocks = up if up is not None else last
    levels = [
        range(first, min(first + num_res_blocks, last + 1))
        for first in range(1, last + 1, num_res_blocks + 1)
    ]
    channels, attention = [], []
    for stages in levels:
        stage = f"input_blocks.{stages[-1]}"
        channels.append(_rows(weights, f"{stage}.0.out_layers.3.weight"))
        attention.append(f"{stage}.1.qkv.weight" in weights)
    sinusoids = weights["time_embed.0.weight"].shape[1]
    first = _rows(weights, "input_blocks.0.0.weight")
    if first != channels[0]:
        raise Unknown(
            f"its first convolution has {first} channels and its first level {channels[0]}"
        )
    film = _rows(weights, "input_blocks.1.0.emb_layers.1.weight") == 2 * channels[0]
    model = {
        "width": channels[0],
        "depth": len(channels),
        "num_res_blocks": num_res_blocks,
        "layout.channels": channels,
        "layout.attention": attention,
        "layout.scale_shift_norm": film,
        "layout.resample": resample,
        "layout.sinusoids": sinusoids,
        "layout.norm_groups": 32,
        "layout.norm_eps": 1e-5,
    }
    renamed = {}
    for name, value in weights.items():
        new = name
        for old, ours in GUIDED_NAMES:
            new = re.sub(old, ours, new)
        # Attention's convolutions over a row of positions are convolutions over a map here.
        renamed[new] = value[..., None] if value.dim() == 3 else value
    return Found(
        "improved-diffusion's U-Net (guided-diffusion's, most forks' of MedSegDiff)",
        "guided_unet",
        model,
        weights["input_blocks.0.0.weight"].shape[1],
        _rows(weights, "out.2.weight"),
        renamed,
        ("layout.num_heads", "layout.attention_order"),
    )


GUIDED_NAMES = (
    (r"\.in_layers\.0\.", ".norm1."),
    (r"\.in_layers\.2\.", ".conv1."),
    (r"\.emb_layers\.1\.", ".time."),
    (r"\.out_layers\.0\.", ".norm2."),
    (r"\.out_layers\.3\.", ".conv2."),
    (r"\.skip_connection\.", ".shortcut."),
    (r"\.proj_out\.", ".out."),
    (r"\.op\.", ".conv."),
    (r"^out\.0\.", "head_norm."),
    (r"^out\.2\.", "head."),
)
"""Names in improved-diffusion's U-Net as patterns, and those of the family guided_unet."""


def _first_joint(weights: Weights) -> tuple[int | None, str]:
    """Return how many residual blocks a level has, None for a single level, and how levels join."""
    joints = {}
    for name in weights:
        if found := re.match(r"output_blocks\.(\d+)\.[12]\.(conv|in_layers)\.", name):
            joints[int(found[1])] = "conv" if found[2] == "conv" else "resblock"
    if joints:
        return min(joints), joints[min(joints)]
    stages = {int(name.split(".")[1]) for name in weights if name.startswith("input_blocks.")}
    gaps = [stage for stage in range(max(stages)) if stage not in stages]
    return (gaps[0] - 1, "pool") if gaps else (None, "conv")


def _monai(weights: Weights) -> Found:
    """MONAI's DiffusionModelUNet, and that of MONAI Generative before it."""
    depth = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("down_blocks."))
    channels, attention, res_blocks = [], [], []
    for level in range(depth):
        block = f"down_blocks.{level}"
        numbers = {
            int(found[1])
            for name in weights
            if (found := re.match(rf"{re.escape(block)}\.resnets\.(\d+)\.", name))
        }
        res_blocks.append(len(numbers))
        channels.append(_rows(weights, f"{block}.resnets.0.conv2.conv.weight"))
        attention.append(any(name.startswith(f"{block}.attentions.") for name in weights))
    by_block = any(re.match(r"down_blocks\.\d+\.downsampler\.norm1\.", name) for name in weights)
    model = {
        "width": channels[0],
        "depth": depth,
        "num_res_blocks": max(res_blocks),
        "layout.channels": channels,
        "layout.attention": attention,
        "layout.res_blocks": res_blocks,
        "layout.resample": "resblock" if by_block else "conv",
    }
    return Found(
        "MONAI's DiffusionModelUNet",
        "monai_unet",
        model,
        weights["conv_in.conv.weight"].shape[1],
        _rows(weights, "out.2.conv.weight"),
        _monai_names(weights),
        ("layout.head_channels", "layout.norm_groups", "layout.norm_eps"),
    )


MONAI_NAMES = (
    (r"\.to_([qkv])\.", r".attn.to_\1."),
    (r"\.attn\.attn\.", ".attn."),
    (r"\.proj_attn\.", ".attn.out_proj."),
    (r"\.upsampler\.conv\.", ".upsampler.postconv."),
    (r"\.conv2\.", ".conv2.1."),
)
"""Names of MONAI's network, of that before MONAI 1.4 too, as patterns, and those here."""


def _monai_names(weights: Weights) -> dict[str, Tensor]:
    renamed: dict[str, Tensor] = {}
    for name, value in weights.items():
        if name.startswith("out.0."):
            renamed[name.replace("out.0.", "head_norm.")] = value
        elif name.startswith("out.2.conv."):
            renamed[name.replace("out.2.conv.", "head.")] = value
        elif found := re.fullmatch(r"(.+\.attn)\.qkv\.(weight|bias)", name):  # use_combined_linear
            for letter, part in zip("qkv", value.chunk(3), strict=True):
                renamed[f"body.{found[1]}.to_{letter}.{found[2]}"] = part
        else:
            for old, ours in MONAI_NAMES:
                name = re.sub(old, ours, name)
            renamed[f"body.{name}"] = value
    attentions = [n.removesuffix("to_v.weight") for n in renamed if n.endswith(".attn.to_v.weight")]
    for name in attentions:  # include_fc False: nothing between the heads and the shortcut
        if f"{name}out_proj.weight" not in renamed:
            value = renamed[f"{name}to_v.weight"]
            renamed[f"{name}out_proj.weight"] = torch.eye(len(value), dtype=value.dtype)
            renamed[f"{name}out_proj.bias"] = value.new_zeros(len(value))
        for letter in "qkv":  # qkv_bias False
            weight = renamed[f"{name}to_{letter}.weight"]
            renamed.setdefault(f"{name}to_{letter}.bias", weight.new_zeros(len(weight)))
    return renamed


def _rows(weights: Weights, name: str) -> int:
    """Return the output channels of a layer.

    Raises:
        Unknown: It is not there.
    """
    if name not in weights:
        raise Unknown(f"it has no {name}")
    return len(weights[name])
