"""The diffusion networks can learn where four tiny lesions are, and sampling finds them."""

import pytest
import torch
from torch import Tensor, nn

from tests.trainer.models.families import build, call
from trainer.config import DiffusionConfig, LossConfig, SamplingConfig
from trainer.diffusion.process import Process
from trainer.diffusion.sampling import sample
from trainer.training.losses import loss_terms


@pytest.mark.parametrize(
    ("family", "target", "dice"),
    [
        pytest.param("medsegdiff_v1", "x_start", 0.9, marks=pytest.mark.nightly),
        pytest.param("medsegdiff_v1", "v", 0.7, marks=pytest.mark.slow),
        pytest.param("medsegdiff_v2", "x_start", 0.9, marks=pytest.mark.slow),
        pytest.param("diffusion_unet", "x_start", 0.9, marks=pytest.mark.nightly),
    ],
)
def test_memorises_four_tiny_lesions(family, target, dice):
    process = Process(DiffusionConfig(target=target))
    loss, sampling = LossConfig(), SamplingConfig(timestep_respacing=10)
    model = build(family=family, in_channels=1, width=8)
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
        condition = model.condition(cond)
        terms = loss_terms(
            model(x_t, t, condition),
            process=process,
            x_start=x_start,
            x_t=x_t,
            noise=noise,
            t=t,
            config=loss,
            segments_directly=False,
            anchor_logits=condition[0] if model.has_anchor else None,
        )
        total = sum(getattr(loss, name) * term.mean() for name, term in terms.items())
        optimizer.zero_grad()
        total.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(total.item())
    assert sum(losses[-10:]) < 0.3 * sum(losses[:10])

    model.eval()
    mask = sample(
        process, lambda x_t, t: call(model, x_t, t, cond), normal(), sampling, lambda i: noise
    )
    predicted, true = mask > 0, x_start > 0
    assert 2 * (predicted & true).sum() / (predicted.sum() + true.sum()) > dice
