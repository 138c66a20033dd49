"""A study file to read and to make wrong."""

from pathlib import Path

import pytest

EXAMPLE = """
study: example
data: {store: prepared/isles24, fold: 1}
train:
  model.family: medsegdiff_v1
space:
  optimizer.lr: {type: float, low: 1e-5, high: 5e-4, log: true}
  batch.effective: {type: categorical, choices: [8, 16, 32, 64]}
  diffusion.target: {type: categorical, choices: [x_start, v, eps]}
  loss.weighting: {type: categorical, choices: [fixed, warm_in]}
  loss.warm_in_fraction: {type: float, low: 0.05, high: 0.1, when: {loss.weighting: [warm_in]}}
objective: {metric: val/dice, mode: max}
sampler: {type: tpe, num_startup_trials: 12}
scheduler: {type: asha, grace_period: 9, max_t: 81, reduction_factor: 3, brackets: 1, smoothing: 3}
trials: {num_trials: 48, gpus_per_trial: 1, cpus_per_trial: 8}
references: [{name: baseline, settings: {optimizer.lr: 1e-4}}]
enqueue: [{batch.effective: 8}]
seed: 3
"""


@pytest.fixture
def example(tmp_path: Path) -> Path:
    path = tmp_path / "example.yaml"
    path.write_text(EXAMPLE)
    return path
