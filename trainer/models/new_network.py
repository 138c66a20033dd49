"""The network that a configuration describes."""

import torch

from trainer.config import TrainConfig
from trainer.data.inputs import InputSpec
from trainer.devices import dtype
from trainer.diffusion.process import Process
from trainer.models import build_model
from trainer.models.fused import use_kernels
from trainer.models.network import Network


def new_network(config: TrainConfig, inputs: InputSpec, device: torch.device) -> Network:
    """Build the configured network with fresh weights from torch's global generator.

    Convolutions of a network in fp32 are computed in it, without TF32, whose 10 bits leave the
    gradient 1e-3 off. Beside bf16's 7 they are enough.

    Raises:
        ConfigError: Its depth does not suit the image size.
    """
    torch.backends.cudnn.allow_tf32 = config.precision != "fp32"
    process = Process(config.diffusion)
    network = build_model(
        config.model,
        in_channels=inputs.num_channels,
        image_size=inputs.image_size,
        mask_channels=process.mask_channels,
        out_channels=1 if config.model.segments_directly else process.output_channels,
        outputs_logits=config.diffusion.target == "x_start",
        gradient_checkpointing=config.gradient_checkpointing,
    )
    last = config.channels_last and network.channels_last
    layout = torch.channels_last if last else torch.contiguous_format
    # torch's types lack the argument.
    network.to(device, dtype(config), memory_format=layout)  # type: ignore[call-overload]
    use_kernels(network, config.norm_kernel and last)
    return network
